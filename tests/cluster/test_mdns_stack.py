"""The service behind port 5381 tells the LAN what is true of the stack, and the device's owner when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from answering_stack import AnsweringNode, AnsweringStack
from asker import until
from lan import Lan, why_not

from agent.cluster.mdns.find import find
from agent.config import ServerConfig

_why = why_not()


class ToldNode(AnsweringNode):
    """A module whose server is there for the LAN."""

    bind = "0.0.0.0"

    def prepared(self) -> None:
        self.service.announce(ServerConfig(bind=self.bind))


class ToldStack(AnsweringStack):
    module = ToldNode


class MisplacedNode(ToldNode):
    bind = "198.51.100.77"


class MisplacedStack(AnsweringStack):
    module = MisplacedNode


@pytest.mark.skipif(bool(_why), reason=_why)
def test_the_lan_hears_who_leads_which_cluster_whenever_that_changes_and_nothing_after_the_end(tmp_path: Path) -> None:
    def told() -> list[tuple[str, str, str]]:
        return sorted((each.node, each.cluster, each.role) for each in find(0.5))

    with Lan() as lan, lan.host("10.0.0.1/24"):
        stack = ToldStack(tmp_path, 2)
        try:
            one, other = (node.id for node in stack.nodes)
            together = stack.together().id
            until(lambda: told() == [(one, together, "leader"), (other, together, "follower")])
            stack.world.unstack("module-2")
            stack.world.cut("module-1", "module-2")
            stack.world.cut("module-2", "module-1")
            until(lambda: [role for _, _, role in told()] == ["leader", "leader"])
            assert stack.members[0].service.report().checks["mdns"] == "ok"
        finally:
            stack.close()
        assert told() == []


def test_health_says_that_the_lan_cannot_find_the_device(tmp_path: Path) -> None:
    stack = MisplacedStack(tmp_path, 1)
    try:
        (node,) = stack.members
        until(lambda: node.service.report().checks["mdns"] != "ok")
        assert node.service.report().checks["mdns"] == "no mDNS: no network has the address 198.51.100.77"
        assert not node.service.report().healthy
    finally:
        stack.close()
