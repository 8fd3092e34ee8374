"""What hands and bad luck do to a World: stack, plug, heat, break."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import count

from hal.base import BoardFacts, HardwareError, TagRecord
from hal.boards import ORIN_NX_16
from hal.world_core import WorldCore
from hal.world_state import BATTERY_WH, FAULTS, SUPPLY_W, Json, Module, Source, tag_from_json

MOST_MODULES = 64  # more is a mistake


class WorldHands(WorldCore):
    """Every hand raises HardwareError, and changes nothing, when what is asked for makes no sense."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seed: int = 0) -> None:
        super().__init__(clock, seed)
        self._numbers = count(1)

    # --- hands: the stack --------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        address: str = "",
        battery_wh: float = BATTERY_WH,
        board: BoardFacts = ORIN_NX_16,
        load: Callable[[], float] | None = None,
    ) -> None:
        """Put a module on the table, touching nothing. ``battery_wh`` 0: it has no battery, and no power either.

        ``address``: of its end of the link; else 127.0.0.1, .2 ... in the order of their coming. ``load``, 0 to 1: how
        busy its agent is, where that is in this process.
        """
        with self.changed:
            self.advance()
            if not name or not name.isascii() or not name.isprintable() or len(name) > 64:
                raise HardwareError(f"{name[:80]!r} is no name for a module", "use letters, digits and dashes")
            if name in self.state.modules:
                raise HardwareError(f"there is a module {name!r} already", "choose another name")
            if len(self.state.modules) >= MOST_MODULES:
                raise HardwareError(f"{MOST_MODULES} modules are the most", "remove one")
            _positive("battery_wh", battery_wh)
            here = address or f"127.0.0.{next(self._numbers)}"
            self.state.modules[name] = Module(name, here, load, battery_wh, battery_wh, board)
            self.state.stacks.append([name])
            self.advance()

    def remove(self, name: str) -> None:
        """Take a module away, with its supply."""
        with self.changed:
            self.advance()
            self.state.known(name)
            stack = self.state.stack_of(name)
            place = stack.index(name)
            self._split(stack, place + 1)
            self._split(stack, place)
            self.state.stacks.remove([name])
            self.state.sources.pop(name, None)
            del self.state.modules[name]
            self.state.cuts = {cut for cut in self.state.cuts if name not in cut}
            self.advance()

    def stack(self, lower: str, upper: str) -> None:
        """Put ``upper``, and what stands on it, on ``lower``."""
        with self.changed:
            self.advance()
            self.state.known(lower, upper)
            below, above = self.state.stack_of(lower), self.state.stack_of(upper)
            if below is above:
                raise HardwareError(f"{lower} and {upper} are in one stack already", "`thox sim status` shows it")
            if below[-1] != lower:
                raise HardwareError(f"something stands on {lower}", f"stack it on {below[-1]}, or unstack that first")
            if above[0] != upper:
                raise HardwareError(f"{upper} stands on another", f"unstack {upper} first")
            self.state.stacks.remove(above)
            below += above
            for name in (lower, upper):
                self.touch(name, self.clock())
            self.advance()

    def unstack(self, name: str) -> None:
        """Lift a module, and what stands on it, off the one below."""
        with self.changed:
            self.advance()
            self.state.known(name)
            stack = self.state.stack_of(name)
            if stack[0] == name:
                raise HardwareError(f"{name} stands on nothing", "name the module that is to be lifted")
            self._split(stack, stack.index(name))
            self.advance()

    # --- hands: power and heat ---------------------------------------------------------------------------------------

    def plug(self, name: str, watts: float = SUPPLY_W) -> None:
        """Plug a supply of ``watts`` into a module, in the place of the one it has."""
        with self.changed:
            self.advance()
            self.state.known(name)
            if not math.isfinite(watts) or watts <= 0:
                raise HardwareError(f"a supply of {watts} W is none", "`unplug` takes it away")
            self.state.sources[name] = Source(watts)
            self.advance()

    def unplug(self, name: str) -> None:
        with self.changed:
            self.advance()
            self.state.known(name)
            if self.state.sources.pop(name, None) is None:
                raise HardwareError(f"no supply is plugged into {name}", f"`plug {name}` plugs one in")
            self.advance()

    def contact(self, watts: float) -> None:
        """How much each contact of the stack carries."""
        with self.changed:
            self.advance()
            _positive("watts", watts)
            self.state.contact_w = watts
            self.advance()

    def heat(self, celsius: float, name: str | None = None) -> None:
        """The air around a module, or around all, from now on."""
        with self.changed:
            self.advance()
            if not -60 <= celsius <= 200:
                raise HardwareError(f"{celsius} °C is not the weather of this world", "from -60 to 200")
            for module in [self.state.module(name)] if name else self.state.modules.values():
                module.ambient = celsius

    def load(self, share: float | None, name: str) -> None:
        """How busy a module is, 0 to 1; None: as busy as its agent."""
        with self.changed:
            self.advance()
            if share is not None and not 0 <= share <= 1:
                raise HardwareError(f"a load of {share} is impossible", "from 0 to 1")
            self.state.module(name).set_load = share
            self.advance()

    def drain(self, percent: float, name: str) -> None:
        """Set the charge of a module's battery."""
        with self.changed:
            self.advance()
            module = self.state.module(name)
            if not module.capacity_wh:
                raise HardwareError(f"{name} has no battery")
            if not 0 <= percent <= 100:
                raise HardwareError(f"a charge of {percent} % is impossible", "from 0 to 100")
            module.charge_wh = module.capacity_wh * percent / 100
            self.advance()

    # --- hands: what breaks ------------------------------------------------------------------------------------------

    def fail(self, fault: str, name: str) -> None:
        with self.changed:
            self.advance()
            module = self.state.module(name)
            if fault not in FAULTS:
                raise HardwareError(f"{fault!r} is nothing that fails here", "these do: " + ", ".join(FAULTS))
            if fault not in module.faults:
                module.faults.add(fault)
                self._fault_changed(name, fault)

    def mend(self, fault: str, name: str) -> None:
        """``all`` mends everything."""
        with self.changed:
            self.advance()
            module = self.state.module(name)
            for each in sorted(module.faults) if fault == "all" else [fault]:
                if each not in FAULTS:
                    raise HardwareError(f"{each!r} is nothing that fails here", "these do: " + ", ".join(FAULTS))
                module.faults.discard(each)
                self._fault_changed(name, each)

    def cut(self, source: str, target: str) -> None:
        """Lose all datagrams from ``source`` to ``target``, and where they touch, all that pass there on that way."""
        with self.changed:
            self.state.known(source, target)
            self.state.cuts.add((source, target))

    def join(self, source: str, target: str) -> None:
        """End such a cut."""
        with self.changed:
            self.state.known(source, target)
            self.state.cuts.discard((source, target))

    def link(self, loss: float = 0.0, delay_s: float = 0.0, jitter_s: float = 0.0) -> None:
        """How datagrams fare: lost by chance (0 to 1), delayed by ``delay_s`` and up to ``jitter_s`` more."""
        with self.changed:
            if not 0 <= loss <= 1:
                raise HardwareError(f"a loss of {loss} is impossible", "from 0 to 1")
            _positive("delay_s", delay_s)
            _positive("jitter_s", jitter_s)
            self.state.loss, self.state.delay_s, self.state.jitter_s = loss, delay_s, jitter_s

    def write_tag(self, name: str, record: Json | None) -> None:
        """Put a record on a module's tag as its own agent would; None: an empty tag."""
        with self.changed:
            self.advance()
            self.publish(self.state.module(name), tag_from_json(record))

    def publish(self, module: Module, record: TagRecord | None) -> None:
        module.tag = record
        below = self.state.neighbour(module.name, "bottom")
        if below is not None:
            self.poll_soon(below, self.clock())

    def _split(self, stack: list[str], place: int) -> None:
        if not 0 < place < len(stack):
            return
        lifted = stack[place:]
        del stack[place:]
        self.state.stacks.append(lifted)
        self.touch(stack[-1], self.clock())
        self.touch(lifted[0], self.clock())

    def _fault_changed(self, name: str, fault: str) -> None:
        now = self.clock()
        face = fault.partition("-")[0]
        if fault.endswith(("-noise", "-chatter")) and face in ("top", "bottom"):
            self.disturb(name, "top" if face == "top" else "bottom", fault, now)
        self.touch(name, now)
        if fault == "reader":
            self.poll(name, now)
        below = self.state.neighbour(name, "bottom")
        if fault == "torn-tag" and below is not None:
            self.poll_soon(below, now)
        self.advance()


def _positive(name: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        raise HardwareError(f"{name} cannot be {value}", "it is a number from 0 on")
