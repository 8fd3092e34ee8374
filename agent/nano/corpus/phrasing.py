"""One question, many ways to put it.

A pattern such as `(What is|Explain) a node?` stands for each of its readings; a reading is then roughened the way
people type: without capitals, without the question mark, with a slip of the finger. Answers are never roughened.
"""

import re
from collections.abc import Sequence
from random import Random

from agent.nano.corpus.document import Dialogue, Maker, exchange

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_OPENINGS = (
    "hey, ", "hi, ", "hello, ", "please ", "ok, ", "so, ", "question: ", "quick question: ", "well, ", "and ",
    "tell me, ", "can you tell me, ", "one more thing: ", "Thox, ", "hey thox, ",
)  # fmt: skip
_CLOSINGS = (" please", " thanks", ", please", " I want to know", " thank you")

Topic = tuple[str, str]


def expand(pattern: str, rng: Random) -> str:
    """One reading of the pattern: each `(a|b)` becomes one of its parts, innermost first."""
    while True:
        changed = _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), pattern)
        if changed == pattern:
            return changed
        pattern = changed


def slip(text: str, rng: Random) -> str:
    """The text with one slip of the finger inside a longer word."""
    words = text.split(" ")
    places = [index for index, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    word = words[at]
    cut = rng.randrange(1, len(word) - 2)
    match rng.randrange(3):
        case 0:
            word = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        case 1:
            word = word[:cut] + word[cut + 1 :]
        case _:
            word = word[:cut] + word[cut] + word[cut:]
    words[at] = word
    return " ".join(words)


def roughen(text: str, rng: Random) -> str:
    """The text as somebody may have typed it."""
    if rng.random() < 0.12:
        opening = rng.choice(_OPENINGS)
        text = opening + text[:1].lower() + text[1:] if text[:2] != "I " else opening + text
        if rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
    if rng.random() < 0.05 and text[-1:] in "?.":
        text = text[:-1] + rng.choice(_CLOSINGS) + text[-1]
    if rng.random() < 0.3:
        text = text.lower()
    if rng.random() < 0.25:
        text = text.rstrip("?.!")
    if rng.random() < 0.10:
        text = slip(text, rng)
    return text


def ask(pattern: str, rng: Random) -> str:
    """One roughened reading of a question."""
    return roughen(expand(pattern, rng), rng)


def answered(topic: Topic, rng: Random) -> Dialogue:
    """A topic as one exchange."""
    question, answer = topic
    return exchange(ask(question, rng), expand(answer, rng))


def maker(topics: Sequence[Topic]) -> Maker:
    """A maker that picks among topics evenly."""

    def make(rng: Random) -> Dialogue:
        return answered(rng.choice(topics), rng)

    return make
