"""A World: modules that are stacked by hands, fed by supplies, and break. First-class hardware that is not there.

Two sides. Hands: whatever a person, a test or bad luck does (``stack``, ``unplug``, ``heat``, ``fail`` ...). A module's
own side, on which its drivers stand: ``look`` (all its sensors), ``tell`` (all its actuators), events.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable

from hal.base import HardwareError
from hal.world_hands import WorldHands
from hal.world_power import available, contacts, draw, supplied, volts
from hal.world_state import LADDER_W, Json, View, tag_from_json, tag_to_json

DATAGRAM_BYTES = 1200  # what one datagram of the link carries


class World(WorldHands):
    """Thread-safe. Its time is the injected clock's, and passes when it is asked something, or told to ``advance``."""

    # --- looking ----------------------------------------------------------------------------------------------------

    def reaches(self, source: str, target: str) -> bool:
        """Whether what ``source`` sends gets to ``target``."""
        with self.changed:
            self.advance()
            self.state.known(source, target)
            return self.state.reaches(source, target)

    def status(self) -> Json:
        """Everything, for a person or a test."""
        with self.changed:
            self.advance()
            state, now = self.state, self.clock()
            sources = {
                name: {
                    "watts": source.watts,
                    "drawn_w": round(supplied(state, name, now), 3),
                    "volts": round(volts(source, supplied(state, name, now), now), 2),
                    "on": now >= source.off_until,
                }
                for name, source in state.sources.items()
            }
            return {
                "stacks": [list(stack) for stack in state.stacks],
                "modules": {name: {**self._about(name), **self.view(name).to_json()} for name in state.modules},
                "supplies": sources,
                "contacts": [
                    {"lower": lower, "upper": upper, "watts": round(watts, 3), "limit_w": state.contact_w}
                    for lower, upper, watts in contacts(state, now)
                ],
                "cuts": sorted(list(cut) for cut in state.cuts),
                "link": {"loss": state.loss, "delay_s": state.delay_s, "jitter_s": state.jitter_s},
            }

    # --- a module's own side -----------------------------------------------------------------------------------------

    def look(self, name: str, load: float | None = None) -> View:
        """All sensors of a module. ``load``, 0 to 1: how busy its agent is from now on, where that is elsewhere."""
        with self.changed:
            self.advance()
            if load is not None:
                self.state.module(name).told_load = load
                self.advance()
            return self.view(name)

    def view(self, name: str) -> View:
        module, now = self.state.module(name), self.clock()
        capacity = module.capacity_wh
        return View(
            at=now,
            powered=module.powered,
            closed=dict(module.level),
            alert=module.alert,
            load_switch=module.load_switch,
            watts=sum(draw(self.state, name, now)),
            worst_w=LADDER_W[module.step],
            celsius=dict(module.celsius),
            external=name in self.state.sources,
            available_w=available(self.state, name, now),
            battery_percent=100 * module.charge_wh / capacity if capacity else None,
            seen=module.seen,
            carrier=len(self.state.stack_of(name)) > 1 and "link" not in module.faults,
            address=module.address,
            faults=frozenset(module.faults),
        )

    def tell(self, name: str, order: str, value: object) -> None:
        """One actuator of a module. Raises HardwareError for an order or a value that it does not take.

        step: W · feed: seconds · pull, load-switch: bool · tag: a record · send: a datagram in base64.
        """
        with self.changed:
            self.advance()
            module = self.state.module(name)
            if order == "step":
                if "cap" not in module.faults:
                    watts = _number(order, value)
                    module.step = max((i for i, worst in enumerate(LADDER_W) if worst <= watts), default=0)
            elif order == "feed":
                module.kept_until = self.clock() + _number(order, value)
                self.later(module.kept_until, self.settle)
            elif order == "pull":
                module.pulls = value is True
            elif order == "load-switch":
                module.load_switch = value is True
            elif order == "tag":
                self.publish(module, tag_from_json(value))
            elif order == "send":
                self._send(name, value)
            else:
                raise HardwareError(f"{order!r} is no order")
            self.advance()

    def _about(self, name: str) -> Json:
        module = self.state.modules[name]
        return {
            "board": module.board.name,
            "boots": module.boots,
            "load": round(module.load, 3),
            "ambient_c": module.ambient,
            "tag": tag_to_json(module.tag),
        }

    def _send(self, name: str, value: object) -> None:
        try:
            size = len(base64.b64decode(str(value), validate=True))
        except (ValueError, binascii.Error) as error:
            raise HardwareError("a datagram is written in base64") from error
        if size > DATAGRAM_BYTES:
            raise HardwareError(f"a datagram of {size} bytes is too long", f"{DATAGRAM_BYTES} is the most")
        state, sender = self.state, self.state.modules[name].address
        for other in self.state.stack_of(name):
            if other == name or not state.reaches(name, other) or self.random.random() < state.loss:
                continue
            wait = state.delay_s + self.random.random() * state.jitter_s
            if wait <= 0:
                self.emit(other, "datagram", self.clock(), data=value, sender=sender)
            else:
                self.later(self.clock() + wait, self._delivery(other, value, sender))

    def _delivery(self, name: str, value: object, sender: str) -> Callable[[float], None]:
        return lambda at: self.emit(name, "datagram", at, data=value, sender=sender)


def _number(name: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise HardwareError(f"{name} cannot be {value!r}", "it is a number")
    return float(value)
