"""Directed worlds of chains whose contacts open: what a physical sign may do, and what it may not."""

from __future__ import annotations

from collections.abc import Collection

from membership_scenes import Rules, demand, leader
from membership_world import MembershipWorld, a_node

from agent.cluster.membership.beacon import Touch

PULL_S = 1.0  # from the hand to the new view, on every node that is left
NOTICE_S = 0.1  # from the hand to the hint: 50 ms of debouncing, and a step of the thread


class Chain:
    """Modules one on another, the lowest first, each read by the one below; formed, at some time between beacons."""

    def __init__(self, rules: Rules, count: int, leads: int = 1, seed: int = 7) -> None:
        nodes = [a_node(number, number == leads) for number in range(1, count + 1)]
        self.ids = [node.id for node in nodes]
        self.world = MembershipWorld(nodes, seed, rules)
        for place, lower in enumerate(self.ids[:-1]):
            self.world.of(lower).touched = (Touch("top", self.ids[place + 1], "bottom"),)
        self.world.until(lambda: self.world.agrees(self.ids), 2.0)
        self.world.run(0.3 + self.world.random.uniform(0, 0.2))
        demand(leader(self.world, self.ids[0]) == self.ids[leads - 1], "the one with the supply leads")

    def opens(self, contact: int, above: bool = True, below: bool = True) -> None:
        """The lines there, as the module below that contact feels it, and the one above. Counted from 1."""
        for place, side, feels in ((contact - 1, "top", below), (contact, "bottom", above)):
            if feels:
                module = self.world.modules[self.ids[place]]
                self.world.of(self.ids[place]).hint("top" if side == "top" else "bottom", self.world.clock(module))

    def divided(self, contact: int) -> float:
        """What is above is lifted off. Seconds until both parts are clusters, as each of their nodes says."""
        parts = self.ids[:contact], self.ids[contact:]
        self.world.divide(*parts)
        self.world.run(NOTICE_S)
        self.opens(contact)
        return NOTICE_S + self.clusters(parts)

    def drawn(self, place: int) -> float:
        """One is drawn out, and the link between the others holds. The same."""
        alone = [self.ids[place - 1]]
        parts = [each for each in self.ids if each not in alone], alone
        self.world.divide(*parts)
        self.world.run(NOTICE_S)
        for contact in (place - 1, place):
            if 1 <= contact < len(self.ids):
                self.opens(contact)
        return NOTICE_S + self.clusters(parts)

    def clusters(self, parts: Collection[list[str]]) -> float:
        """Seconds until the parts are clusters. No other epoch may come on the way, on any node."""
        before = {name: len(self.world.modules[name].accepted) for name in self.ids}
        took = self.world.until(lambda: all(self.world.agrees(part) for part in parts), PULL_S)
        for part in parts:
            for name in part:
                since = self.world.modules[name].accepted[before[name] :]
                demand([each.members for each in since] == [tuple(sorted(part))], f"{name} took {since}")
        return took


def a_chain_is_divided_and_only_those_at_the_contact_feel_it(rules: Rules) -> None:
    took = Chain(rules, 6).divided(3)
    demand(took <= PULL_S, f"the parts were clusters after {took:.2f} s")


def one_side_feels_a_contact_that_still_carries_words(rules: Rules) -> None:
    """A magnet opens before the pins do: the other side has been told by then, and waits no longer, either."""
    chain = Chain(rules, 4)
    chain.opens(2, above=False)
    chain.world.run(0.1)
    parts = chain.ids[:2], chain.ids[2:]
    chain.world.divide(*parts)
    took = chain.clusters(parts)
    demand(took <= PULL_S, f"the parts were clusters after {took:.2f} s")


def a_line_chatters_for_a_minute(rules: Rules) -> None:
    """On a link that loses one beacon in five: nobody is thrown out for it, and the link is not filled with words."""
    chain = Chain(rules, 4)
    _lossy(chain, 0.2)
    said = _said(chain)
    for _ in range(300):
        chain.opens(2)
        chain.world.run(0.2)
    _demand_calm(chain, said, chain.ids)


def a_node_lies_for_a_minute(rules: Rules) -> None:
    """Ten times a second, and each of its beacons tells of a new sign, about the one that leads."""
    chain = Chain(rules, 4)
    _lossy(chain, 0.2)
    said = _said(chain)
    liar, first = chain.world.of(chain.ids[3]), frozenset(chain.ids[:1])
    liar._signs.of = lambda source, now: first  # type: ignore[method-assign]
    for _ in range(600):
        liar._felt += 1
        chain.world.run(0.1)
    _demand_calm(chain, said, chain.ids[:3])


def a_sign_comes_while_a_word_is_lost_now_and_then(rules: Rules) -> None:
    """Whoever is there speaks twice as often now: one word lost takes nobody out of anybody's view."""
    chain = Chain(rules, 6)
    chain.opens(3)
    chain.world.run(0.2)
    for _ in range(5):
        chain.world.isolate(chain.ids[0])
        chain.world.run(0.09)
        chain.world.isolate(chain.ids[0], False)
        for _ in range(3):
            chain.world.run(0.05)
            for name in chain.ids:
                demand(len(chain.world.of(name).mutual) == 5, f"somebody is out of the view of {name}")


def a_contact_opens_again_and_again(rules: Rules) -> None:
    """Signs that were right are believed for ever."""
    chain = Chain(rules, 3)
    for _ in range(8):
        took = chain.divided(2)
        demand(took <= PULL_S, f"the parts were clusters after {took:.2f} s")
        chain.world.divide(chain.ids)
        chain.world.until(lambda: chain.world.agrees(chain.ids), 2.0)


def a_module_is_put_back_at_once(rules: Rules) -> None:
    """Nobody tells it any more what was felt when it was pulled, nor does it tell that itself."""
    chain = Chain(rules, 4)
    chain.divided(3)
    chain.world.divide(chain.ids)
    chain.world.recorded.clear()
    chain.world.run(0.3)
    demand(not any(beacon.felt for beacon in chain.world.recorded), "an old sign was told")


def a_contact_that_was_wrong_opens_later(rules: Rules) -> None:
    """Who was wrong is believed again when it has been calm for half a minute."""
    chain = Chain(rules, 3)
    for _ in range(20):
        chain.opens(2)
        chain.world.run(0.5)
    chain.world.run(31.0)
    took = chain.divided(2)
    demand(took <= PULL_S, f"the parts were clusters after {took:.2f} s")


def _lossy(chain: Chain, share: float) -> None:
    for path in chain.world.paths.values():
        path.loss = share


def _said(chain: Chain) -> dict[str, int]:
    return {name: chain.world.of(name)._seq for name in chain.ids}


def _demand_calm(chain: Chain, before: dict[str, int], names: Collection[str]) -> None:
    """In the minute since ``before``."""
    demand(chain.world.agrees(chain.ids), "the stack is whole")
    for name in names:
        demand(len(chain.world.modules[name].accepted) == 1, f"{name} took {chain.world.modules[name].accepted}")
        pace = (_said(chain)[name] - before[name]) / 60
        demand(pace < 7.0, f"{name} said {pace:.1f} beacons a second")
