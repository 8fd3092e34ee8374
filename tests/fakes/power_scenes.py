"""Directed worlds: each leads a stack to the very place where one rule is all that keeps it from breaking."""

from __future__ import annotations

from power_calm import come_to_rest
from power_module import Rules
from power_oracle import hold
from power_world import World

from agent.cluster.power.messages import PowerGrant, Takeover, Term
from agent.cluster.power.node import Want
from agent.cluster.power.rules import Priority


def _stack(rules: Rules, supply: float, *wants: float, contacts: tuple[float, ...] = (), floor: float = 10.0) -> World:
    """At its plan. Who wants 40 W and more ranks first."""
    ranks: list[Priority] = ["critical" if want >= 40 else "normal" for want in wants]
    rates = [1.02, *[0.98 for _ in wants]]
    rows = [(floor, 60.0, want, rank) for want, rank in zip(wants, ranks, strict=True)]
    world = World(rows, supply, contacts, rules=rules, rates=rates)
    world.run(7.0)
    return world


def _cut(world: World, a: int, b: int) -> None:
    world.paths[a, b].cut = world.paths[b, a].cut = True


def a_plain_stack(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    come_to_rest(world)


def a_node_hears_nothing(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    _cut(world, 0, 1)
    world.run(8.0)


def a_decrease_is_lost(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    world.paths[0, 1].cut = True
    world.modules[1].want = Want(10.0)
    for _ in range(500):
        world.run(0.01)
        world.beat(2)


def an_answer_is_late(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    world.paths[0, 1].held = True
    world.run(2.4)
    world.release(0, 1, [0])
    world.run(4.0)


def a_late_grant_of_an_earlier_term(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    path = world.paths[0, 1]
    path.held = True
    world.run(0.6)
    world.restart(0)
    world.run(1.2)
    world.release(0, 1, [len(path.waiting) - 1, 0])


def a_late_grant_of_an_earlier_boot(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    path = world.paths[0, 1]
    path.held = True
    world.run(0.6)
    late = path.waiting[0]
    assert isinstance(late, PowerGrant)
    world.restart(1)
    for _ in range(late.seq):
        world.beat(1)
    world.release(0, 1, [0])


def a_late_request_of_an_earlier_term(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    world.paths[1, 0].held = True
    world.run(0.6)
    world.restart(0)
    world.run(0.8)
    world.release(1, 0)
    world.run(1.0)


def everything_comes_twice(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    for path in world.paths.values():
        path.twice, path.slowest_s = 1.0, 0.7
    world.run(6.0)


def the_allocator_restarts_while_a_node_is_cut_off(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    _cut(world, 0, 1)
    world.restart(0)
    world.run(4.0)


def the_allocator_restarts_while_nodes_want_more(rules: Rules) -> None:
    world = _stack(rules, 100.0, 10, 10, 10)
    for module in world.modules:
        module.want = Want(40.0)
    world.restart(0)
    world.run(4.0)


def a_module_never_comes_back(rules: Rules) -> None:
    world = _stack(rules, 60.0, 30, 10, 40)
    _cut(world, 0, 1)
    world.run(12.0)


def contacts_are_narrow(rules: Rules) -> None:
    _stack(rules, 200.0, 40, 40, 40, contacts=(55.0, 35.0))


def floors_do_not_fit(rules: Rules) -> None:
    world = _stack(rules, 50.0, 20, 20, 20, floor=20.0)
    come_to_rest(world)
    hold(sum(one.node.loaded for one in world.modules) == 2, "as many are on as the supply carries")


def an_admitted_node_falls_silent(rules: Rules) -> None:
    rows: list[tuple[float, float, float, Priority]] = [(20.0, 60.0, 60.0, "normal")] * 3
    world = World(rows, 50.0, rules=rules)
    world.paths[1, 0].cut = True
    path = world.paths[2, 0]
    path.held = True
    world.run(6.0)
    path.waiting.clear()
    world.beat(2)
    world.release(2, 0)
    world.run(0.1)  # it has a nonce now
    path.waiting.clear()
    world.beat(2)
    world.modules[2].want = Want(60.0, "low")
    world.beat(2)
    world.release(2, 0, [0])
    world.run(4.0)
    hold(world.modules[2].node.loaded, "it was admitted")
    world.release(2, 0, [0])  # sent before it was
    world.run(4.0)
    world.paths[1, 0].cut = False  # another one that would fit in its place
    world.run(4.0)


def an_alert(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    world.paths[0, 1].held = True
    world.run(0.6)
    world.alert(0.2)
    world.run(0.3)
    world.release(0, 1)
    world.run(2.0)


def alerts_again_and_again(rules: Rules) -> None:
    """I7: noise changes little."""
    world = _stack(rules, 60.0, 10, 40)
    derating = world.modules[0].allocators[0].derating
    raises = 0
    for _ in range(16):
        world.alert(0.1)
        before = derating.factor
        for _ in range(12):
            world.run(1.0)
            raises, before = raises + (derating.factor > before), derating.factor
    hold(raises <= 3, f"I7: {raises} raises in 192 s of alerts")


def the_supply_shrinks(rules: Rules) -> None:
    world = _stack(rules, 120.0, 40, 40, 40)
    world.supply(60.0)
    world.run(5.0)


def the_supply_moves_and_is_weaker(rules: Rules) -> None:
    world = _stack(rules, 120.0, 40, 40, 40)
    world.plug(2, 60.0)
    world.run(8.0)


def the_new_allocator_restarts_at_once(rules: Rules) -> None:
    world = _stack(rules, 120.0, 40, 40, 40)
    world.plug(2, 45.0, aware=False)
    world.restart(2)
    for _ in range(8):  # the old one still answers
        world.beat(0)
        world.beat(1)
        world.run(0.05)
    world.run(8.0)


def the_old_allocator_notices_nothing(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    world.plug(2, 60.0, aware=False)
    _cut(world, 1, 2)
    world.run(14.0)


def the_new_allocator_missed_many_terms(rules: Rules) -> None:
    world = World([(10.0, 60.0, 30.0, "normal")] * 3, 60.0, rules=rules)
    _cut(world, 0, 2)
    _cut(world, 1, 2)
    world.run(6.0)
    for _ in range(3):
        world.restart(0)
        world.run(1.5)
    world.plug(2, 60.0)
    come_to_rest(world)


def the_supply_is_handed_over(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    _cut(world, 1, 2)
    world.hand_over(2, 60.0)
    world.modules[2].want = Want(40.0, "critical")
    world.run(4.0)
    hold(world.place == 2, "it was handed over")


def somebody_claims_the_supply(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    office = world.modules[0].allocators[0]
    office.takeover(Takeover(Term(99, "node-2", "f" * 16)), world.clock(world.modules[0]))
    hold(not office.retired, "a message alone stopped an allocator")


def a_node_restarts(rules: Rules) -> None:
    world = _stack(rules, 60.0, 10, 40, 30)
    world.restart(1)
    world.run(1.0)
