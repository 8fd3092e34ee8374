"""Checks of the fields that power messages, what goes beside them and the file of the power contract have in common."""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.cluster.power.rules import PRIORITIES

MAX_WATTS = 10_000.0
MAX_COUNT = 2**53 - 1  # what every JSON reader keeps exactly

Check = Callable[[str, object], object]  # the name of a field and what came, to what it means; raises FieldError


class FieldError(ValueError):
    """``field`` is not what it must be; ``why`` says what is needed."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field, self.why = field, why


def number(most: float) -> Callable[[str, object], float]:
    """From 0 to ``most``: no NaN, no infinity, and no integer that is too large for a float."""

    def check(field: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FieldError(field, "a number is needed")
        if not 0 <= value <= most:
            raise FieldError(field, f"a number from 0 to {most:g} is needed")
        return float(value)

    return check


def count(field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise FieldError(field, f"an integer from 0 to {MAX_COUNT} is needed")
    return value


def matching(form: re.Pattern[str], why: str) -> Check:
    """Text that has this form as a whole."""

    def check(field: str, value: object) -> object:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise FieldError(field, why)
        return value

    return check


def flag(field: str, value: object) -> object:
    if not isinstance(value, bool):
        raise FieldError(field, "true or false is needed")
    return value


def priority(field: str, value: object) -> object:
    if not isinstance(value, str) or value not in PRIORITIES:
        raise FieldError(field, f"one of {', '.join(PRIORITIES)} is needed")
    return value


def or_none(check: Check) -> Check:
    return lambda field, value: None if value is None else check(field, value)
