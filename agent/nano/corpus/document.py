"""The values that the corpus is made of: a dialogue with its turns, or a page of plain text."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True)
class Turn:
    """One turn. `role` is system, user or assistant; a tool's result is a user turn, as the chat template writes it."""

    role: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    """Turns in order, the system turn (if any) first, and the tools that the system block lists."""

    turns: tuple[Turn, ...]
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Page:
    """Text outside any dialogue, so that a raw completion has something to go on."""

    text: str


Document = Dialogue | Page
Maker = Callable[[Random], Document]


def exchange(question: str, answer: str) -> Dialogue:
    """The commonest dialogue: one question, one answer."""
    return Dialogue((Turn("user", question), Turn("assistant", answer)))
