"""What the terminal of a lab tells while it runs: the clusters that its devices are in, and what they log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from agent.cli_access import own_key
from agent.client import Client, ClientError
from agent.lab import Lab, LabAgent

_ASKED = "/v1/topology"
_ANSWER_S = 2.0


class Logs:
    """Of several agents, as they grow."""

    def __init__(self, agents: Iterable[LabAgent]) -> None:
        self._read = dict.fromkeys(agents, 0)

    def news(self) -> Iterator[tuple[str, str]]:
        """Module and line, whole lines only; what the lab itself asks all the time is left out."""
        for agent, read in self._read.items():
            with agent.log.open("rb") as log:
                log.seek(read)
                new, end, _ = log.read().rpartition(b"\n")
            self._read[agent] = read + len(new + end)
            for line in new.decode(errors="replace").splitlines():
                if _ASKED not in line:
                    yield agent.module, line


@dataclass(frozen=True, slots=True)
class _Cluster:
    """As one of its nodes tells."""

    id: str
    epoch: int
    leader: str
    members: frozenset[str]


class Clusters:
    """Asks every device which cluster it is in, with the command line's own key for each."""

    def __init__(self, lab: Lab) -> None:
        self._agents = tuple(lab.agents.values())
        self._modules = {agent.node: agent.module for agent in self._agents}
        self._clients: dict[str, Client] = {}
        for agent in self._agents:
            self._clients[agent.module] = Client(agent.address, lab.port, own_key(agent.state_dir), _ANSWER_S)
        self._told: frozenset[str] = frozenset()

    def news(self) -> list[str]:
        """Nothing, or all of it as it is now."""
        with ThreadPoolExecutor(len(self._agents)) as pool:
            found = list(pool.map(self._cluster, self._clients.values()))
        lines: list[str] = []
        for cluster in dict.fromkeys(found):
            those = [agent.module for agent, its in zip(self._agents, found, strict=True) if its == cluster]
            lines.append(self._line(cluster, those))
        if self._told == frozenset(lines):
            return []
        self._told = frozenset(lines)
        now = time.strftime("%H:%M:%S")
        return [f"{now if number == 0 else ' ' * len(now)}  {line}" for number, line in enumerate(lines)]

    def _cluster(self, client: Client) -> _Cluster | None:
        try:
            body = client.get(_ASKED)
        except ClientError:
            return None
        members = frozenset(str(node["id"]) for node in body["nodes"])
        return _Cluster(str(body["cluster_id"]), int(body["epoch"]), str(body["leader"]), members)

    def _line(self, cluster: _Cluster | None, those: list[str]) -> str:
        if cluster is None:
            return f"{', '.join(those)}: no answer"
        members = sorted(self._modules.get(each, each) for each in cluster.members)
        leader = self._modules.get(cluster.leader, cluster.leader)
        said = "" if sorted(those) == members else f" (so say {', '.join(those)})"
        return f"{cluster.id}, epoch {cluster.epoch}: {', '.join(members)}; {leader} leads{said}"
