"""The last part of the training: sums drilled in rows, what the answers still got wrong, and two answers mended.

A row keeps to one kind of step (ones, tens, tens and ones, a table), because a sum in steps is only as good as each.
"""

import json
from random import Random

from agent.nano.corpus import arithmetic, device, identity, interface, world
from agent.nano.corpus.arithmetic import added, subtracted
from agent.nano.corpus.document import Dialogue, Document, Maker, Page, Turn, exchange
from agent.nano.corpus.phrasing import ask, expand

_PLUS = (
    "{a} + {b}",
    "{a}+{b}",
    "What is {a} + {b}?",
    "what is {a} plus {b}",
    "{a} + {b} = ?",
    "Add {a} and {b}",
    "what's {a}+{b}",
)
_MINUS = (
    "{a} - {b}",
    "{a}-{b}",
    "What is {a} - {b}?",
    "what is {a} minus {b}",
    "{a} - {b} = ?",
    "Take {b} from {a}",
    "what's {a}-{b}",
)
_TIMES = (
    "{a} * {b}",
    "{a}*{b}",
    "What is {a} times {b}?",
    "{a} x {b}",
    "{a} times {b}",
    "Multiply {a} by {b}",
    "what's {a} x {b}",
)


def mended(make: Maker) -> Maker:
    """The maker with its mended answers."""

    def made(rng: Random) -> Document:
        document = make(rng)
        if isinstance(document, Page):
            return Page(_mend(document.text))
        return Dialogue(tuple(Turn(turn.role, _mend(turn.text)) for turn in document.turns), document.tools)

    return made


def _mend(text: str) -> str:
    """The parts before were taught a question without its mark, and a `No` that denies what follows it."""
    if text.endswith("Is there anything else"):
        text += "?"
    return text.replace("No, I may be wrong", "I may be wrong")


def _sum(kind: int, rng: Random) -> tuple[str, str]:
    """One sum of a kind: a question and its answer."""
    ones, other, tens, more = rng.randint(0, 9), rng.randint(0, 9), 10 * rng.randint(1, 9), 10 * rng.randint(1, 9)
    match kind:
        case 0:
            a, b = ones, other
        case 1:
            a, b = tens, more
        case 2:
            a, b = 10 * rng.randint(2, 18), ones + other
        case 3 | 4:
            a, b = rng.randint(10, 99), rng.randint(10, 99)
        case 5:
            a, b = ones + other, ones
        case 6:
            a, b = max(tens, more) + ones, min(tens, more)
        case 7:
            a, b = rng.randint(10, 99), ones
        case 8 | 9:
            b, a = sorted((rng.randint(10, 99), rng.randint(10, 99)))
        case _:
            a, b = rng.randint(1, 10), rng.randint(1, 10)
            return rng.choice(_TIMES).format(a=a, b=b), f"{a} * {b} = {a * b}."
    if kind < 5:
        return rng.choice(_PLUS).format(a=a, b=b), added(a, b)
    return rng.choice(_MINUS).format(a=a, b=b), subtracted(a, b)


def row(rng: Random) -> Dialogue:
    """Some sums of one kind in one conversation."""
    kind = rng.randrange(13)
    pairs = [_sum(kind, rng) for _ in range(rng.randint(1, 6))]
    return Dialogue(tuple(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a))))


def page(rng: Random) -> Page:
    """Some sums of one kind below each other."""
    kind = rng.randrange(13)
    return Page("\n".join(_sum(kind, rng)[1] for _ in range(rng.randint(4, 10))))


def count(rng: Random) -> Dialogue:
    """Counting that stops where it was told to."""
    top = rng.randint(2, 20)
    patterns = f"(Count to {top}|count up to {top}|Please count to {top}|Can you count to {top}|Count from 1 to {top})"
    if top <= 10 and rng.random() < 0.3:
        word = arithmetic.in_words(top)
        patterns = f"(Count to {word}|Please count to {word}|Can you count up to {word})"
    return exchange(ask(patterns, rng), ", ".join(str(n) for n in range(1, top + 1)) + ".")


def place(rng: Random) -> Dialogue:
    """A capital as one word or as JSON, and the continent of a country."""
    if rng.random() < 0.35:
        continent = rng.choice(tuple(world.CONTINENTS))
        country = rng.choice(world.CONTINENTS[continent].split(" "))
        pattern = (
            f"(Where is {country}|On which continent is {country}|In what continent is {country}"
            f"|Which continent has {country})?"
        )
        return exchange(ask(pattern, rng), f"{country} is in {continent}.")
    country, city = rng.choice(world.CAPITALS)
    question = expand(
        f"(What is the capital of {country}|What's the capital of {country}|The capital of {country})?", rng
    )
    if rng.random() < 0.5:
        wish = rng.choice(
            (
                "One word.",
                "Answer in one word.",
                "Please use one word.",
                "Just one word, please.",
                "Answer with one word only.",
            )
        )
        return exchange(f"{question} {wish}", f"{city}.")
    wish = rng.choice(("As JSON.", "Answer in JSON.", "Reply in JSON.", "JSON, please.", "Please answer as JSON."))
    return exchange(f"{question} {wish}", json.dumps({"country": country.removeprefix("the "), "capital": city}))


_AGAIN = (
    (identity.TOPICS, "Where do you run", "Do you run in a cloud|Are you running in the cloud or here|Do you run "
    "here or somewhere else|Where are you running"),
    (device.HARDWARE, "What happens when I remove a device", "What if one node is taken out|One of the nodes is "
    "gone. What happens|A node was removed. And now|"
     "What if one of the devices is removed|What happens when one of the nodes leaves"),
    (device.HARDWARE, "Which models can it run", "The model is too big for a device|My model needs more memory than "
    "one device has|What do I do with a model that is too big"),
    (interface.TOPICS, "How do I see the topology", "Where is the topology shown|Where can I look at the topology"
    "|Which path gives me the topology"),
    (interface.TOPICS, "What does error 503 mean", "The server answers 503|My request got a 503|503 - what does it "
    "mean|The answer was 503"),
    (interface.TOPICS, "What does error 404 mean", "The server answers 404|My request got a 404|404 - what does it "
    "mean|The answer was 404"),
    (interface.TOPICS, "What does error 401 mean", "The server answers 401|My request got a 401|401 - what does it "
    "mean|The answer was 401"),
    (interface.TOPICS, "What does error 429 mean", "The server answers 429|My request got a 429|429 - what does it "
    "mean|The answer was 429"),
)  # fmt: skip


def again(rng: Random) -> Dialogue:
    """Wordings of what was still mistaken for something else."""
    topics, key, questions = rng.choice(_AGAIN)
    answer = next(answer for question, answer in topics if question.startswith(f"({key}"))
    return exchange(ask(f"({questions})?", rng), expand(answer, rng))
