"""The power contract of whole nodes over real links, in real time."""

from __future__ import annotations

from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from powered_stack import powered_stack
from touching_stack import until

from agent.api import schema_power
from agent.api.render_power import contracts_object
from agent.cluster.power.wire import Ask
from agent.errors import UnavailableError


def test_three_nodes_share_a_supply_over_their_links_and_it_may_move(tmp_path: Path) -> None:
    with powered_stack(tmp_path, 3) as (nodes, watcher):
        first, second, third = nodes
        until(lambda: sorted(watcher.caps()) == [15.0, 20.0, 20.0])
        watcher.watts = 65.0
        grant = second.service.contracts.request(Ask(third.id, 30.0, 15.0, "high", 600.0))
        assert (grant.promise.node_id, grant.granted_w, grant.supply_w) == (third.id, 30.0, 65.0)
        until(lambda: sorted(watcher.caps()) == [10.0, 15.0, 30.0])
        for node in nodes:
            body = contracts_object(node.service.contracts.books(), node.service.contracts.standing(), "simulated")
            jsonschema.validate(body, schema_power.CONTRACTS)
            assert [one["id"] for one in body["data"]] == [grant.promise.id]  # type: ignore[attr-defined]
            assert {one["shared_by"] for one in body["nodes"]} == {first.id}  # type: ignore[attr-defined]

        watcher.watts = 0.0  # for as long as nobody can know yet
        first.world.unplug("module-1")
        first.world.plug("module-2", 65.0)
        until(lambda: all(node.service.power.seat.holder == second.id for node in nodes))
        until(lambda: watcher.caps() == [10.0, 10.0, 10.0])
        watcher.watts = 65.0
        until(lambda: watcher.caps()[2] == 30.0)
        assert first.service.contracts.cancel(grant.promise.id) == grant.promise.id

        second.stop()  # a supply whose module says nothing: the floor, and no promise
        until(lambda: watcher.caps() == [10.0, 10.0, 10.0])
        with pytest.raises(UnavailableError):
            third.service.contracts.request(Ask(first.id, 20.0, 0.0, "normal", 60.0))
