"""The training text of thox-nano, made from a seed: the same seed gives the same documents, everywhere.

Every kind of document has a maker and a share. All text is written in these modules or put together by them; nothing is
taken from outside the project.
"""

from collections.abc import Iterator, Sequence
from random import Random

from agent.nano.corpus import (
    arithmetic,
    copying,
    device,
    drills,
    identity,
    interface,
    plain,
    smalltalk,
    tools,
    wordings,
    world,
    writing,
)
from agent.nano.corpus.document import Dialogue, Document, Maker, Page, Turn

__all__ = [
    "COPIED",
    "DRILLED",
    "KINDS",
    "SETTLED",
    "SHARPENED",
    "WIDENED",
    "Dialogue",
    "Document",
    "Kinds",
    "Page",
    "Turn",
    "documents",
]

Kinds = tuple[tuple[str, Maker, float], ...]

# Kind, maker, share. Shares are relative; the device and its API weigh most, since they are what the model is for.
KINDS: Kinds = (
    ("identity", identity.identity, 6.0),
    ("unknown", identity.unknown, 6.0),
    ("device words", device.word, 10.0),
    ("hardware", device.hardware, 8.0),
    ("api", interface.interface, 11.0),
    ("api paths", interface.path, 2.0),
    ("small talk", smalltalk.talk, 7.0),
    ("jokes", smalltalk.joke, 1.0),
    ("echo", smalltalk.echo, 3.0),
    ("names", smalltalk.introduced, 2.0),
    ("no name", smalltalk.nameless, 0.5),
    ("favourites", smalltalk.remembered, 1.0),
    ("system prompts", smalltalk.named_by_system, 2.0),
    ("addition", arithmetic.plus, 8.0),
    ("subtraction", arithmetic.minus, 5.0),
    ("multiplication", arithmetic.times, 4.0),
    ("halves and comparison", arithmetic.halves, 2.0),
    ("sums in a row", arithmetic.series, 1.0),
    ("counting", arithmetic.counting, 2.5),
    ("tables", arithmetic.table, 1.5),
    ("capitals", world.capital, 6.0),
    ("trivia", world.trivia, 6.0),
    ("science", world.science, 6.0),
    ("stories", writing.story, 1.5),
    ("poems", writing.poem, 1.2),
    ("sentences", writing.sentence, 2.0),
    ("one word", writing.one_word, 1.5),
    ("json", writing.as_json, 2.0),
    ("tools", tools.call, 4.0),
    ("pages", plain.page, 8.0),
)
# The second part of the training adds wordings to what the first part teaches.
WIDENED: Kinds = (
    *KINDS,
    ("more wordings", wordings.topics, 18.0),
    ("more wordings of words", wordings.word, 7.0),
    ("more wordings of sums", wordings.sums, 6.0),
    ("more wordings of facts", wordings.fact, 5.0),
    ("more that is unknown", wordings.unknown, 4.0),
    ("more small texts", wordings.write, 4.0),
)
# The last part leans on what takes longest to learn: sums, and answers that must copy from the question.
SHARPENED: Kinds = (
    *WIDENED,
    ("addition again", arithmetic.plus, 7.0),
    ("subtraction again", arithmetic.minus, 6.0),
    ("multiplication again", arithmetic.times, 3.0),
    ("more wordings of sums again", wordings.sums, 5.0),
    ("capitals again", world.capital, 5.0),
    ("more wordings of facts again", wordings.fact, 4.0),
    ("trivia again", world.trivia, 5.0),
    ("echo again", smalltalk.echo, 3.0),
    ("json again", writing.as_json, 1.5),
    ("one word again", writing.one_word, 1.0),
)
DRILLED: Kinds = (
    *((name, drills.mended(make), share) for name, make, share in WIDENED),
    ("rows of sums", drills.row, 45.0),
    ("pages of sums", drills.page, 25.0),
    ("counting again", drills.count, 7.0),
    ("places again", drills.place, 14.0),
    ("mistaken questions again", drills.again, 8.0),
)
COPIED: Kinds = (
    *((name, drills.mended(make), share) for name, make, share in WIDENED),
    ("rows of sums", drills.row, 24.0),
    ("pages of sums", drills.page, 8.0),
    ("counting again", drills.count, 12.0),
    ("places again", drills.place, 10.0),
    ("mistaken questions again", drills.again, 6.0),
    ("repeated words", copying.words, 50.0),
    ("invented names", copying.names, 25.0),
    ("tools under other names", copying.call, 50.0),
    ("persons", copying.person, 10.0),
)
# At the end everything once more, in the shares in which it is asked for.
SETTLED: Kinds = (
    *((name, drills.mended(make), share) for name, make, share in WIDENED),
    ("pages again", drills.mended(plain.page), 25.0),
    ("rows of sums", drills.row, 18.0),
    ("counting again", drills.count, 6.0),
    ("places again", drills.place, 8.0),
    ("mistaken questions again", drills.again, 4.0),
    ("echo again", smalltalk.echo, 8.0),
    ("repeated words", copying.words, 12.0),
    ("invented names", copying.names, 12.0),
    ("tools again", tools.call, 24.0),
    ("tools under other names", copying.call, 12.0),
    ("persons", copying.person, 4.0),
)

_SYSTEM = (
    "You are a helpful assistant.", "You are thox-nano, a small demonstration model.",
    "You are a friendly assistant. Answer briefly.",
    "Be helpful.", "You are the assistant of this device.", "Answer in short sentences.",
    "You are a helpful and polite assistant.",
    "You answer questions about this device.",
)  # fmt: skip


def _chained(rng: Random, makers: Sequence[Maker], shares: Sequence[float]) -> Document:
    """A document: often several dialogues in one conversation, sometimes under a plain system prompt."""
    draw = rng.random()
    parts = 1 if draw < 0.62 else rng.randint(2, 4) if draw < 0.95 else rng.randint(6, 16)
    made = rng.choices(makers, shares)[0](rng)
    if isinstance(made, Page) or made.tools or made.turns[0].role == "system":
        return made
    turns = list(made.turns)
    while parts > 1:
        parts -= 1
        more = rng.choices(makers, shares)[0](rng)
        if isinstance(more, Page) or more.tools or more.turns[0].role == "system":
            continue
        turns.extend(more.turns)
    if rng.random() < 0.15:
        turns.insert(0, Turn("system", rng.choice(_SYSTEM)))
    return Dialogue(tuple(turns))


def documents(seed: int, count: int, kinds: Kinds = KINDS) -> Iterator[Document]:
    """`count` documents in a mixed order."""
    rng = Random(seed)
    makers, shares = [make for _, make, _ in kinds], [share for _, _, share in kinds]
    for _ in range(count):
        yield _chained(rng, makers, shares)
