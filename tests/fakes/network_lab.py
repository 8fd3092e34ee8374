"""A lab whose agents each live in a network namespace, joined by real links; the rest of their hardware is a World.

    agent 1 ─ thox0 ─┐                 ┌─ thox0 ─ agent 3
                     ├ lower ═ trunk ═ upper
    agent 2 ─ thox0 ─┘                 └─ thox0 ─ agent 4       and lan0 of each on a third bridge, for the tests

``slow`` puts switches in the place of the bridges lower and upper which keep each frame a while.
It is a LAN of this machine's own; of the test's namespace only one interface is needed, lab<pid>, on the third bridge.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import lan
from lan import Host, Lan
from running_lab import SETTINGS
from slow_switch import SlowSwitch, whole_frames

from agent.config import Config
from agent.lab import Lab, LabAgent, stack_of
from hal.world_wire import SOCKET


def why_not() -> str:
    """Why no such lab can be made here; empty when it can."""
    return lan.why_not() or ("" if shutil.which("nft") else "nft is missing: apt-get install nftables")


class Network:
    """Makes the namespaces; ``close`` removes them. Modules are counted from 1."""

    def __init__(self, count: int) -> None:
        self._test, self._network = f"lab{os.getpid()}", f"198.18.{os.getpid() % 250}"
        self._lan = Lan("lan", "lower", "upper")
        self._modules: list[Host] = []
        self._ports = {"lower": ["trunk0"], "upper": ["trunk1"]}
        self._slow: list[SlowSwitch] = []
        try:
            switch = self._lan.switch
            switch.ip("link add trunk0 type veth peer name trunk1")
            switch.ip("link set trunk0 master lower up")
            switch.ip("link set trunk1 master upper up")
            _ip(f"link add {self._test} type veth peer name test netns {switch.path}")
            switch.ip("link set test master lan up")
            _ip(f"address add {self._network}.254/24 dev {self._test}")
            _ip(f"link set {self._test} up")
            for number in range(1, count + 1):
                self._module(number, "lower" if number <= count // 2 else "upper")
        except BaseException:
            self.close()
            raise

    def within(self, number: int) -> tuple[str, ...]:
        """A command that runs the rest of its line on that module."""
        return self._modules[number - 1].within

    def lan(self, number: int) -> str:
        """Where the test reaches it."""
        return f"{self._network}.{number}"

    @staticmethod
    def link(number: int) -> str:
        """Of its end of the link between modules."""
        return f"169.254.81.{number}"

    def pull(self, number: int) -> None:
        """The cable of its link: both ends lose their carrier."""
        self._lan.switch.ip(f"link set link{number} down")

    def plug(self, number: int) -> None:
        self._lan.switch.ip(f"link set link{number} up")

    def divide(self) -> None:
        """Pull the trunk: all keep their carrier."""
        self._lan.switch.ip("link set trunk0 down")

    def unite(self) -> None:
        self._lan.switch.ip("link set trunk0 up")

    def cut(self, source: int, target: int) -> None:
        """All that comes from ``source`` over the link is lost, the other way is not."""
        self._nft(target, f"add rule inet lab in ip saddr {self.link(source)} drop")

    def lose(self, number: int, percent: int) -> None:
        """So many of the packets that come over the link, by chance."""
        self._nft(number, f"add rule inet lab in iifname thox0 numgen random mod 100 < {percent} counter drop")

    def lost(self, number: int) -> int:
        """Packets, by ``lose``."""
        counted = self._nft(number, "list chain inet lab in")
        return sum(int(each) for each in re.findall(r"counter packets (\d+)", counted))

    def mend(self, number: int) -> None:
        """End what is cut or lost on the way to it."""
        self._nft(number, "flush chain inet lab in")

    def slow(self, shortest_s: float, longest_s: float) -> list[SlowSwitch]:
        """So long is every frame between modules on its way from now on, whatever is on its way already; every tenth
        comes twice. Until ``quick``."""
        if not self._slow:
            for seed, ports in enumerate(self._ports.values()):
                self._slow.append(SlowSwitch(self._lan.switch, ports, trunk=ports[0], doubled=0.1, seed=seed))
        for switch in self._slow:
            switch.delay_s = (shortest_s, longest_s)
        return self._slow

    def quick(self) -> None:
        """The bridges again."""
        while self._slow:
            self._slow.pop().close()
        for bridge, ports in self._ports.items():
            for port in ports:
                self._lan.switch.ip(f"link set {port} master {bridge}")

    def close(self) -> None:
        while self._slow:
            self._slow.pop().close()
        if Path("/sys/class/net", self._test).exists():
            _ip(f"link del {self._test}")
        self._lan.close()

    def _module(self, number: int, bridge: str) -> None:
        host = self._lan.host()
        self._modules.append(host)
        self._lan.plug(host, "thox0", f"{self.link(number)}/16", bridge=bridge, port=f"link{number}")
        self._ports[bridge].append(f"link{number}")
        whole_frames(host, "thox0")
        self._lan.plug(host, "lan0", f"{self.lan(number)}/24", bridge="lan", port=f"lan{number}")
        self._nft(number, "add table inet lab; add chain inet lab in { type filter hook input priority 0; }")

    def _nft(self, number: int, command: str) -> str:
        return self._modules[number - 1].run("nft", command)


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
            network.within(number),
        )
        for number, module in modules.items()
    ]
    world = stack_of({module: network.link(number) for number, module in modules.items()})
    return Lab(folder, world, agents, Config(folder).server.cluster_port)


def _ip(command: str) -> None:
    """In this process's own namespace."""
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True, timeout=30)
