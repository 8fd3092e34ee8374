"""Every family of encoders, on both forms, against transformers and sentence-transformers on the same files."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from encoder_models import FAMILIES, encoder, with_modules
from encoders import FORMS

from agent.engine.base import EmbedRequest, Floats
from agent.engine.encoder import EncoderEngine
from agent.engine.encoder_input import longest_first
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.tokenizer import Tokenizer
from agent.engine.weights import Checkpoint
from agent.errors import ModelError, RequestError

TEXTS = (
    "A magnet closes and the stack grows by one.",
    "temperature",
    "Das Gerät antwortet auf zwei Ports, wörtlich: ein Ünding 🦊",
    "The quick brown fox jumps over the lazy dog.",
)
LONG = "the quick brown fox jumps over the lazy dog. " * 12


@functools.cache
def opened(form: str, folder: Path) -> EncoderEngine:
    spec = EncoderSpec.from_folder(folder)
    weights = EncoderWeights.read(spec, Checkpoint.open(folder))
    tokenizer = Tokenizer.load(folder, spec.vocab_size)
    return EncoderEngine("small", spec, FORMS[form](spec, weights, threads=2), tokenizer, head=weights.head)


def oracle_states(folder: Path, text: str) -> Floats:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states: Floats = model(**_kept(tokenizer(text, return_tensors="pt"), folder)).last_hidden_state[0].numpy()
    return states


def _kept(tokens: dict[str, torch.Tensor], folder: Path) -> dict[str, torch.Tensor]:
    """RoBERTa and ModernBERT know no token types."""
    types = json.loads((folder / "config.json").read_text())["architectures"][0].startswith("Bert")
    return {key: value for key, value in tokens.items() if types or key != "token_type_ids"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_of_every_family_equal_those_of_transformers(family: str, form: str) -> None:
    folder = encoder(family)
    texts = (*TEXTS, "the fox jumps over the dog. " * 2)
    vectors = opened(form, folder).embed(EmbedRequest("r", texts)).vectors
    for text, vector in zip(texts, vectors, strict=True):
        mean = oracle_states(folder, text).mean(axis=0)
        assert float(np.abs(vector - mean / np.linalg.norm(mean)).max()) < 1e-5, text  # the promise is 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_every_family_equal_those_of_transformers_token_types_and_all(family: str, form: str) -> None:
    folder = encoder(family, ranks=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    query, documents = TEXTS[0], (*TEXTS, LONG)
    found = opened(form, folder).embed(EmbedRequest("r", documents, query=query, truncate=True)).vectors
    assert found.shape == (len(documents), 1) and opened(form, folder).status().kind == "reranker"
    for document, score in zip(documents, found[:, 0], strict=True):
        tokens = tokenizer(
            query, document, truncation="longest_first", max_length=96, return_tensors="pt", return_token_type_ids=True
        )
        with torch.no_grad():
            expected = torch.sigmoid(model(**_kept(tokens, folder)).logits[0, 0])
        assert abs(float(expected) - float(score)) < 1e-5, document


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_more_short_texts_than_fit_beside_one_another_are_as_each_alone(family: str, form: str) -> None:
    engine = opened(form, encoder(family))
    alone = engine.embed(EmbedRequest("r", ("temperature",))).vectors[0]
    together = engine.embed(EmbedRequest("r", ("temperature",) * 100)).vectors
    assert float(np.abs(together - alone).max()) < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "lasttoken"])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_folder_is_read_as_sentence_transformers_reads_it(form: str, pooling: str, normalised: bool) -> None:
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "query: ", "passage": "passage: ", "plain": ""}
    folder = with_modules(
        encoder("xlm_roberta"), pooling, normalised=normalised, prompts=prompts, default_prompt_name="passage"
    )
    oracle = SentenceTransformer(str(folder), device="cpu")
    engine = opened(form, folder)
    texts = (*TEXTS, LONG)
    for name in (None, "query", "plain"):
        expected = oracle.encode(list(texts), prompt_name=name)
        request = EmbedRequest("r", texts, prompt_name=name, truncate=True, normalise=False)
        assert float(np.abs(engine.embed(request).vectors - expected).max()) < 1e-4 * np.abs(expected).max(), name
    as_query = engine.embed(EmbedRequest("r", texts[:1], input_type="search_query", normalise=False)).vectors
    expected = oracle.encode_query([texts[0]])
    assert float(np.abs(as_query - expected).max()) < 1e-4 * np.abs(expected).max()
    unit = engine.embed(EmbedRequest("r", TEXTS, truncate=True)).vectors
    assert np.allclose(np.linalg.norm(unit, axis=1), 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_may_be_left_out_of_the_mean(form: str) -> None:
    from sentence_transformers import SentenceTransformer

    folder = with_modules(
        encoder("bert"), "mean_tokens", normalised=False, include_prompt=False, prompts={"query": "the device: "}
    )
    expected = SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS), prompt_name="query")
    request = EmbedRequest("r", TEXTS, prompt_name="query", normalise=False)
    assert float(np.abs(opened(form, folder).embed(request).vectors - expected).max()) < 1e-4 * np.abs(expected).max()


def test_input_types_find_the_models_own_prompts_or_none() -> None:
    prompts = {"search_query": "query: ", "clustering": "cluster: "}
    engine = opened("onnx", with_modules(encoder("bert"), "mean_tokens", normalised=True, prompts=prompts))

    def vector(text: str, **asked: str) -> Floats:
        request = EmbedRequest("r", (text,), prompt_name=asked.get("prompt_name"), input_type=asked.get("input_type"))
        found: Floats = engine.embed(request).vectors[0]
        return found

    assert np.array_equal(vector("fox", input_type="query"), vector("query: fox"))
    assert np.array_equal(vector("fox", input_type="clustering"), vector("cluster: fox"))
    assert np.array_equal(vector("fox", input_type="document"), vector("fox"))
    with pytest.raises(RequestError, match="no prompt 'sts'") as caught:
        vector("fox", prompt_name="sts")
    assert caught.value.hint == "Its prompts: search_query, clustering."


def test_256_texts_of_all_lengths_are_one_request() -> None:
    engine = opened("onnx", encoder("bert"))
    texts = tuple("fox " * (index % 37 + 1) for index in range(256))
    together = engine.embed(EmbedRequest("r", texts))
    assert together.vectors.shape == (256, 48)
    some = engine.embed(EmbedRequest("r", texts[250:]))
    assert float(np.abs(together.vectors[250:] - some.vectors).max()) < 1e-6


@pytest.mark.parametrize(("family", "special"), [("bert", "[SEP]"), ("xlm_roberta", "</s>")])
def test_the_text_of_a_special_token_is_text(family: str, special: str) -> None:
    engine = opened("onnx", encoder(family))
    tokenizer = Tokenizer.load(encoder(family), 200)
    ids = tokenizer.encode(special)
    marked = engine.embed(EmbedRequest("r", (f"fox {special} dog",)))
    assert marked.tokens > engine.embed(EmbedRequest("r", ("fox dog",))).tokens + 1
    assert len(ids) == 3  # what it would be to transformers


@pytest.mark.parametrize("sizes", [(3, 9, 8), (9, 3, 8), (9, 9, 8), (9, 9, 7), (2, 3, 8), (0, 9, 4), (5, 1, 0)])
def test_pairs_are_cut_as_the_tokenizers_library_cuts_them(sizes: tuple[int, int, int]) -> None:
    first, second, room = sizes
    kept = longest_first(first, second, room)
    assert sum(kept) == min(room, first + second)
    if room:
        tokenizer = transformers.AutoTokenizer.from_pretrained(encoder("xlm_roberta"))
        pair = tokenizer("fox " * first, "dog " * second, truncation="longest_first", max_length=room + 4)
        whole = [
            len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("fox " * first, "dog " * second)
        ]
        sequences = pair.sequence_ids()
        assert (sequences.count(0), sequences.count(1)) == longest_first(whole[0], whole[1], room)


def test_models_with_several_classes_are_refused(tmp_path: Path) -> None:
    config = json.loads((encoder("bert", ranks=True) / "config.json").read_text())
    for wrong in ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {"id2label": None}):
        with pytest.raises(ModelError, match="classes"):
            EncoderSpec.from_config({**config, **wrong})


def test_each_kind_of_encoder_says_what_it_is_not_for() -> None:
    with pytest.raises(RequestError, match="does not rank"):
        opened("onnx", encoder("bert")).embed(EmbedRequest("r", ("a",), query="b"))
    with pytest.raises(RequestError, match="makes no vectors") as caught:
        opened("onnx", encoder("bert", ranks=True)).embed(EmbedRequest("r", ("a",)))
    assert caught.value.hint is not None and "/v1/rerank" in caught.value.hint


def test_a_pair_that_is_too_long_is_refused_when_it_may_not_be_cut() -> None:
    engine = opened("onnx", encoder("bert", ranks=True))
    with pytest.raises(RequestError, match="reads at most 96") as caught:
        engine.embed(EmbedRequest("r", (LONG,), query="fox"))
    assert caught.value.param == "documents"
