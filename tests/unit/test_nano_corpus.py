"""The training text of the demonstration model: the same from the same seed, and free of what would spoil it."""

from __future__ import annotations

import hashlib
import re
from random import Random

import pytest

from agent.nano.corpus import SETTLED, Dialogue, Document, Page, documents
from agent.nano.corpus.arithmetic import added, in_words, subtracted
from agent.nano.corpus.phrasing import expand, roughen
from agent.nano.layout import SPECIAL_TOKENS
from agent.nano.questions import FRESH, KNOWN


def _texts(document: Document) -> list[str]:
    return [document.text] if isinstance(document, Page) else [turn.text for turn in document.turns]


@pytest.fixture(scope="module")
def made() -> list[Document]:
    return list(documents(2026, 3000, SETTLED))


def _digest(made: list[Document]) -> str:
    return hashlib.sha256("\n".join(map(repr, made)).encode()).hexdigest()


def test_the_corpus_is_the_same_every_time(made: list[Document]) -> None:
    assert _digest(list(documents(2026, 1000, SETTLED))) == _digest(made[:1000])
    assert _digest(list(documents(2027, 100, SETTLED))) != _digest(made[:100])


def test_no_text_holds_a_special_token(made: list[Document]) -> None:
    assert not [text for document in made for text in _texts(document) for token in SPECIAL_TOKENS if token in text]


def test_no_pattern_is_left_unread(made: list[Document]) -> None:
    """A choice or a placeholder in the finished text is a slip in a pattern."""
    slips = re.compile(r"\([^()]*\|[^()]*\)|\{[a-z]?\}(?![,}])")
    found = [
        text for document in made for text in _texts(document) if slips.search(text.replace('"arguments": {}', ""))
    ]
    assert not found[:3]


def test_every_conversation_takes_turns_and_ends_with_an_answer(made: list[Document]) -> None:
    for document in made:
        if isinstance(document, Dialogue):
            roles = [turn.role for turn in document.turns]
            assert roles[roles[0] == "system" :] == ["user", "assistant"] * (len(roles) // 2)
            assert all(turn.text.strip() for turn in document.turns)


def test_the_corpus_is_large_and_mostly_not_repetition(made: list[Document]) -> None:
    assert sum(len(text) for document in made for text in _texts(document)) > 400_000
    assert len(set(map(repr, made))) > 0.8 * len(made)


@pytest.mark.parametrize(
    ("name", "make"), [(name, make) for name, make, _ in SETTLED], ids=[name for name, _, _ in SETTLED]
)
def test_every_kind_makes_the_same_document_from_the_same_number(name: str, make: object) -> None:
    assert callable(make)
    assert [make(Random(n)) for n in range(20)] == [make(Random(n)) for n in range(20)], name


def test_the_questions_that_judge_the_model_are_not_in_its_corpus(made: list[Document]) -> None:
    def bare(text: str) -> str:
        return re.sub(r"[^a-z0-9+*/ -]", "", text.lower()).strip()

    asked = {bare(turn.text) for d in made if isinstance(d, Dialogue) for turn in d.turns if turn.role == "user"}
    assert not [
        question for question, _ in (*KNOWN, *FRESH) if bare(question) in asked and not re.search(r"\d", question)
    ]


def test_sums_are_right_in_every_step() -> None:
    for left in range(100):
        for right in range(100):
            for equation in re.findall(r"(\d+ [+-] \d+) = (\d+)", added(left, right)):
                assert _worth(equation[0]) == int(equation[1])
            for equation in re.findall(r"(\d+ [+-] \d+) = (\d+)", subtracted(max(left, right), min(left, right))):
                assert _worth(equation[0]) == int(equation[1])
    assert added(47, 38) == "40 + 30 = 70, 7 + 8 = 15, 70 + 15 = 85, so 47 + 38 = 85."


def _worth(sum_: str) -> int:
    left, sign, right = sum_.split()
    return int(left) + int(right) if sign == "+" else int(left) - int(right)


def test_numbers_have_words() -> None:
    assert [in_words(n) for n in (0, 13, 20, 42, 100)] == ["zero", "thirteen", "twenty", "forty-two", "one hundred"]


def test_a_pattern_reads_as_each_of_its_choices() -> None:
    assert {expand("(a|b (c|d)) e", Random(n)) for n in range(40)} == {"a e", "b c e", "b d e"}


def test_roughening_keeps_what_cannot_be_spared() -> None:
    assert all("8080" in roughen("Which port is 8080?", Random(n)) for n in range(200))
