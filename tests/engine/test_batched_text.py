"""What becomes of tokens on their way to the client: characters, stop strings, log probabilities, echo, parts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from fakes_engine import GREEDY, Read, ask, engine_over, read
from fakes_runner import FakeRunner, hashed, scripted
from fakes_text import FakeTokenizer

from agent.engine.base import Chat, Grammar, Request, Sampling
from agent.engine.batched import BatchedEngine
from agent.errors import EngineError, RequestError

END = 0


def say(words: list[bytes], sampling: Sampling = GREEDY, *, echo: bool = False) -> Read:
    """What a client gets when the model says these tokens and then its end token."""
    tokenizer = FakeTokenizer({i + 1: word for i, word in enumerate(words)}, eos=frozenset({END}))
    runner = FakeRunner(scripted(64, [*range(1, len(words) + 1), END], prompt=1))
    with engine_over(runner, tokenizer=tokenizer) as engine:
        return read(ask(engine, "_", sampling=replace(sampling, max_tokens=50), echo=echo))


def test_a_stop_string_that_straddles_tokens_ends_the_text_before_it() -> None:
    got = say([b"one ", b"S", b"TO", b"P two", b" three"], replace(GREEDY, stop=("STOP",)))
    assert (got.text, got.finishes[0]) == ("one ", "stop")
    assert got.usage is not None and got.usage.completion == 4, "the model stops where the text does"


def test_what_may_be_a_stop_string_is_held_back_and_given_when_it_is_none() -> None:
    got = say([b"a", b"ST", b"OR", b"E"], replace(GREEDY, stop=("STOP",)))
    assert [delta.text for delta in got.deltas] == ["a", "STOR", "E", ""]
    assert [delta.text for delta in say([b"a", b"STO"], replace(GREEDY, stop=("STOP",))).deltas] == ["a", "STO"]


def test_of_several_stop_strings_the_earliest_wins() -> None:
    got = say([b"x", b"abcd", b"efgh"], replace(GREEDY, stop=("gh", "de", "zz")))
    assert got.text == "xabc"


def test_a_character_over_several_tokens_comes_out_whole() -> None:
    smile = "😀é".encode()
    got = say([b"a", *(smile[i : i + 1] for i in range(6)), b"b"], replace(GREEDY, logprobs=0))
    assert [delta.text for delta in got.deltas] == ["a", "😀", "é", "b", ""]
    assert [len(delta.logprobs) for delta in got.deltas] == [1, 4, 2, 1, 0]
    assert b"".join(token.data for token in got.logprobs[0]).decode() == got.text


def test_half_a_character_at_the_end_is_marked_as_broken() -> None:
    assert say([b"a", b"\xf0\x9f"]).text == "a\ufffd"


def test_a_token_that_is_no_text_makes_no_piece() -> None:
    got = say([b"a", b"", b"", b"b"])
    assert [delta.text for delta in got.deltas] == ["a", "b", ""]


def test_logprobs_go_out_with_their_text_and_those_of_a_stop_string_not_at_all() -> None:
    got = say([b"one", b" t", b"wo", b"S", b"T", b"op"], replace(GREEDY, logprobs=2, stop=("two!", "STop")))
    assert got.text == "one two"
    pieces = [(delta.text, [token.text for token in delta.logprobs]) for delta in got.deltas]
    assert pieces == [("one", ["one"]), (" ", []), ("two", [" t", "wo"]), ("", [])]
    first = got.logprobs[0][0]
    assert first.logprob == pytest.approx(10 - math.log(math.exp(10) + 63), abs=1e-5)
    assert len(first.top) == 2 and first.top[0][:3] == (first.token, "one", b"one")


def test_a_token_that_a_stop_string_cuts_in_two_keeps_its_logprob() -> None:
    got = say([b"one", b" twoST", b"OP"], replace(GREEDY, logprobs=0, stop=("STOP",)))
    assert got.text == "one two"
    assert [token.text for token in got.logprobs[0]] == ["one", " twoST"]


def test_the_end_token_has_no_logprob_and_without_asking_there_are_none() -> None:
    assert [token.text for token in say([b"a"], replace(GREEDY, logprobs=0)).logprobs[0]] == ["a"]
    assert say([b"a"]).logprobs[0] == []


def test_echo_gives_the_prompt_first() -> None:
    got = say([b"a", b"b"], echo=True)
    assert [delta.text for delta in got.deltas] == ["_", "a", "b", ""]


@pytest.mark.parametrize("prefill", [3, 256])
@pytest.mark.parametrize("n", [1, 2])
def test_echo_with_logprobs_scores_the_prompt_itself(prefill: int, n: int) -> None:
    model, prompt = hashed(64), "A PROMPT TO BE SCORED"
    with engine_over(FakeRunner(model), prefill_tokens=prefill) as engine:
        read(ask(engine, prompt))  # its prefix is cached now: the scores must not be lost by that
        got = read(ask(engine, prompt, sampling=replace(GREEDY, logprobs=3, max_tokens=2), echo=True, n=n))
    tokens = [ord(char) - 32 for char in prompt]
    for choice in range(n):
        assert got.texts[choice].startswith(prompt) and len(got.texts[choice]) == len(prompt) + 2
        scores = got.logprobs[choice]
        assert len(scores) == len(prompt) + 2 and scores[0].logprob is None and scores[0].top == ()
        for at in range(1, len(prompt)):
            row = model(tokens[:at]).astype(float)
            due = float(row[tokens[at]] - math.log(sum(math.exp(value) for value in row)))
            assert scores[at].logprob == pytest.approx(due, abs=1e-4)
            assert len(scores[at].top) == 3


def test_echo_without_new_tokens_is_the_prompt_alone() -> None:
    with engine_over(FakeRunner(hashed(64))) as engine:
        got = read(ask(engine, "PROMPT", sampling=replace(GREEDY, logprobs=1, max_tokens=0), echo=True))
        single = read(ask(engine, "P", sampling=replace(GREEDY, logprobs=1, max_tokens=0), echo=True))
        plain = read(ask(engine, (33, 34), sampling=replace(GREEDY, max_tokens=0), echo=True))
    assert (got.text, got.finishes[0], len(got.logprobs[0])) == ("PROMPT", "length", 6)
    assert (single.text, len(single.logprobs[0])) == ("P", 1)
    assert (plain.text, plain.logprobs[0]) == ("AB", [])
    assert got.usage is not None and got.usage.completion == 0


TOOLS = ({"type": "function", "function": {"name": "F"}}, {"type": "function", "function": {"name": "G"}})
CALLS = '<tool_call>{"name": "F", "arguments": {}}</tool_call><tool_call>{"name": "G", "arguments": {}}</tool_call>'
LAST = FakeTokenizer(eos=frozenset({95}))


def chat(engine: BatchedEngine, *, grammar: Grammar | None = None, **options: Any) -> Read:  # noqa: ANN401
    talk = Chat(({"role": "user", "content": "_"},), **options)
    return read(engine.generate(Request("r", (talk,), replace(GREEDY, max_tokens=200), grammar)))


def spoken(text: str) -> FakeRunner:
    """Says the text, a character a token, and then its end token."""
    return FakeRunner(scripted(96, [*(ord(char) - 32 for char in text), 95], prompt=1), vocab_size=96)


def test_a_chat_answer_comes_in_its_parts_and_reasoning_is_counted() -> None:
    with engine_over(spoken("<think>HM</think>YES"), tokenizer=LAST) as engine:
        got = chat(engine)
    assert (got.text, got.reasoning[0], got.finishes[0]) == ("YES", "HM", "stop")
    assert got.usage is not None and got.usage.completion == 21
    assert got.usage.reasoning == len("HM</think>"), "a mark is a token in real vocabularies"


def test_tool_calls_are_given_as_such_and_name_the_end() -> None:
    with engine_over(spoken("OK" + CALLS), tokenizer=LAST) as engine:
        got = chat(engine, tools=TOOLS)
        one = chat(engine, tools=TOOLS, parallel_tool_calls=False)
        plain = chat(engine)
    calls = [call for delta in got.deltas for call in delta.tool_calls]
    assert [call.name for call in calls if call.name] == ["F", "G"]
    assert (got.text, got.finishes[0]) == ("OK", "tool_calls")
    assert [call.name for delta in one.deltas for call in delta.tool_calls if call.name] == ["F"]
    assert one.usage is not None and got.usage is not None and one.usage.completion < got.usage.completion / 2 + 5
    assert one.finishes[0] == "tool_calls"
    assert (plain.text, plain.finishes[0]) == ("OK" + CALLS, "stop")


def test_a_grammar_decides_and_its_end_is_the_answers() -> None:
    with engine_over(FakeRunner(hashed(64)), tokenizer=FakeTokenizer(eos=frozenset({0}))) as engine:
        got = read(engine.generate(Request("r", ("X",), Sampling(max_tokens=40), Grammar("regex", "HELLO"), n=2)))
        assert got.texts == {0: "HELLO", 1: "HELLO"}
        assert got.finishes == {0: "stop", 1: "stop"}
        assert chat(engine, tool_choice="FORCED", grammar=Grammar("regex", "NOT")).text == "FORCED"


def test_a_model_that_computes_no_numbers_breaks_its_own_answer_alone() -> None:
    good = hashed(64)

    def sometimes(tokens: object) -> object:
        row = good(tokens)  # type: ignore[arg-type]
        if tokens[0] == 33:  # type: ignore[index]
            row[5] = math.nan
        return row

    with engine_over(FakeRunner(sometimes)) as engine:  # type: ignore[arg-type]
        other = ask(engine, "BB", sampling=replace(GREEDY, max_tokens=30))
        with pytest.raises(EngineError, match="number"):
            read(ask(engine, "AA"))
        assert len(read(other).text) == 30


def test_a_chat_without_a_template_is_refused() -> None:
    from agent.engine.batched_intake import Intake

    intake = Intake(FakeTokenizer(), None, None, vocab_size=64, limit=100, buffer_bytes=1000)
    with pytest.raises(RequestError, match="template"):
        intake.job(Request("r", (Chat(()),)))
    with pytest.raises(RequestError, match="grammar"):
        intake.job(Request("r", ("A",), grammar=Grammar("json_object")))
