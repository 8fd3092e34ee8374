"""A lab whose agents each live in a network namespace, joined by real links; the rest of their hardware is a World.

    agent 1 ─ thox0 ─┐                 ┌─ thox0 ─ agent 3
                     ├ lower ═ trunk ═ upper
    agent 2 ─ thox0 ─┘                 └─ thox0 ─ agent 4       and lan0 of each on a third bridge, for the tests

The bridges are in a namespace of their own; of the test's own only one interface is needed, lab<pid>, on the third.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from running_lab import SETTINGS

from agent.config import Config
from agent.lab import Lab, LabAgent, stack_of
from hal.world_wire import SOCKET

_IP, _NFT = shutil.which("ip") or "/usr/sbin/ip", shutil.which("nft") or "/usr/sbin/nft"
_PREFIX = "thoxlab"


def why_not() -> str:
    """Why no namespaces can be made here; empty when they can."""
    for tool, package in ((_IP, "iproute2"), (_NFT, "nftables")):
        if not Path(tool).exists():
            return f"{tool} is missing: apt-get install {package}"
    name = f"{_PREFIX}-{os.getpid()}-try"
    try:
        _run(_IP, "netns", "add", name)
        try:
            _run(_IP, "netns", "exec", name, _NFT, "list", "ruleset")
        finally:
            _run(_IP, "netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    return ""


class Network:
    """Makes the namespaces; ``close`` removes them. Modules are counted from 1."""

    def __init__(self, count: int) -> None:
        _sweep()
        self._pid, self._lan = os.getpid(), f"198.18.{os.getpid() % 250}"
        self._switch = f"{_PREFIX}-{self._pid}-switch"
        self._made: list[str] = []
        try:
            self._make(self._switch)
            for bridge in ("lan", "lower", "upper"):
                self._in(self._switch, "link", "add", bridge, "type", "bridge")
                self._in(self._switch, "link", "set", bridge, "up")
            self._in(self._switch, "link", "add", "trunk0", "type", "veth", "peer", "name", "trunk1")
            self._plug("trunk0", "lower")
            self._plug("trunk1", "upper")
            _run(_IP, *f"link add lab{self._pid} type veth peer name test netns {self._switch}".split())
            self._plug("test", "lan")
            _run(_IP, "addr", "add", f"{self._lan}.254/24", "dev", f"lab{self._pid}")
            _run(_IP, "link", "set", f"lab{self._pid}", "up")
            for number in range(1, count + 1):
                self._module(number, "lower" if number <= count // 2 else "upper")
        except BaseException:
            self.close()
            raise

    def name(self, number: int) -> str:
        """Of a module's namespace."""
        return f"{_PREFIX}-{self._pid}-{number}"

    def lan(self, number: int) -> str:
        """Where the test reaches it."""
        return f"{self._lan}.{number}"

    @staticmethod
    def link(number: int) -> str:
        """Of its end of the link between modules."""
        return f"169.254.81.{number}"

    def pull(self, number: int) -> None:
        """The cable of its link: both ends lose their carrier."""
        self._in(self._switch, "link", "set", f"link{number}", "down")

    def plug(self, number: int) -> None:
        self._in(self._switch, "link", "set", f"link{number}", "up")

    def divide(self) -> None:
        """Pull the trunk: all keep their carrier."""
        self._in(self._switch, "link", "set", "trunk0", "down")

    def unite(self) -> None:
        self._in(self._switch, "link", "set", "trunk0", "up")

    def cut(self, source: int, target: int) -> None:
        """All that comes from ``source`` over the link is lost, the other way is not."""
        self._rule(target, f"ip saddr {self.link(source)} drop")

    def lose(self, number: int, percent: int) -> None:
        """So many of the packets that come over the link, by chance."""
        self._rule(number, f"iifname thox0 numgen random mod 100 < {percent} counter drop")

    def lost(self, number: int) -> int:
        """Packets, by ``lose``."""
        counted = _run(_IP, "netns", "exec", self.name(number), _NFT, "list", "chain", "inet", "lab", "in")
        return sum(int(each) for each in re.findall(r"counter packets (\d+)", counted))

    def mend(self, number: int) -> None:
        """End what is cut or lost on the way to it."""
        _run(_IP, "netns", "exec", self.name(number), _NFT, "flush", "chain", "inet", "lab", "in")

    def close(self) -> None:
        for name in self._made:
            _run(_IP, "netns", "del", name)
        self._made.clear()

    def _module(self, number: int, bridge: str) -> None:
        name = self.name(number)
        self._make(name)
        for own, peer, on, address in (
            ("thox0", f"link{number}", bridge, f"{self.link(number)}/16"),
            ("lan0", f"lan{number}", "lan", f"{self.lan(number)}/24"),
        ):
            _run(_IP, *f"link add {own} netns {name} type veth peer name {peer} netns {self._switch}".split())
            self._plug(peer, on)
            self._in(name, "addr", "add", address, "dev", own)
            self._in(name, "link", "set", own, "up")
        table = "add table inet lab; add chain inet lab in { type filter hook input priority 0; }"
        _run(_IP, "netns", "exec", name, _NFT, table)

    def _make(self, name: str) -> None:
        _run(_IP, "netns", "add", name)
        self._made.append(name)
        self._in(name, "link", "set", "lo", "up")

    def _plug(self, interface: str, bridge: str) -> None:
        self._in(self._switch, "link", "set", interface, "master", bridge, "up")

    def _in(self, name: str, *line: str) -> None:
        _run(_IP, "-n", name, *line)

    def _rule(self, number: int, rule: str) -> None:
        _run(_IP, "netns", "exec", self.name(number), _NFT, f"add rule inet lab in {rule}")


def network_lab(folder: Path, network: Network, count: int) -> Lab:
    """Modules in one stack, the lowest on a supply."""
    modules = {number: f"module-{number}" for number in range(1, count + 1)}
    agents = [
        LabAgent(
            module,
            network.lan(number),
            folder / module,
            {
                **SETTINGS,
                "state_dir": str(folder / module),
                "server.bind": network.lan(number),
                "hardware.world": str(folder / SOCKET),
                "hardware.module": module,
                "hardware.wiring": "link=thox0",
            },
            (_IP, "netns", "exec", network.name(number)),
        )
        for number, module in modules.items()
    ]
    world = stack_of({module: network.link(number) for number, module in modules.items()})
    return Lab(folder, world, agents, Config(folder).server.cluster_port)


def _sweep() -> None:
    """What a test left that was killed."""
    for line in _run(_IP, "netns", "list").splitlines():
        name = line.split()[0]
        parts = name.split("-")
        if parts[0] == _PREFIX and parts[1].isdecimal() and not Path("/proc", parts[1]).exists():
            _run(_IP, "netns", "del", name)


def _run(*line: str) -> str:
    return subprocess.run(line, check=True, capture_output=True, text=True, timeout=30).stdout
