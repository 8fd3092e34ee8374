"""A test of the tests: each rule of membership, switched off, is noticed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import membership_scenes as scenes
import membership_sign_scenes as signs
import pytest
from membership_world import BrokenRuleError

from agent.cluster.membership import leader
from agent.cluster.membership import run as membership
from agent.cluster.membership.beacon import Beacon, Felt
from agent.cluster.membership.epoch import Epoch, Stored, Verdict
from agent.cluster.membership.leader import Rank
from agent.cluster.membership.run import Membership, Peer
from agent.cluster.membership.signs import MOST_WRONG, Sign, Signs
from agent.cluster.state import Node

Scene = Callable[..., None]


class OneWay(Membership):
    """Takes everybody who is heard for one who hears."""

    def _is_mutual(self, peer: Peer, now: float) -> bool:
        return True

    def _invited(self, own: Rank) -> tuple[str, ...]:
        return tuple(sorted([self.node.id, *(each for each in self.mutual)]))[:8]


class AnyEcho(Membership):
    def _peer(self, beacon: Beacon, now: float) -> Peer:
        named = any(each.id == self.node.id for each in beacon.heard)
        return Peer(beacon, now, now if named else None, None)


class OldEcho(Membership):
    def _is_mutual(self, peer: Peer, now: float) -> bool:
        return peer.echo is not None


class Replays(Membership):
    def _is_old(self, beacon: Beacon, known: Beacon) -> bool:
        return False

    def _peer(self, beacon: Beacon, now: float) -> Peer:
        return Peer(beacon, now, now, 0.0)


class Hasty(Membership):
    def _may_act(self, members: tuple[str, ...], now: float) -> bool:
        return members == self.view


class Stubborn(Membership):
    def _may_act(self, members: tuple[str, ...], now: float) -> bool:
        return members == self.view and super()._may_act(members, now)


class Nervous(Membership):
    def _is_heard(self, peer: Peer, now: float) -> bool:
        return now - peer.at <= membership.SUSPECT_S


class Patient(OldEcho):
    def _is_heard(self, peer: Peer, now: float) -> bool:
        return now - peer.at <= 1.6


class LateWords(Membership):
    def _is_late(self, peer: Peer, now: float) -> bool:
        return False


class LaterWords(LateWords):
    def _is_mutual(self, peer: Peer, now: float) -> bool:
        return peer.echo is not None and now - peer.echo <= 1.5


class TakesHintsForProof(Membership):
    def _is_heard(self, peer: Peer, now: float) -> bool:
        return super()._is_heard(peer, now) and not self._signs.about(peer.beacon.id, now)


class IgnoresHints(Membership):
    def hint(self, side: object, now: float) -> None:
        return


class FeelsForItself(Membership):
    def _is_told(self, other: str, felt: Felt, now: float) -> None:
        return


class FarSideWaits(Membership):
    def _is_told(self, other: str, felt: Felt, now: float) -> None:
        if self.node.id not in felt.about:
            super()._is_told(other, felt, now)


def with_signs(kind: type[Signs]) -> type[Membership]:
    class WithSigns(Membership):
        def __init__(self, node: Node, stored: Stored) -> None:
            super().__init__(node, stored)
            self._signs = kind()

    return WithSigns


class Unhurried(Signs):
    def wait(self, now: float) -> bool:
        return False


class Credulous(Signs):
    def take(self, source: str, about: Collection[str], now: float) -> bool:
        said = self.of(source, now) >= set(about)
        self._signs[source] = [Sign(frozenset(about), now)]
        return not said


class Disappointed(Signs):
    def left(self, names: frozenset[str]) -> None:
        return


class Resentful(Signs):
    def of(self, source: str, now: float) -> frozenset[str]:
        return frozenset(name for each in self._signs.get(source, ()) if each.counts(now) for name in each.about)


class Trusting(Signs):
    """Of whom an epoch left out, the little that was heard of them is enough again."""

    def about(self, name: str, now: float) -> bool:
        return any(name in each.waits(now) for signs in self._signs.values() for each in signs)


class Unforgiving(Signs):
    taken = 0

    def take(self, source: str, about: Collection[str], now: float) -> bool:
        taken = self.taken < MOST_WRONG and super().take(source, about, now)
        self.taken += taken
        return taken


class OwnTermsAlone(Membership):
    def _next_term(self) -> int:
        return self.term + 1


class AnyTerm(Membership):
    def _is_newer(self, epoch: Epoch) -> bool:
        return epoch != self.epoch


class SameTerm(Membership):
    def _next_term(self) -> int:
        return max(self.term, 1)


class NoFencing(Membership):
    def admits(self, token: str) -> Verdict:
        return "current"


class NotSticky(Membership):
    def _reigns(self) -> bool:
        return False


class NeverLaysDown(Membership):
    def _reigns(self) -> bool:
        return self._present() > 1


class NoRestarts(Membership):
    def _needs_epoch(self, members: tuple[str, ...], lives: object) -> bool:
        return self.epoch is None or not self.leads or self.epoch.members != members


class NoClique(Membership):
    def _invited(self, own: Rank) -> tuple[str, ...]:
        return tuple(sorted([self.node.id, *self.mutual]))


class AgesAnyTime(Membership):
    def _may_age(self) -> bool:
        return self.leads


class CountsTheLost(Membership):
    def _present(self) -> int:
        return len(self.epoch.members) if self.epoch is not None and self.leads else 0


class EverybodyLeads(Membership):
    def _candidates(self) -> list[Rank]:
        return []


class NeverCountsOn(Membership):
    def _begin_again(self, incarnation: int) -> None:
        return


def ranked(change: Callable[[Rank], Rank]) -> type[Membership]:
    """All nodes rank alike, by another rule."""

    def wrong(beacon: Beacon) -> Rank:
        return change(leader.rank(beacon.node, beacon.reigns, beacon.present, beacon.lived))

    class Ranked(Membership):
        def _candidates(self) -> list[Rank]:
            said = [peer.beacon for peer in self.mutual.values()]
            return [wrong(each) for each in said if each.vote == each.id and self.node.id in each.view]

        def _review(self, now: float) -> None:
            if self._said is not None:
                self._said.__dict__["rank"] = wrong(self._said)
            for peer in self.peers.values():
                peer.beacon.__dict__["rank"] = wrong(peer.beacon)
            super()._review(now)

        def _invited(self, own: Rank) -> tuple[str, ...]:
            return super()._invited(change(own))

    return Ranked


MUTANTS: dict[str, tuple[Scene, Callable[..., Membership]]] = {
    "hearing one way is enough": (scenes.a_link_is_cut_one_way, OneWay),
    "any echo counts": (scenes.an_old_recording_is_played_to_a_newcomer, AnyEcho),
    "old echoes count": (scenes.beacons_are_seconds_late, OldEcho),
    "late words are hearing": (scenes.one_way_takes_seconds, LateWords),
    "later words are hearing": (scenes.late_words_land_on_a_path_that_is_cut, LaterWords),
    "no check of replays": (scenes.an_old_recording_is_played, Replays),
    "no wait for a stable view": (scenes.a_silence_of_a_little_more_than_a_second, Hasty),
    "waits for a vote for ever": (scenes.an_invited_node_never_votes, Stubborn),
    "dropped too soon": (scenes.a_short_silence, Nervous),
    "dropped too late": (scenes.a_node_is_pulled, Patient),
    "a hint is a proof": (scenes.a_line_opens_and_nothing_is_gone, TakesHintsForProof),
    "hints ignored": (scenes.a_node_is_pulled_and_its_line_opens, IgnoresHints),
    "signs told to nobody": (signs.a_chain_is_divided_and_only_those_at_the_contact_feel_it, FeelsForItself),
    "no sign for the far side": (signs.one_side_feels_a_contact_that_still_carries_words, FarSideWaits),
    "a sign hurries nobody": (signs.a_sign_comes_while_a_word_is_lost_now_and_then, with_signs(Unhurried)),
    "a chattering line believed": (signs.a_line_chatters_for_a_minute, with_signs(Credulous)),
    "a liar believed": (signs.a_node_lies_for_a_minute, with_signs(Credulous)),
    "signs that were right held against their source": (
        signs.a_contact_opens_again_and_again,
        with_signs(Disappointed),
    ),
    "old signs told to who is back": (signs.a_module_is_put_back_at_once, with_signs(Resentful)),
    "who is gone is missed no more": (signs.a_contact_opens_again_and_again, with_signs(Trusting)),
    "three signs and no more": (signs.a_contact_that_was_wrong_opens_later, with_signs(Unforgiving)),
    "terms of others ignored": (scenes.a_node_of_higher_terms_joins, OwnTermsAlone),
    "older terms accepted": (scenes.a_node_of_higher_terms_joins, type("", (AnyTerm, OwnTermsAlone), {})),
    "terms made twice": (scenes.a_node_is_pulled, SameTerm),
    "older orders taken": (scenes.a_node_is_pulled, NoFencing),
    "not sticky": (scenes.a_better_one_joins, NotSticky),
    "the lead is never laid down": (scenes.the_supply_moves, NeverLaysDown),
    "a restart goes unnoticed": (scenes.a_node_restarts_in_a_blink, NoRestarts),
    "no clique": (scenes.a_middle_hears_both_ends, NoClique),
    "everybody leads": (scenes.the_lowest_id_leads, EverybodyLeads),
    "members who have gone count": (scenes.two_stacks_are_dealt_anew, CountsTheLost),
    "leaders age while they meet": (scenes.two_leaders_meet_as_they_come_of_age, AgesAnyTime),
    "a lost count is never found": (scenes.a_disk_is_set_back, NeverCountsOn),
    "terms forgotten over a restart": (partial(scenes.everybody_restarts, keeps=False), Membership),
    "no external power first": (scenes.external_power_leads, ranked(lambda r: (r[0], 0.0, r[2], r[3]))),
    "no battery second": (scenes.the_highest_battery_leads, ranked(lambda r: (r[0], r[1], 0.0, r[3]))),
    "no size at a merge": (scenes.the_larger_side_wins, ranked(lambda r: (r[0], 0.0, r[2], r[3]))),
    "no age at a merge": (scenes.the_longer_lived_side_wins, ranked(lambda r: (r[0], r[1], 0.0, r[3]))),
}
ALL = [
    each
    for module in (scenes, signs)
    for each in vars(module).values()
    if callable(each) and getattr(each, "__module__", "") == module.__name__
]
SCENES = [each for each in ALL if "rules" in each.__annotations__ and "count" not in each.__annotations__]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_with_every_rule_on_no_directed_world_breaks(scene: Scene) -> None:
    scene(Membership)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_switched_off_is_noticed(name: str) -> None:
    scene, rules = MUTANTS[name]
    with pytest.raises(BrokenRuleError):
        scene(rules)
