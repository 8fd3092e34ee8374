"""A test of the tests: each rule of the power contract, switched off, is noticed. And none of the worlds that notice
breaks where all rules are on.
"""

from __future__ import annotations

from collections.abc import Callable

import power_mutants as mutants
import power_scenes as scenes
import pytest
from power_module import Rules
from power_oracle import BrokenRuleError

Scene = Callable[[Rules], None]

MUTANTS: dict[str, tuple[Rules, Scene]] = {
    "no expiry": (Rules(node=mutants.NeverEnds), scenes.a_node_hears_nothing),
    "lease from receipt": (Rules(node=mutants.FromReceipt), scenes.an_answer_is_late),
    "no fencing": (Rules(node=mutants.NoFencing), scenes.a_late_grant_of_an_earlier_term),
    "term forgotten": (Rules(keeps_term=False), scenes.a_node_restarts),
    "no check of the boot": (Rules(node=mutants.AnyBoot), scenes.a_late_grant_of_an_earlier_boot),
    "no check of the node": (Rules(node=mutants.AnyNode), scenes.a_plain_stack),
    "no check of replays by the node": (Rules(node=mutants.Replays), scenes.everything_comes_twice),
    "alert ignored": (Rules(node=mutants.DeafToAlerts), scenes.an_alert),
    "requests outlive an alert": (Rules(node=mutants.RemembersOverAlerts), scenes.an_alert),
    "more than granted": (Rules(node=mutants.TakesThePeak), scenes.a_plain_stack),
    "no quiet": (Rules(allocator=mutants.NoQuiet), scenes.the_allocator_restarts_while_a_node_is_cut_off),
    "no silence": (Rules(allocator=mutants.NoSilence), scenes.the_allocator_restarts_while_a_node_is_cut_off),
    "raises in the quiet": (
        Rules(allocator=mutants.RaisesInQuiet),
        scenes.the_allocator_restarts_while_nodes_want_more,
    ),
    "no nonce": (Rules(allocator=mutants.NoNonce), scenes.a_late_request_of_an_earlier_term),
    "no check of replays by the allocator": (Rules(allocator=mutants.AnswersTwice), scenes.everything_comes_twice),
    "raise before decrease": (Rules(allocator=mutants.RaisesFirst), scenes.a_decrease_is_lost),
    "old grants forgotten": (Rules(allocator=mutants.ForgetsOldGrants), scenes.a_decrease_is_lost),
    "perfect clocks": (mutants.perfect_clocks(), scenes.a_decrease_is_lost),
    "no limits of contacts": (Rules(allocator=mutants.NoContacts), scenes.contacts_are_narrow),
    "no limit of the supply": (Rules(allocator=mutants.NoSupplyLimit), scenes.a_decrease_is_lost),
    "no floors for the silent": (Rules(allocator=mutants.ForgetsTheSilent), scenes.a_module_never_comes_back),
    "no admission": (Rules(allocator=mutants.AdmitsEveryone), scenes.floors_do_not_fit),
    "an admitted node forgotten": (Rules(allocator=mutants.ForgetsTheAdmitted), scenes.an_admitted_node_falls_silent),
    "no alert when the supply shrinks": (Rules(allocator=mutants.NoGuard), scenes.the_supply_shrinks),
    "no alert after a move": (Rules(allocator=mutants.NeverUnsure), scenes.the_supply_moves_and_is_weaker),
    "sure too soon": (Rules(allocator=mutants.SureTooSoon), scenes.the_new_allocator_restarts_at_once),
    "authority without a supply": (Rules(allocator=mutants.NeedsNoSupply), scenes.the_old_allocator_notices_nothing),
    "authority by message": (Rules(allocator=mutants.Obeys), scenes.somebody_claims_the_supply),
    "a higher term wins": (Rules(allocator=mutants.Outdone), scenes.the_new_allocator_missed_many_terms),
    "book ignored": (Rules(allocator=mutants.IgnoresTheBook), scenes.the_supply_is_handed_over),
    "no priorities": (Rules(allocator=mutants.NoRanks), scenes.a_plain_stack),
    "no hysteresis": (Rules(allocator=mutants.NoHysteresis), scenes.alerts_again_and_again),
    "no back-off": (Rules(allocator=mutants.NoBackOff), scenes.alerts_again_and_again),
}
SCENES = sorted({scene for _, scene in MUTANTS.values()}, key=lambda scene: scene.__name__)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_with_every_rule_on_no_directed_world_breaks(scene: Scene) -> None:
    scene(Rules())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_switched_off_is_noticed(name: str) -> None:
    rules, scene = MUTANTS[name]
    with pytest.raises(BrokenRuleError):
        scene(rules)
