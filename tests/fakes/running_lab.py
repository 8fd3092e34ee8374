"""A lab of real agents, and what they did: the epochs that each of them took, as its log tells them."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.cli_lab_watch import Logs
from agent.client import Client, ClientError
from agent.config import Config
from agent.lab import Lab, LabAgent, loopback_lab

START_S = 100.0  # the machine may be busy
WITHIN_S = 60.0
SETTINGS = {"models.preload": "", "limits.cluster_per_minute": "0", "cluster.mdns": "false"}
_EPOCH = re.compile(r"(\S+) .* epoch (\d+) of the stack \(([^)]+)\): (.*)")


@dataclass(frozen=True)
class Taken:
    """An epoch that a node took. ``at``: the wall clock of its machine, in seconds."""

    at: float
    term: int
    token: str
    members: frozenset[str]  # modules


class RunningLab:
    """``world`` has the hands; ``agents`` are by module."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.world = lab, lab.world
        self.agents: Mapping[str, LabAgent] = lab.agents
        self.modules = tuple(lab.agents)
        self._names = {agent.node: module for module, agent in lab.agents.items()}
        self._logs = Logs(lab.agents.values())
        self._taken: dict[str, list[Taken]] = {module: [] for module in self.modules}

    def start(self) -> None:
        self.lab.start()
        missing = self.lab.wait(START_S)
        assert not missing, "\n".join(f"{each.module}: {each.ended}\n{each.log.read_text()}" for each in missing)

    def epochs(self, module: str) -> list[Taken]:
        """All that it took since the lab was made, over restarts.

        Each line of a log is read once: the World lives in this process, too, and who keeps it from its work delays
        the words of all nodes.
        """
        for speaker, line in self._logs.news():
            match = _EPOCH.match(line) if " of the stack (" in line else None
            if match is not None:
                when = datetime.fromisoformat(match[1].replace("Z", "+00:00")).timestamp()
                members = frozenset(self._names[each] for each in re.findall(r"node-\w+", match[4]))
                self._taken[speaker].append(Taken(when, int(match[2]), match[3], members))
        return self._taken[module]

    def together(self, *modules: str) -> Taken:
        """Wait until these (all), and no others, are in one epoch, and each of them says so when it is asked."""
        chosen = modules or self.modules

        def agreed() -> bool:
            newest = [taken[-1] for taken in map(self.epochs, chosen) if taken]
            return (
                len(newest) == len(chosen)
                and len({each.token for each in newest}) == 1
                and newest[0].members == frozenset(chosen)
                and len({self.said(each) for each in chosen}) == 1
                and (newest[0].term, newest[0].members) == self.said(chosen[0])[1:]
            )

        until(agreed, lambda: "\n".join(f"{each}: {self.epochs(each)[-3:]}, says {self.said(each)}" for each in chosen))
        return self.epochs(chosen[0])[-1]

    def said(self, module: str) -> tuple[str, int, frozenset[str]]:
        """Leader, epoch and members, as ``/v1/topology`` of that agent has them."""
        try:
            body = self.topology(module)
        except ClientError as error:
            return str(error), 0, frozenset()
        return self._names[body["leader"]], int(body["epoch"]), frozenset(self._names[e["id"]] for e in body["nodes"])

    def leader(self, module: str) -> str:
        return self.said(module)[0]

    def topology(self, module: str) -> dict[str, Any]:
        return self.client(module).get("/v1/topology")

    def client(self, module: str) -> Client:
        agent = self.agents[module]
        return Client(agent.address, self.lab.port, agent.owner_key, timeout_s=10.0)

    def check_history(self) -> None:
        """What must be true of all epochs that were ever taken: no node went back, and a token names one set."""
        members: dict[str, frozenset[str]] = {}
        for module in self.modules:
            taken = self.epochs(module)
            for before, after in pairwise(taken):
                assert after.term > before.term, f"{module} went from {before} to {after}"
            for each in taken:
                assert module in each.members, f"{module} took an epoch that it is not in: {each}"
                of_leader = each.token.rpartition(".")[0]  # term and leader, without the digest of the members
                assert members.setdefault(of_leader, each.members) == each.members, f"two epochs are {of_leader}"


def until(wanted: Callable[[], bool], told: Callable[[], str] = str, seconds: float = WITHIN_S) -> None:
    ends = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < ends, f"it did not come about in time: {told()}"
        time.sleep(0.05)


@contextlib.contextmanager
def running(make: Callable[[], Lab]) -> Iterator[RunningLab]:
    """The lab that ``make`` makes, running. In the end nobody may have taken an epoch against the rules."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("THOX_"):
                patch.delenv(name)
        lab = RunningLab(make())
    try:
        lab.start()
        yield lab
        lab.check_history()
    finally:
        lab.lab.close()


def loopback(folder: Path, count: int, *, apart: bool = False) -> Callable[[], Lab]:
    """For ``running``."""
    return lambda: loopback_lab(Config(state_dir=folder), count, SETTINGS, apart)
