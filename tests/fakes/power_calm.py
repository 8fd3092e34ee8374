"""What a stack must come to once nothing happens to it any more: the plan, and the plan's ranks."""

from __future__ import annotations

from power_module import Path
from power_oracle import hold
from power_world import World

from agent.cluster.power.rules import PRIORITIES
from agent.cluster.power.timing import Timing

SLACK_W = 0.01  # grants are whole milliwatts


def come_to_rest(world: World) -> None:
    """I5, I6: all paths heal; after the waits of a new allocator and two leases, caps are what the plan says."""
    for key in world.paths:
        waiting = world.paths[key].waiting
        world.paths[key] = Path(slowest_s=0.0 if key[0] == key[1] else 0.01, waiting=waiting)
        world.release(*key)
    for module in world.modules:
        kept = slice(-1, None) if module.index == world.place else slice(0, 0)
        module.allocators, module.at = module.allocators[kept], module.at[kept]
    timing = Timing()
    while True:
        world.run(max(0.0, world.foreign_until - world.now) + timing.silence_s + timing.hold_s + 2 * timing.lease_s)
        if not world.modules[world.place].allocators[-1].retired:
            break
        world.plug(world.place, world.supply_w)  # it let go, and whoever asked for its book never came
    for _ in range(8):  # a step of the supply may come back, or a contract end, at this very moment
        difference = _difference(world)
        if not difference:
            break
        world.run(0.25)
    hold(not difference, f"I5: not at the plan two leases after the quiet: {difference}")
    _ranks(world)


def _difference(world: World) -> str:
    here = world.modules[world.place]
    allocator, now = here.allocators[-1], world.clock(here)
    plan, carried = allocator.plan(now), allocator.carried(now)
    for module in world.modules[: world.present]:
        node = module.member.node_id
        expected = plan.get(node, 0.0) if node in carried else 0.0
        if module.steps and expected:
            expected = module.step(expected + 1e-9)
        if abs(world.cap(module) - expected) > SLACK_W:
            return f"{node} takes {world.cap(module):g} W, planned {expected:g} W"
    return ""


def _ranks(world: World) -> None:
    """Told from the caps alone, where neither contacts, contracts nor ladders blur the picture."""
    here = world.modules[world.place]
    if world.contacts or here.allocators[-1].contracts or any(one.steps for one in world.modules):
        return
    loaded = [one for one in world.modules[: world.present] if one.node.loaded]
    for high in loaded:
        most = min(high.want.watts, high.member.peak_w)
        if world.cap(high) >= most - SLACK_W:
            continue
        for low in loaded:
            above = world.cap(low) - low.member.floor_w
            rank = PRIORITIES.index(high.want.priority) - PRIORITIES.index(low.want.priority)
            hold(rank <= 0 or above <= SLACK_W, "I6: a lower priority is above its floor, a higher one is in want")
            even = rank != 0 or above <= SLACK_W or world.cap(low) <= world.cap(high) + SLACK_W
            hold(even, "I6: two of one priority do not share evenly")
