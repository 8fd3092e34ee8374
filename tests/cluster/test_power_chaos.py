"""Whatever hands do to stacks of whole power services, no supply and no contact is asked for more than it gives.

``make soak`` runs more of these: THOX_SOAK_WORLDS says how many.
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import pytest
from virtual_stack import VirtualStack

from agent.cluster.power.wire import Ask
from agent.errors import ThoxError
from hal.base import HardwareError

SUPPLIES_W = (30.0, 65.0, 100.0, 140.0)
TOGETHER_S = 1.6  # until two parts, both with loads on, are one cluster whose watts are shared anew
TURNS_S = (0.2, 0.7, 2.0, 5.0, 9.0, 15.0)
SEEDS = int(os.environ.get("THOX_SOAK_WORLDS", "0")) // 20 or 3
pytestmark = pytest.mark.timeout(600)


class Hands:
    """Somebody who cannot let a stack alone."""

    def __init__(self, stack: VirtualStack, dice: random.Random) -> None:
        self.stack, self.dice = stack, dice

    def turn(self) -> None:
        name = self.dice.choice(sorted(self.stack.modules))
        todo = (self.move, self.plug, self.kill, self.start, self.lift, self.put, self.alert, self.cut, self.ask)
        self.dice.choice(todo)(name)

    def move(self, name: str) -> None:
        sources = sorted(self.stack.world.state.sources)
        if sources:
            self.stack.hands().unplug(self.dice.choice(sources))
        self.plug(name)

    def plug(self, name: str) -> None:
        self.stack.hands(1.6).plug(name, self.dice.choice(SUPPLIES_W))

    def kill(self, name: str) -> None:
        self.stack.hands(4.0)
        self.stack[name].stop()

    def start(self, name: str) -> None:
        self.stack.hands(4.0)
        if not self.stack[name].runs:
            self.stack[name].start()

    def lift(self, name: str) -> None:
        with contextlib.suppress(HardwareError):  # nothing is under it
            self.stack.hands().unstack(name)

    def put(self, _name: str) -> None:
        stacks = self.stack.world.state.stacks
        if len(stacks) > 1:
            lower, upper = self.dice.sample(stacks, 2)
            hung = any(not self.stack[name].runs for name in (*lower, *upper))
            silent = hung or bool(self.stack.cuts)  # whom only closed faces tell of
            self.stack.hands(4.0 if silent else TOGETHER_S).stack(lower[-1], upper[0])

    def alert(self, name: str) -> None:
        self.stack.world.fail("alert", name)
        self.stack.run(0.2)
        self.stack.world.mend("alert", name)

    def cut(self, name: str) -> None:
        other = self.dice.choice(sorted(self.stack.modules))
        self.stack.cuts = {(name, other)} if other != name else set()

    def ask(self, name: str) -> None:
        other, least = self.dice.choice(sorted(self.stack.modules)), self.dice.choice((0.0, 15.0, 20.0))
        with contextlib.suppress(ThoxError):
            if self.stack[name].runs:
                self.stack[name].contracts.request(Ask(f"node-{other}", 40.0, least, "high", 20.0))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_rules_hold_whatever_hands_do(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    stack = VirtualStack(tmp_path, dice.randint(2, 5), dice.choice(SUPPLIES_W), dice.choice((100.0, 60.0)))
    hands = Hands(stack, dice)
    for _ in range(dice.randint(4, 10)):
        stack.run(dice.choice(TURNS_S))
        hands.turn()
    stack.run(5.0)
