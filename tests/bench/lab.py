"""``PYTHONPATH=.:tests/fakes python tests/bench/lab.py``: how long a stack of four real agents takes to agree.

From a hand's move to the moment when the last of the nodes concerned took the epoch that names them all, by the times
in their logs; seconds, the median and the worst of so many rounds. It asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from network_lab import Network, network_lab
from running_lab import RunningLab, loopback, running

from agent.cluster.trust.service import TrustService

ALL = ("module-1", "module-2", "module-3", "module-4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--networks", action="store_true", help="over real links between network namespaces (root)")
    parser.add_argument("--only", default="", help="of the measures, those whose name contains this")
    options = parser.parse_args()
    with _lab(options.networks) as (lab, network):
        lab.together()
        _say(f"{'s, of ' + str(options.rounds) + ' rounds':44}{'median':>8}{'worst':>8}{'least':>8}   load")
        for name, measure in _measures(lab, network).items():
            if options.only in name:
                taken = [measure() for _ in range(options.rounds)]
                numbers = f"{statistics.median(taken):8.2f}{max(taken):8.2f}{min(taken):8.2f}"
                _say(f"{name:44}{numbers}   {os.getloadavg()[0]:.1f}")


def _measures(lab: RunningLab, network: Network | None) -> dict[str, Callable[[], float]]:
    """Each leaves the stack whole."""

    def pull() -> float:
        def hand() -> None:
            lab.world.unstack("module-4")
            if network is not None:
                network.pull(4)

        return _taken(lab, hand, ALL[:3], ALL[3:])

    def put() -> float:
        def hand() -> None:
            lab.world.stack("module-3", "module-4")
            if network is not None:
                network.plug(4)

        return _taken(lab, hand, ALL)

    def pulled() -> float:
        try:
            return pull()
        finally:
            put()

    def met() -> float:
        pull()
        return put()

    def touched_first() -> float:
        pull()
        agent = lab.agents["module-4"]
        TrustService(agent.state_dir, agent.device).leave()  # it trusts nobody, and has a new stack of its own
        return put()

    def divide() -> float:
        def hand() -> None:
            lab.world.unstack("module-3")
            if network is not None:
                network.divide()

        return _taken(lab, hand, ALL[:2], ALL[2:])

    def unite() -> float:
        def hand() -> None:
            lab.world.stack("module-2", "module-3")
            if network is not None:
                network.unite()

        return _taken(lab, hand, ALL)

    def divided() -> float:
        try:
            return divide()
        finally:
            unite()

    def merged() -> float:
        divide()
        return unite()

    def killed(module: str) -> float:
        agent = lab.agents[module]
        try:
            return _taken(lab, agent.kill, tuple(each for each in ALL if each != module))
        finally:
            agent.start()
            lab.together()

    return {
        "touch of a stranger to one cluster": touched_first,
        "touch of a known device to one cluster": met,
        "a module pulled to a new view on both sides": pulled,
        "divided 2 + 2 to two clusters": divided,
        "halves that meet to one cluster": merged,
        "follower killed to a new view": lambda: killed("module-3"),
        "leader killed to a new leader": lambda: killed("module-1"),
    }


def _taken(lab: RunningLab, hand: Callable[[], None], *clusters: tuple[str, ...]) -> float:
    """Seconds from ``hand`` until these are the clusters."""
    began = time.time()
    hand()
    for cluster in clusters:
        lab.together(*cluster)
    return max(lab.epochs(module)[-1].at for cluster in clusters for module in cluster) - began


@contextlib.contextmanager
def _lab(networks: bool) -> Iterator[tuple[RunningLab, Network | None]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        network = Network(len(ALL)) if networks else None
        if network is None:
            yield stack.enter_context(running(loopback(Path(folder), len(ALL)))), None
        else:
            stack.callback(network.close)
            yield stack.enter_context(running(lambda: network_lab(Path(folder), network, len(ALL)))), network


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
