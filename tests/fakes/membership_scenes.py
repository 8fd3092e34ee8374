"""Directed worlds: each brings about what one rule of membership is for. They raise BrokenRuleError without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from membership_world import BrokenRuleError, MembershipWorld, a_node

from agent.cluster.membership.beacon import Touch
from agent.cluster.membership.epoch import Stored
from agent.cluster.membership.run import Membership
from agent.cluster.state import Node

Rules = Callable[[Node, Stored], Membership]


def demand(condition: bool, what: str) -> None:
    if not condition:
        raise BrokenRuleError(what)


def names(count: int) -> list[str]:
    return [a_node(number).id for number in range(1, count + 1)]


def stack(rules: Rules, count: int, *, powered: tuple[int, ...] = (), keeps: bool = True) -> MembershipWorld:
    """Formed, with nodes 1 to ``count``."""
    nodes = [a_node(number, number in powered) for number in range(1, count + 1)]
    world = MembershipWorld(nodes, 7, rules, keeps)
    world.until(lambda: world.agrees(names(count)), 2.0)
    return world


def leader(world: MembershipWorld, name: str) -> str:
    epoch = world.of(name).epoch
    demand(epoch is not None, f"{name} is in no epoch")
    assert epoch is not None
    return epoch.leader


def external_power_leads(rules: Rules) -> None:
    world = MembershipWorld([a_node(1, battery=90.0), a_node(2, battery=95.0), a_node(3, True, 5.0)], 1, rules)
    world.until(lambda: world.agrees(names(3)), 2.0)
    demand(leader(world, names(1)[0]) == names(3)[2], "external power comes first")


def the_highest_battery_leads(rules: Rules) -> None:
    world = MembershipWorld([a_node(1, battery=None), a_node(2, battery=40.0), a_node(3, battery=80.0)], 1, rules)
    world.until(lambda: world.agrees(names(3)), 2.0)
    demand(leader(world, names(1)[0]) == names(3)[2], "then the battery")


def the_lowest_id_leads(rules: Rules) -> None:
    world = stack(rules, 8)
    demand(leader(world, names(8)[5]) == names(1)[0], "then the id")


def a_better_one_joins(rules: Rules) -> None:
    """Sticky: a full battery is no reason to move the lead."""
    nodes = [a_node(number, battery=20.0) for number in (2, 3)] + [a_node(1, battery=99.0)]
    world = MembershipWorld(nodes, 3, rules)
    one, two, three = names(3)
    world.divide([two, three], [one])
    world.until(lambda: world.agrees([two, three]) and world.agrees([one]), 2.5)
    world.divide([one, two, three])
    world.until(lambda: world.agrees(names(3)), 2.0)
    demand(leader(world, one) == two, "who leads goes on leading")


def the_supply_moves(rules: Rules) -> None:
    world = stack(rules, 3, powered=(1,))
    one, two, _ = names(3)
    world.change(one, external=False)
    world.run(2.0)
    demand(leader(world, two) == one, "where nobody has a supply, the lead stays")
    world.change(two, external=True)
    world.until(lambda: world.agrees(names(3)) and leader(world, one) == two, 2.0)


def the_larger_side_wins(rules: Rules) -> None:
    world = stack(rules, 5)
    small, large = names(5)[:2], names(5)[2:]
    world.divide(small, large)
    world.until(lambda: world.agrees(small) and world.agrees(large), 2.0)
    kept = leader(world, large[0])
    world.divide(names(5))
    world.until(lambda: world.agrees(names(5)), 2.0)
    demand(leader(world, small[0]) == kept, "the larger side's leader leads")


def the_longer_lived_side_wins(rules: Rules) -> None:
    nodes = [a_node(number) for number in (1, 2, 3, 4)]
    world = MembershipWorld(nodes, 5, rules)
    young, old = names(4)[:2], names(4)[2:]
    for name in young:
        world.stop(name)
    world.until(lambda: world.agrees(old), 2.0)
    world.run(12.0)
    world.divide(young, old)
    for name in young:
        world.start(name)
    world.until(lambda: world.agrees(young), 2.0)
    world.divide(names(4))
    world.until(lambda: world.agrees(names(4)), 2.0)
    demand(leader(world, young[0]) == old[0], "of two sides of one size, the one that has stood for longer")


def two_leaders_meet_as_they_come_of_age(rules: Rules) -> None:
    """They lead for ten seconds just when they are dealt anew, one a moment after the other."""
    world = MembershipWorld([a_node(number, battery=None) for number in range(1, 9)], 503554, rules)
    one, two, three, four, five, six, seven, eight = names(8)
    before, after = (
        [[one, two, three, four], [five, six, seven, eight]],
        [[one, two, five, six], [three, four, seven, eight]],
    )
    world.divide(*before)
    world.until(lambda: all(world.agrees(part) for part in before), 2.0)
    world.run(8.44)
    world.divide(*after)
    world.until(lambda: all(world.agrees(part) for part in after), 2.0)


def a_link_is_cut_one_way(rules: Rules) -> None:
    """Node 3 hears the others, and they do not hear it: it is a member of nothing but its own cluster."""
    world = stack(rules, 3)
    one, two, three = names(3)
    world.paths[three, one].cut = world.paths[three, two].cut = True
    world.until(lambda: world.agrees([one, two]) and world.agrees([three]), 2.0)
    world.run(3.0)
    demand(world.agrees([one, two]) and world.agrees([three]), "both must hear the other")


def a_middle_hears_both_ends(rules: Rules) -> None:
    """No clique: the ends of a chain do not hear one another. One pair, and one that goes on alone."""
    world = stack(rules, 4)
    one, two, three, four = names(4)
    for ends in ((one, four), (one, three), (two, four)):
        world.paths[ends].cut = world.paths[ends[::-1]].cut = True
    world.until(lambda: world.clusters() is not None, 6.0)
    before = world.clusters()
    world.run(5.0)
    demand(world.clusters() == before, "a graph that stays as it is brings no new epochs")


def a_short_silence(rules: Rules) -> None:
    """Three beacons lost are no reason for anything."""
    world = stack(rules, 3)
    before = world.of(names(3)[0]).epoch
    for _ in range(3):
        world.isolate(names(3)[2])
        world.run(0.65)
        world.isolate(names(3)[2], False)
        world.run(1.0)
    demand(world.of(names(3)[0]).epoch == before, "a node was dropped for a short silence")


def a_silence_of_a_little_more_than_a_second(rules: Rules) -> None:
    """It falls out of the view, and is back before the view is stable."""
    world = stack(rules, 3)
    before = world.of(names(3)[0]).epoch
    for _ in range(6):
        world.isolate(names(3)[2])
        world.run(1.15)
        world.isolate(names(3)[2], False)
        world.run(1.5)
    demand(world.of(names(3)[0]).epoch == before, "a view acted before it was stable")


def a_node_is_pulled(rules: Rules) -> None:
    world = stack(rules, 4)
    world.isolate(names(4)[0])
    took = world.until(lambda: world.agrees(names(4)[1:]), 1.8)
    demand(took > 1.0, f"a node was given up after {took:.2f} s")


def a_node_is_pulled_and_its_line_opens(rules: Rules) -> None:
    world = stack(rules, 4)
    chain = names(4)
    for place, lower in enumerate(chain[:-1]):
        world.of(lower).touched = (Touch("top", chain[place + 1], "bottom"),)
    world.run(0.5)
    world.isolate(chain[3])
    module = world.modules[chain[2]]
    world.of(chain[2]).hint("top", world.clock(module))
    world.until(lambda: chain[3] not in world.of(chain[2]).mutual, 0.45)
    world.until(lambda: world.agrees(chain[:3]), 0.7)


def a_line_opens_and_nothing_is_gone(rules: Rules) -> None:
    world = stack(rules, 3)
    before = world.of(names(3)[0]).epoch
    for name in names(3):
        world.of(name).hint(None, world.clock(world.modules[name]))
    world.run(3.0)
    demand(world.of(names(3)[0]).epoch == before, "a hint is no proof")


def everybody_restarts(rules: Rules, keeps: bool = True) -> None:
    world = stack(rules, 3, keeps=keeps)
    for name in names(3):
        world.restart(name)
    world.until(lambda: world.agrees(names(3)), 2.0)


def a_node_restarts_in_a_blink(rules: Rules) -> None:
    """It left and came back, whatever the view says: what it held is gone."""
    world = stack(rules, 3)
    before = world.of(names(3)[0]).term
    world.restart(names(3)[2])
    world.until(lambda: world.agrees(names(3)), 2.0)
    demand(world.of(names(3)[0]).term > before, "a restart is a change of membership")


def a_node_of_higher_terms_joins(rules: Rules) -> None:
    """What it accepted before is above what the stack is at: the stack must go above that."""
    nodes = [a_node(number) for number in (1, 2, 3)]
    world = MembershipWorld(nodes, 2, rules)
    three = names(3)[2]
    world.divide(names(2), [three])
    world.until(lambda: world.agrees(names(2)) and world.agrees([three]), 2.0)
    for _ in range(5):
        world.restart(three)
        world.run(1.0)
    demand(world.of(three).term > world.of(names(2)[0]).term + 2, "the scene is no scene")
    before = len(world.modules[names(2)[0]].accepted)
    world.divide(names(3))
    world.until(lambda: world.agrees(names(3)), 2.0)
    demand(len(world.modules[names(2)[0]].accepted) == before + 1, "one epoch is enough")


def an_old_recording_is_played(rules: Rules) -> None:
    """All that node 3 ever said comes again, after it is gone: nobody takes it for alive."""
    world = stack(rules, 3)
    one, two, three = names(3)
    tape = [beacon for beacon in world.recorded if beacon.id == three]
    world.isolate(three)
    world.until(lambda: world.agrees([one, two]), 2.0)
    after = world.of(one).epoch
    for _ in range(60):
        for target in (one, two):
            world.replay(tape[world.random.randrange(len(tape))], target)
        world.run(0.1)
    demand(world.of(one).epoch == after, "a recording was taken for a node")


def an_old_recording_is_played_to_a_newcomer(rules: Rules) -> None:
    """A node that has just started knows no counts; the echo tells it that nobody there hears it."""
    world = stack(rules, 3)
    one, two, three = names(3)
    tape = [beacon for beacon in world.recorded if beacon.id in (two, three)]
    world.isolate(one)
    world.restart(one)
    for number in range(60):
        world.replay(tape[number % len(tape)], one)
        world.run(0.05)
        demand(not world.of(one).mutual, "a recording was taken for a node")
    demand(world.agrees([one]), "a recording kept a node from going on")


def beacons_are_seconds_late(rules: Rules) -> None:
    """Whoever is heard, but only as it was five seconds ago, is no member."""
    world = stack(rules, 2)
    one, two = names(2)
    held = [beacon for beacon in world.recorded if beacon.id == two][-1]
    world.isolate(two)
    world.run(3.0)
    world.replay(replace(held, seq=held.seq + 100), one)  # the last of many that were held back on their way
    demand(two not in world.of(one).mutual, "a late word was taken for a fresh one")


def one_way_takes_seconds(rules: Rules) -> None:
    """Nodes 2 and 3 are not there for one another; who leads must know, or it makes an epoch that never settles."""
    world = stack(rules, 3)
    one, two, three = names(3)
    slow = world.paths[three, two]
    slow.fastest_s = slow.slowest_s = 2.0
    world.run(4.0)
    epochs = [world.of(name).epoch for name in (one, two, three)]
    demand(epochs[1] != epochs[2], "a late word was taken for hearing")
    demand(all(world.of(name).settled for name in (one, two, three)), "nobody is coming or going")


def late_words_land_on_a_path_that_is_cut(rules: Rules) -> None:
    """For seconds after a cut, one that cannot be heard any more seems to be, though nothing of it is fresh."""
    world = MembershipWorld([a_node(number, number == 7, None) for number in range(1, 9)], 678, rules)
    for path in world.paths.values():
        path.slowest_s = 5.0
    world.run(1.6)
    for path in world.paths.values():
        path.slowest_s = 0.004
    world.paths[names(5)[4], names(2)[1]].cut = True
    world.until(lambda: world.clusters() is not None, 6.0)
    world.run(2.0)
    demand(world.clusters() is not None, "an epoch whose members are not there for one another")


def a_disk_is_set_back(rules: Rules) -> None:
    """A node whose store is older than what it said before: it is refused, told so, and counts on from there."""
    world = stack(rules, 3)
    three = names(3)[2]
    for _ in range(3):
        world.restart(three)
        world.until(lambda: world.agrees(names(3)), 2.0)
    world.run(5.0)
    module = world.modules[three]
    module.stored = Stored(1, module.stored.term)
    world.restart(three)
    world.until(lambda: world.agrees(names(3)), 3.0)


def an_invited_node_never_votes(rules: Rules) -> None:
    """One that is broken keeps nobody from going on."""
    world = stack(rules, 3)
    one, two, three = names(3)
    deaf = world.of(three)
    deaf._candidates = list  # type: ignore[method-assign]
    deaf._invited = lambda own: (three,)  # type: ignore[method-assign]
    world.until(lambda: (e := world.of(two).epoch) is not None and e.members == (one, two), 3.0)


def two_stacks_are_dealt_anew(rules: Rules) -> None:
    """Both leaders lose most of theirs and meet: how many they led before must not make one win, and then the other."""
    nodes = [a_node(number, number in (1, 7), None) for number in range(1, 9)]
    world = MembershipWorld(nodes, 0, rules)
    all_names = names(8)

    def pick(*numbers: int) -> list[str]:
        return [all_names[number - 1] for number in numbers]

    for parts in ([pick(1, 2, 4, 8), pick(3, 5, 6, 7)], [pick(1, 4, 7), pick(2, 3, 5, 6, 8)]):
        before = [len(world.modules[name].accepted) for name in pick(1, 7)]
        world.divide(*parts)
        world.until(lambda now=parts: all(world.agrees(part) for part in now), 2.0)  # type: ignore[misc]
    after = [len(world.modules[name].accepted) for name in pick(1, 7)]
    demand(after == [each + 1 for each in before], "one epoch is enough")
