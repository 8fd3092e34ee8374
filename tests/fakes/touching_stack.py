"""Modules of a World in this process, each with the whole of a node's stack: trust, links and membership."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from free_ports import two_free_ports

from agent.cluster.stack import StackService
from agent.cluster.state import Cluster, Node, node_id
from hal.boards import ORIN_NX_16
from hal.sim import sim_hardware
from hal.world import World
from hal.world_port import LocalPort

WITHIN_S = 30.0  # the machine may be busy
_nets = count(1)


class TouchingNode:
    """One module. ``start`` after ``stop`` is a restart with the same state."""

    def __init__(self, world: World, number: int, state_dir: Path, link_port: int) -> None:
        self.world, self.name, self.state_dir, self.link_port = world, f"module-{number}", state_dir, link_port
        self.device = str(uuid.UUID(int=number << 80 | 1))  # the lower number leads, where power does not decide
        self.id = node_id(self.device)
        state_dir.mkdir(exist_ok=True)
        (state_dir / "device.id").write_text(self.device)  # for commands on the same folder
        self.start()

    def start(self) -> None:
        self.hardware = hardware = sim_hardware(LocalPort(self.world, self.name), ORIN_NX_16)

        def facts() -> Node:
            battery = hardware.supply.battery()
            return Node(
                id=self.id,
                address=hardware.link.address(),
                ram_bytes=16 * 2**30,
                tops=100.0,
                external_power=hardware.supply.external(),
                battery_percent=None if battery is None else battery.value,
                version="0.0.0",
            )

        self.stack = StackService(self.state_dir, self.device, facts, hardware, "0.0.0", self.link_port)
        self.stack.start()

    def stop(self) -> None:
        self.stack.close()
        self.hardware.close()

    def cluster(self) -> Cluster:
        return self.stack.cluster()


class TouchingStack:
    """``world`` has the hands. Module 1 has the supply."""

    module: type[TouchingNode] = TouchingNode

    def __init__(self, folder: Path, size: int) -> None:
        self.world = World()
        # A net of loopback addresses of its own: each module listens on the same port.
        net = f"127.{1 + os.getpid() % 250}.{next(_nets)}"
        port = two_free_ports()[0]
        for number in range(1, size + 1):
            self.world.add(f"module-{number}", address=f"{net}.{number}")
        self.world.plug("module-1")
        for number in range(2, size + 1):
            self.world.stack(f"module-{number - 1}", f"module-{number}")
        self.nodes = [self.module(self.world, each, folder / f"module-{each}", port) for each in range(1, size + 1)]

    def together(self, *nodes: TouchingNode) -> Cluster:
        """Wait until these (all), and no others, are one settled cluster for each of them, and trust one another."""
        chosen = nodes or tuple(self.nodes)
        ids, devices = sorted(each.id for each in chosen), {each.device for each in chosen}

        def agreed() -> bool:
            clusters = [each.cluster() for each in chosen]
            trusting = all(
                devices <= {member.device_id for member in each.stack.trust.roster().members} for each in chosen
            )
            return (
                trusting
                and all(each.settled and [node.id for node in each.nodes] == ids for each in clusters)
                and len({each.token for each in clusters}) == 1
            )

        until(agreed)
        return chosen[0].cluster()

    def close(self) -> None:
        for node in self.nodes:
            node.stop()


@contextlib.contextmanager
def touching_stack(folder: Path, size: int) -> Iterator[TouchingStack]:
    stack = TouchingStack(folder, size)
    try:
        yield stack
    finally:
        stack.close()


def until(wanted: Callable[[], bool], seconds: float = WITHIN_S) -> None:
    ends = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < ends, "it did not come about in time"
        time.sleep(0.02)
