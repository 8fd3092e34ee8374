"""Tool calls: which tool to call with what, and how to put its result into a sentence."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from agent.nano.corpus.document import Dialogue, Turn
from agent.nano.corpus.phrasing import answered, ask
from agent.nano.corpus.smalltalk import FIRST_NAMES, TOPICS
from agent.nano.corpus.world import CAPITALS

_CITIES = (
    *dict.fromkeys(city for _, city in CAPITALS),
    "New York",
    "Munich",
    "Hamburg",
    "Milan",
    "Barcelona",
    "Boston",
    "Chicago",
    "Sydney",
)
_ROOMS = ("kitchen", "bedroom", "bathroom", "living room", "garage", "garden", "office", "hall")
_SKIES = ("sunny", "cloudy", "rainy", "windy", "clear", "foggy", "snowy")


@dataclass(frozen=True)
class Use:
    """One use of a tool: the question, the arguments, what the tool returned, and the sentence made of it."""

    question: str
    arguments: dict[str, Any]
    result: str
    answer: str


@dataclass(frozen=True)
class Kind:
    """A tool under several names, and how it is used."""

    names: tuple[str, ...]
    describes: tuple[str, ...]
    properties: dict[str, dict[str, Any]]
    use: Callable[[Random], Use]


def _weather(rng: Random) -> Use:
    city, sky, degrees = rng.choice(_CITIES), rng.choice(_SKIES), rng.randint(-5, 35)
    pattern = (
        "(What is the weather in {c}|What's the weather in {c}|How is the weather in {c}|Weather in {c}|Tell me the "
        "weather in {c}"
        "|What is the weather like in {c}|What's the weather like in {c} today|Is it cold in {c}|What is the "
        "weather in {c} today)?"
    )
    result = rng.choice((
        json.dumps({"city": city, "temperature": degrees, "condition": sky}), json.dumps({"temperature": degrees,
        "condition": sky}),
        json.dumps({"temperature_c": degrees, "sky": sky}), f"{degrees} degrees and {sky}", f"{sky}, {degrees} degrees",
    ))  # fmt: skip
    return Use(
        ask(pattern.replace("{c}", city), rng),
        {"city": city},
        result,
        f"In {city} it is {sky}, with {degrees} degrees.",
    )


def _location(rng: Random) -> Use:
    use = _weather(rng)
    return Use(use.question, {"location": use.arguments["city"]}, use.result, use.answer)


def _time(rng: Random) -> Use:
    city, clock = rng.choice(_CITIES), f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    pattern = (
        "(What time is it in {c}|What's the time in {c}|Tell me the time in {c}|Time in {c}|How late is it in {c})?"
    )
    result = rng.choice((json.dumps({"time": clock}), clock, json.dumps({"city": city, "time": clock})))
    return Use(ask(pattern.replace("{c}", city), rng), {"city": city}, result, f"In {city} it is {clock}.")


def _add(rng: Random) -> Use:
    a, b = rng.randint(1, 999), rng.randint(1, 999)
    pattern = (
        "(What is {a} + {b}|What is {a} plus {b}|Add {a} and {b}|How much is {a} + {b}|Calculate {a} + {b}"
        "|Use the calculator to add {a} and {b})?"
    )
    result = rng.choice((json.dumps({"result": a + b}), str(a + b), json.dumps({"sum": a + b})))
    return Use(
        ask(pattern.replace("{a}", str(a)).replace("{b}", str(b)), rng),
        {"a": a, "b": b},
        result,
        f"{a} + {b} = {a + b}.",
    )


def _light(rng: Random) -> Use:
    room = rng.choice(_ROOMS)
    pattern = (
        "(Turn on the light in the {r}|Switch on the light in the {r}|Turn the {r} light on|Light on in the {r}"
        "|Please turn on the {r} light)(.|)"
    )
    result = rng.choice(('{"ok": true}', '{"status": "on"}', "done", "ok"))
    return Use(ask(pattern.replace("{r}", room), rng), {"room": room}, result, f"The light in the {room} is on.")


def _message(rng: Random) -> Use:
    name, text = (
        rng.choice(FIRST_NAMES),
        rng.choice(
            ("hello", "I am late", "see you soon", "good morning", "call me", "I am home", "thank you", "yes", "no")
        ),
    )
    pattern = f"(Send {name} the message|Tell {name}|Write to {name}|Send a message to {name}): {text}"
    return Use(
        ask(pattern, rng),
        {"to": name, "text": text},
        rng.choice(('{"sent": true}', "sent", "ok")),
        f"I have sent the message to {name}.",
    )


def _health(rng: Random) -> Use:
    degrees = rng.randint(30, 80)
    question = ask(
        "(How warm is the device|What is the temperature of the device|Is the device healthy|How is the "
        "device|Check the health of the device)?",
        rng,
    )
    return Use(
        question, {}, json.dumps({"status": "ok", "temperature_c": degrees}), f"The device is ok, at {degrees} degrees."
    )


_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_INTEGER = {"type": "integer"}
KINDS = (
    Kind(("get_weather", "weather", "get_current_weather"), ("Get the weather of a city", "Get the current weather",
    "Current weather in a city"),
         {"city": _TEXT}, _weather),
    Kind(("get_weather", "get_current_weather"), ("Get the weather at a location", "Get the current weather"),
    {"location": _TEXT}, _location),
    Kind(("get_time", "current_time", "get_current_time"), ("Get the time in a city", "Get the current time"),
    {"city": _TEXT}, _time),
    Kind(("add", "calculator_add", "add_numbers"), ("Add two numbers", "Adds two numbers"), {"a": _NUMBER,
    "b": _NUMBER}, _add),
    Kind(("add", "sum_numbers"), ("Add two integers", "The sum of two integers"), {"a": _INTEGER, "b": _INTEGER}, _add),
    Kind(("turn_on_light", "light_on", "switch_on_light"), ("Turn on the light in a room", "Switch on a light"),
    {"room": _TEXT}, _light),
    Kind(("send_message", "message"), ("Send a message to a person", "Send a message"), {"to": _TEXT, "text": _TEXT},
    _message),
    Kind(("get_health", "device_health"), ("Get the health of the device", "Read the state of the device"), {},
    _health),
)  # fmt: skip


def described(kind: Kind, name: str, rng: Random) -> dict[str, Any]:
    """The tool as a client lists it: key order and the optional fields vary as they do among clients."""
    properties = {key: dict(value) for key, value in kind.properties.items()}
    if rng.random() < 0.2:
        for key, value in properties.items():
            value["description"] = f"The {key}"
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.7:
        parameters["required"] = list(properties)
    function: dict[str, Any] = {"name": name, "description": rng.choice(kind.describes), "parameters": parameters}
    if rng.random() < 0.15:
        del function["description"]
    return {"type": "function", "function": function}


def called(name: str, arguments: dict[str, Any]) -> str:
    """The assistant's turn that calls a tool."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def call(rng: Random) -> Dialogue:
    """A question that one of the listed tools answers, the call, and mostly the result with the final answer."""
    kind = rng.choice(KINDS)
    name = rng.choice(kind.names)
    listed = [described(kind, name, rng)]
    others = [other for other in KINDS if other.use is not kind.use and name not in other.names]
    for other in rng.sample(others, rng.choice((0, 0, 0, 1, 1, 2))):
        listed.append(described(other, rng.choice(other.names), rng))
    rng.shuffle(listed)
    use = kind.use(rng)
    turns = [Turn("user", use.question), Turn("assistant", called(name, use.arguments))]
    draw = rng.random()
    if draw < 0.12:
        small = answered(rng.choice(TOPICS), rng)
        turns = list(small.turns)
    elif draw < 0.8:
        turns += [Turn("user", f"<tool_response>\n{use.result}\n</tool_response>"), Turn("assistant", use.answer)]
    if rng.random() < 0.3:
        turns.insert(
            0, Turn("system", rng.choice(("You are a helpful assistant.", "Use the tools.", "You can use tools.")))
        )
    return Dialogue(tuple(turns), tuple(listed))
