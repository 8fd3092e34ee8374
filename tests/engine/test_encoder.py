"""EncoderEngine over a form that can be looked through: what it asks for, what it refuses, and its turns."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.base import EmbedRequest, Floats, Request, Tokens, Usage
from agent.engine.encoder import EncoderEngine
from agent.engine.encoder_batch import EncoderBatch, batches
from agent.engine.encoder_input import EncoderInput, EncoderIntake
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.tokenizer_frame import Frame
from agent.errors import EngineError, RequestError

SPEC = EncoderSpec.from_config(
    {
        "architectures": ["BertModel"],
        "vocab_size": 300,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
    }
)
OPEN, CLOSE = 256, 257


class BytesTokenizer:
    """One token a byte."""

    def frame(self) -> Frame:
        return Frame(((OPEN,), (CLOSE,)), ((OPEN,), (CLOSE,), (CLOSE,)), 1)

    def encode(self, text: str, special: bool = True) -> Sequence[int]:
        return [OPEN, *text.encode(), CLOSE] if special else list(text.encode())

    def outgrows(self, text: str, most: int) -> bool:
        return len(text) > 8 * most


class OneHotForm:
    """The hidden state of a token: 1 in the dimension that is its id modulo the size, and a little everywhere."""

    def __init__(self) -> None:
        self.batches: list[Tokens] = []
        self.closed = 0
        self.inside = 0

    def run(self, batch: EncoderBatch) -> Floats:
        self.inside += 1
        assert self.inside == 1, "two threads in the forward pass"
        self.batches.append(batch.tokens)
        hidden: Floats = np.eye(8, dtype=np.float32)[batch.tokens % 8] + np.float32(0.125)
        self.inside -= 1
        return hidden

    def close(self) -> None:
        self.closed += 1


class Tally:
    """A Meter that adds up."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.usages: list[Usage] = []

    def step(self, model: str, seconds: float, forward_seconds: float, prompt_tokens: int, new_tokens: int) -> None:
        self.prompt_tokens += prompt_tokens

    def first_token(self, model: str, seconds: float) -> None:
        raise AssertionError("an embedding has no first token")

    def guessed(self, model: str, source: str, proposed: int, accepted: int) -> None:
        raise AssertionError("an embedding guesses nothing")

    def finished(self, model: str, reason: str, usage: Usage) -> None:
        self.usages.append(usage)


def engine(form: OneHotForm | None = None, meter: Tally | None = None) -> EncoderEngine:
    return EncoderEngine("bytes", SPEC, form or OneHotForm(), BytesTokenizer(), fingerprint="fp_1", meter=meter)


def test_short_inputs_share_a_row_nothing_is_padded_and_each_gets_its_own_vector() -> None:
    form = OneHotForm()
    texts = ("abc", "x", "def", "yz", "z")
    embeddings = engine(form).embed(EmbedRequest("r", texts))
    assert [batch.shape for batch in form.batches] == [(1, 5 + 5 + 4 + 3 + 3)]
    assert embeddings.tokens == 5 + 3 + 5 + 4 + 3
    for vector, text in zip(embeddings.vectors, texts, strict=True):
        assert np.array_equal(vector, engine().embed(EmbedRequest("r", (text,))).vectors[0])


def test_places_texts_and_types_begin_anew_with_each_input_of_a_row() -> None:
    row = [EncoderInput((5, 6, 7, 8), second=2), EncoderInput((9, 5), second=1)]
    batch = EncoderBatch.of([row], typed=True)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 5]] and batch.places.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.texts.tolist() == [[0, 0, 0, 0, 1, 1]] and batch.spans == ((0, 0, 4), (0, 4, 6))
    assert batch.types is not None and batch.types.tolist() == [[0, 0, 1, 1, 0, 1]]


def test_long_inputs_of_one_length_are_computed_together_and_a_batch_has_a_bound_in_tokens() -> None:
    assert list(batches([3, 2, 3, 3, 9], most=6, row=4)) == [[[0], [2]], [[3]], [[4]], [[1]]]


@given(lengths=st.lists(st.integers(1, 300), max_size=60))
def test_every_input_is_computed_once_and_rows_of_a_batch_are_alike(lengths: list[int]) -> None:
    made = list(batches(lengths))
    assert sorted(member for rows in made for row in rows for member in row) == list(range(len(lengths)))
    for rows in made:
        sums = [sum(lengths[member] for member in row) for row in rows]
        assert len(set(sums)) == 1 and (sum(sums) <= 4096 or len(rows) == 1)
        assert len(rows) == 1 or all(len(row) == 1 for row in rows)


def test_vectors_have_length_one_also_when_cut() -> None:
    whole = engine().embed(EmbedRequest("r", ("abc",))).vectors
    cut = engine().embed(EmbedRequest("r", ("abc",), dimensions=3)).vectors
    assert whole.shape == (1, 8) and cut.shape == (1, 3)
    assert np.allclose(np.linalg.norm(whole), 1) and np.allclose(np.linalg.norm(cut), 1)
    assert np.allclose(cut[0], whole[0, :3] / np.linalg.norm(whole[0, :3]))


@pytest.mark.parametrize("dimensions", [0, 9])
def test_more_dimensions_than_the_model_has_are_refused(dimensions: int) -> None:
    with pytest.raises(RequestError, match="from 1 to 8") as caught:
        engine().embed(EmbedRequest("r", ("abc",), dimensions=dimensions))
    assert caught.value.param == "dimensions"


def test_token_ids_are_taken_as_they_are() -> None:
    form = OneHotForm()
    by_text = engine(form).embed(EmbedRequest("r", ("ab",))).vectors
    by_tokens = engine(form).embed(EmbedRequest("r", ((OPEN, ord("a"), ord("b"), CLOSE),))).vectors
    assert np.array_equal(form.batches[0], form.batches[1]) and np.array_equal(by_text, by_tokens)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ((), "empty list"),
        (("a", ""), "empty string"),
        (((),), "empty list of tokens"),
        (((1, 300),), "300 is not"),
        (((-1,),), "-1"),
    ],
)
def test_inputs_that_cannot_be_embedded_are_refused(inputs: tuple[str | tuple[int, ...], ...], says: str) -> None:
    form = OneHotForm()
    with pytest.raises(RequestError, match=says) as caught:
        engine(form).embed(EmbedRequest("r", inputs))
    assert caught.value.param == "input" and caught.value.hint and not form.batches


def test_an_input_over_the_limit_is_refused_or_cut_before_its_closing_token() -> None:
    form = OneHotForm()
    text = "abcdefghijklmnop"
    with pytest.raises(RequestError, match="18 tokens; bytes reads at most 16"):
        engine(form).embed(EmbedRequest("r", (text,)))
    cut = engine(form).embed(EmbedRequest("r", (text, tuple(range(20))), truncate=True))
    assert form.batches[0].tolist() == [[OPEN, *text[:14].encode(), CLOSE, *range(16)]]
    assert cut.tokens == 32


def test_a_text_far_over_the_limit_is_refused_or_cut_by_its_beginning() -> None:
    class Watched(BytesTokenizer):
        longest = 0

        def encode(self, text: str, special: bool = True) -> Sequence[int]:
            self.longest = max(self.longest, len(text))
            return super().encode(text, special)

    text = "abcdefghijklmnop" * 1000
    intake = EncoderIntake("bytes", SPEC, watched := Watched())
    with pytest.raises(RequestError, match="far too many tokens; bytes reads at most 16"):
        intake.read(EmbedRequest("r", (text,)))
    assert watched.longest == 0
    (cut,) = intake.read(EmbedRequest("r", (text,), truncate=True))
    assert cut.tokens == (OPEN, *text[:14].encode(), CLOSE) and watched.longest < 2000


def test_it_writes_no_text_and_says_where_to_go() -> None:
    with pytest.raises(RequestError) as caught:
        engine().generate(Request("r", ("hello",)))
    assert caught.value.hint is not None and "/v1/embeddings" in caught.value.hint


def test_status_tells_kind_fingerprint_and_when_it_last_worked() -> None:
    embedder = engine()
    before = embedder.status()
    assert (before.kind, before.model, before.fingerprint, before.context_length) == ("embedding", "bytes", "fp_1", 16)
    assert before.last_token_at is None
    embedder.embed(EmbedRequest("r", ("abc",)))
    after = embedder.status()
    assert after.last_token_at is not None and after.running == 0


def test_a_closed_engine_says_so_and_frees_its_form_once() -> None:
    form = OneHotForm()
    embedder = engine(form)
    embedder.close()
    embedder.close()
    assert form.closed == 1
    with pytest.raises(EngineError, match="unloaded"):
        embedder.embed(EmbedRequest("r", ("abc",)))
    assert embedder.status().running == 0


def test_many_threads_take_turns_and_each_gets_its_own_vectors() -> None:
    meter = Tally()
    embedder = engine(meter=meter)
    texts = [tuple(f"{thread}{index}"[:3] for index in range(20)) for thread in range(6)]
    expected = [engine().embed(EmbedRequest("r", inputs)).vectors for inputs in texts]
    found: list[Floats | None] = [None] * len(texts)

    def work(thread: int) -> None:
        for _ in range(20):
            found[thread] = embedder.embed(EmbedRequest("r", texts[thread])).vectors

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for have, want in zip(found, expected, strict=True):
        assert have is not None and np.array_equal(have, want)
    assert meter.prompt_tokens == sum(usage.prompt for usage in meter.usages) > 0
