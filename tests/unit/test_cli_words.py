"""What the terminal shows of an answer: whole words, and nothing that moves its cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from agent.cli_words import Words, printable


def folded(text: str, width: int, cut: int) -> str:
    words = Words(width)
    return "".join(words.feed(text[at : at + cut]) for at in range(0, len(text), cut)) + words.flush()


@pytest.mark.parametrize("cut", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one two three four", "one two\nthree four"),
        ("one two\nthree four five", "one two\nthree four\nfive"),
        ("  - a list\n    of it", "  - a list\n    of it"),
        ("a  b", "a  b"),
        ("exactly 10 ", "exactly 10"),
        ("a-very-long-word and", "a-very-long-word and"),
        ("so a-very-long-word", "so\na-very-long-word"),
        ("日本語日本語日本語", "日本語日本\n語日本語"),
        ("abc 日本語日本", "abc 日本語\n日本"),
    ],
)
def test_lines_break_between_words_however_the_text_comes(text: str, shown: str, cut: int) -> None:
    assert folded(text, 10, cut).rstrip() == shown


@given(text=st.text("ab \n日", max_size=60), width=st.integers(8, 20), cut=st.integers(1, 7))
def test_nothing_is_lost_but_spaces_at_the_ends_of_lines(text: str, width: int, cut: int) -> None:
    got = folded(text, width, cut)
    assert got.replace(" ", "").replace("\n", "") == text.replace(" ", "").replace("\n", "")
    if all(cell_len(word) <= width for word in text.split()):
        assert all(cell_len(line.strip()) <= width for line in got.split("\n"))


def test_what_no_answer_may_do_to_a_terminal_is_left_out_and_every_script_stays_whole() -> None:
    assert printable("a\x1b[2Jb\x07\r\u202ec") == "a[2Jbc"
    for text in ("10\u00a0000\u202f€ !", "日本\u3000語", "👨\u200d👩\u200d👧", "می\u200cخواهم", "tab\tline\n"):
        assert printable(text) == text
