"""What comes from elsewhere is exactly what is needed, or is refused with its place, in an error that can be shown."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.cluster.fields import (
    MAX_COUNT,
    Check,
    FieldError,
    Fields,
    each,
    flag,
    matching,
    number,
    one_of,
    or_none,
    record,
    table,
    text,
    uuid_text,
    whole,
)

UUID = str(uuid.UUID(int=0xABC))


@dataclass(frozen=True)
class Thing:
    name: str
    watts: float | None
    parts: tuple[int, ...]


THING = record(Thing, {"name": text(5), "watts": or_none(number(10.0)), "parts": each(whole(9), 2)})
GOOD = {"name": "lamp", "watts": None, "parts": [1, 2]}


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (number(10.0), True),
        (number(10.0), "1"),
        (number(10.0), float("nan")),
        (number(10.0), float("inf")),
        (number(10.0), -0.1),
        (number(10.0, -1.0), -1.1),
        (number(10.0), 10**400),
        (whole(), True),
        (whole(), 1.0),
        (whole(), -1),
        (whole(), MAX_COUNT + 1),
        (whole(least=1), 0),
        (flag, 1),
        (flag, None),
        (text(3), "four"),
        (text(3), "\x1b["),
        (text(3), 3),
        (matching("a+", "a row of a is needed"), "aab"),
        (matching("a+", "a row of a is needed"), "a\n"),
        (uuid_text, UUID.upper()),
        (uuid_text, "{" + UUID + "}"),
        (uuid_text, 5),
        (one_of(("low", "high")), "middle"),
        (one_of(("low", "high")), ["low"]),
        (or_none(flag), "no"),
        (each(flag, 2), [True] * 3),
        (each(flag, 2), [True, 1]),
        (each(flag, 2), {"0": True}),
        (table(text(3), flag, 1), {"a": True, "b": True}),
        (table(text(3), flag, 1), {"long": True}),
        (table(text(3), flag, 1), {"a": 0}),
        (table(text(3), flag, 1), [["a", True]]),
        (THING, [GOOD]),
        (THING, {**GOOD, "more\n": 1}),
        (THING, {**GOOD, "m" * 500: 1}),
        (THING, {"name": "lamp", "watts": 1}),
        (Fields, []),
    ],
)
def test_what_is_not_exactly_what_is_needed_is_refused(check: Check[object], value: object) -> None:
    with pytest.raises(FieldError) as refused:
        check("here", value)
    said = str(refused.value)
    assert said.startswith(("here", "a name in here")) and said.isprintable() and len(said) < 120


def test_what_is_right_comes_through_as_what_it_means() -> None:
    assert THING("", {**GOOD, "watts": 1}) == Thing("lamp", 1.0, (1, 2))
    assert table(text(3), uuid_text, 1)("", {"a": UUID}) == {"a": UUID}
    fields = Fields("", {"inner": {"level": "low", "unknown": 1}})
    inner = fields("inner", Fields)
    assert inner("level", one_of(("low", "high"))) == "low" and inner("missing", or_none(flag)) is None


def test_an_error_names_the_place_however_deep_it_is() -> None:
    with pytest.raises(FieldError) as refused:
        table(text(9), each(THING, 3), 3)("shelf", {"top": [GOOD, {**GOOD, "parts": [1, -1]}]})
    assert refused.value.place == "shelf.top[1].parts[1]"
    with pytest.raises(FieldError) as refused:
        Fields("", {"inner": {}})("inner", Fields)("name", text(5))
    assert refused.value.place == "inner.name"


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(sorted(GOOD)), inner),
        max_leaves=6,
    )
)
def test_whatever_comes_is_read_or_refused_in_few_printable_words(value: object) -> None:
    for check in (THING, each(THING, 3), table(text(9), THING, 3), or_none(THING)):
        try:
            assert json.dumps(check("it", value), default=vars)
        except FieldError as error:
            assert len(str(error)) < 120 and str(error).isprintable()
