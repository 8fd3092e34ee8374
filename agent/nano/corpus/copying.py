"""Answers that must take their words from the question: repeating, names, tool calls with their arguments and results.

A model of this size would rather learn which few names are likely than look them up. So the names here are mostly
invented and hardly ever come twice: nothing but looking them up helps.
"""

import json
import re
from random import Random
from typing import Any

from agent.nano.corpus.document import Dialogue, Turn, exchange
from agent.nano.corpus.smalltalk import FIRST_NAMES
from agent.nano.corpus.tools import KINDS, Use, called, described
from agent.nano.corpus.writing import POEMS, SENTENCES

_TEXTS = " ".join((*SENTENCES.values(), *POEMS.values())).lower()
WORDS: tuple[str, ...] = tuple(sorted(set(re.findall(r"[a-z]{3,}", _TEXTS))))
_STARTS = (*"BCDFGHJKLMNPRSTVWZ", "Br", "Ch", "Dr", "Gr", "Kr", "Sh", "St", "Tr")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "oo")
_MIDDLES = ("l", "m", "n", "r", "s", "t", "v", "d", "nd", "rt", "st", "ll", "rk", "mb")
_ENDS = ("", "n", "s", "r", "l", "na", "ra", "ton", "berg", "ville", "o", "ia", "y", "en")


def invented(rng: Random) -> str:
    """A name that nobody has."""
    return "".join(rng.choice(parts) for parts in (_STARTS, _VOWELS, _MIDDLES, _VOWELS, _ENDS))


def _name(rng: Random) -> str:
    return invented(rng) if rng.random() < 0.7 else rng.choice(FIRST_NAMES)


def words(rng: Random) -> Dialogue:
    """Repeat some words that belong together in no way."""
    chosen = [rng.choice(WORDS) if rng.random() < 0.7 else invented(rng) for _ in range(rng.randint(1, 9))]
    text = " ".join(chosen)
    pattern = rng.choice((
        "Repeat after me: {}", "Repeat: {}", "Say {}", "Say: {}", "Please say {}", "Please repeat: {}", "Echo {}",
        "Say it again: {}", "Now say {}",
        'Say "{}"', "Repeat this: {}", "Can you say {}?", "Answer with {}", "Reply with {}",
    ))  # fmt: skip
    return exchange(pattern.format(text), text[0].upper() + text[1:] + ".")


def names(rng: Random) -> Dialogue:
    """A name given by the user or by the system prompt, asked for at once or later."""
    name = _name(rng)
    asked = rng.choice(
        (
            "What is my name?",
            "Who am I?",
            "what is my name",
            "Do you know my name?",
            "What's my name?",
            "Do you remember my name?",
        )
    )
    if rng.random() < 0.4:
        system = rng.choice(
            (
                "You are {}.",
                "Your name is {}.",
                "You are {}, a helpful assistant.",
                "You are an assistant called {}.",
                "You are called {}.",
            )
        )
        question = rng.choice(
            (
                "What is your name?",
                "Who are you?",
                "what's your name",
                "who are you",
                "What are you called?",
                "Tell me your name.",
            )
        )
        turns = (Turn("system", system.format(name)), Turn("user", question), Turn("assistant", f"My name is {name}."))
        return Dialogue(turns)
    given = rng.choice(
        (
            "My name is {}.",
            "I am {}.",
            "I'm {}.",
            "Hello, my name is {}.",
            "Hi, I am {}.",
            "my name is {}",
            "Call me {}.",
        )
    )
    first = (Turn("user", given.format(name)), Turn("assistant", f"Nice to meet you, {name}! How can I help you?"))
    between = words(rng).turns if rng.random() < 0.3 else ()
    return Dialogue((*first, *between, Turn("user", asked), Turn("assistant", f"Your name is {name}.")))


_VERBS = ("get", "fetch", "read", "show", "find", "call", "run", "do", "ask", "my", "use", "device", "home", "live")
_NOUNS = {
    "weather": ("weather", "current_weather", "forecast", "weather_now", "city_weather"), "time": ("time", "clock",
    "local_time", "current_time"),
    "add": ("sum", "addition", "add", "plus", "calculator"), "light": ("light", "lamp", "light_on", "turn_on_light",
    "room_light"),
    "message": ("message", "text", "send", "note", "mail"), "health": ("health", "state", "status", "temperature"),
}  # fmt: skip


def _renamed(given: tuple[str, ...], rng: Random) -> str:
    if rng.random() < 0.35:
        return rng.choice(given)
    nouns = next((nouns for key, nouns in _NOUNS.items() if any(key in name for name in given)), ("tool",))
    return f"{rng.choice(_VERBS)}_{rng.choice(nouns)}" if rng.random() < 0.8 else rng.choice(nouns)


def _with_new_values(use: Use, rng: Random) -> Use:
    """The use with an invented name in place of a known one, everywhere it stands."""
    changes: dict[str, str] = {}
    for key, value in use.arguments.items():
        if isinstance(value, str) and value in use.question and rng.random() < 0.75:
            changes[value] = _new_value(key, rng)
    if not changes:
        return use

    def changed(text: str) -> str:
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    arguments: dict[str, Any] = {k: changes.get(v, v) if isinstance(v, str) else v for k, v in use.arguments.items()}
    return Use(changed(use.question), arguments, changed(use.result), changed(use.answer))


def _new_value(key: str, rng: Random) -> str:
    if key == "text":
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4)))
    if key == "room":
        return rng.choice(WORDS) if rng.random() < 0.6 else rng.choice(WORDS) + " room"
    return invented(rng)


def call(rng: Random) -> Dialogue:
    """A tool call whose tool and arguments stand in the prompt and can be known from nowhere else."""
    kind = rng.choice(KINDS)
    name = _renamed(kind.names, rng)
    listed = [described(kind, name, rng)]
    others = [other for other in KINDS if other.use is not kind.use]
    for other in rng.sample(others, rng.choice((0, 0, 1, 1))):
        listed.append(described(other, _renamed(other.names, rng), rng))
    rng.shuffle(listed)
    use = _with_new_values(kind.use(rng), rng)
    turns = [Turn("user", use.question), Turn("assistant", called(name, use.arguments))]
    if rng.random() < 0.6:
        turns += [Turn("user", f"<tool_response>\n{use.result}\n</tool_response>"), Turn("assistant", use.answer)]
    elif rng.random() < 0.2:
        greeting = rng.choice(
            (
                ("Hello", "Hello! How can I help you?"),
                ("Hi", "Hello! How can I help you?"),
                ("Thanks", "You are welcome!"),
            )
        )
        turns = [Turn("user", greeting[0]), Turn("assistant", greeting[1])]
    return Dialogue(tuple(turns), tuple(listed))


def person(rng: Random) -> Dialogue:
    """Something said about somebody, put into JSON or asked back."""
    name, age = _name(rng), rng.randint(2, 99)
    told = rng.choice(("{} is {} years old.", "{} is {}.", "My friend {} is {} years old.")).format(name, age)
    if rng.random() < 0.5:
        wish = rng.choice(("Answer in JSON.", "As JSON.", "Reply in JSON.", "JSON, please."))
        return exchange(f"{told} {wish}", json.dumps({"name": name, "age": age}))
    return exchange(f"{told} How old is {name}?", f"{name} is {age} years old.")
