"""A lab: several devices on one machine, each the real ``thox run`` in a process of its own, in one simulated World.

Every device has a loopback address of its own, so that all listen on the usual ports, and a state folder of its own,
which outlives the lab: devices that met in one lab know each other in the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.auth import KeyRing
from agent.client import Client, ClientError
from agent.cluster.state import MOST_NODES, node_id
from agent.config import Config, ConfigError, child_environ
from agent.identity import device_id
from hal.world import World
from hal.world_host import WorldHost
from hal.world_wire import SOCKET

FOLDER: Final = "lab"  # in the state folder
FEWEST, MOST = 2, MOST_NODES
STOP_S: Final = 12.0  # the agent itself kills what has not ended after 10
_POLL_S: Final = 0.05


def lab_socket(state_dir: Path) -> Path:
    """Where the World of this state folder's lab is served."""
    return state_dir / FOLDER / SOCKET


class LabAgent:
    """The agent of one module, whether it runs or not. To be started from the main thread: see lab_agent.py."""

    def __init__(
        self, module: str, address: str, state_dir: Path, settings: Mapping[str, str], within: Sequence[str] = ()
    ) -> None:
        """``settings``: of its configuration, by dotted name. ``within``: a command that runs the rest of its line
        somewhere else, as ``ip netns exec`` does. Raises ConfigError or TrustFileError for a damaged state folder."""
        self.module, self.address, self.state_dir = module, address, state_dir
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.device = device_id(state_dir)
        self.node = node_id(self.device)
        self.owner_key = KeyRing(state_dir).create_owner()  # None: it was told at an earlier start
        self.log = state_dir / "log"
        self.log.write_bytes(b"")
        self._environ = child_environ(settings)
        self._within = tuple(within)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process and its group; None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def ended(self) -> str:
        """How it ended by itself; empty while it runs, or when it was not started or was stopped."""
        if self._process is None or self._process.poll() is None:
            return ""
        status = self._process.returncode
        return signal.Signals(-status).name if status < 0 else f"status {status}"

    def start(self) -> None:
        """Returns at once. What is left of an earlier run is ended first."""
        self.kill()
        line = [*self._within, sys.executable, "-m", "agent.lab_agent", str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                line, env=self._environ, cwd=self.state_dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        """To every process of it: SIGSTOP freezes it, SIGCONT thaws it."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:  # it has no group of its own yet, or all of it has ended
            self._process.send_signal(number)

    def kill(self) -> None:
        """At once, as a device that loses its power."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def tell_to_stop(self) -> None:
        """As a person would: what runs gets a moment to end. ``stop`` waits for it."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.terminate()

    def stop(self, ends_at: float) -> None:
        """Until that moment of the monotonic clock it may end by itself."""
        self.tell_to_stop()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, ends_at - time.monotonic()))
            self.kill()

    def answers(self, port: int) -> bool:
        """Whether its cluster ``port`` answers anything at all: without a key, that it wants one."""
        try:
            Client(self.address, port, timeout_s=5.0).get("/v1/health")
        except ClientError as error:
            return error.status is not None
        return True


class Lab:
    """``world`` has the hands, ``agents`` are by module. Nothing runs before ``start``."""

    def __init__(self, folder: Path, world: World, agents: Iterable[LabAgent], port: int) -> None:
        """``folder``: for the World's socket. ``port``: the cluster port of every agent. Raises HardwareError where
        another lab serves its World there."""
        self.world, self.port = world, port
        self.agents: Mapping[str, LabAgent] = {each.module: each for each in agents}
        self._host = WorldHost(world, folder / SOCKET)

    def start(self) -> None:
        """Returns at once."""
        for agent in self.agents.values():
            agent.start()

    def wait(self, seconds: float) -> list[LabAgent]:
        """Until all that run answer; those that do not, or ended, after so many seconds."""
        ends, waited = time.monotonic() + seconds, list(self.agents.values())
        while waited and time.monotonic() < ends and not all(each.ended for each in waited):
            waited = [each for each in waited if each.ended or not each.answers(self.port)]
            time.sleep(_POLL_S)
        return waited

    def close(self) -> None:
        """Ends all agents, together, and then the World."""
        ends_at = time.monotonic() + STOP_S
        try:
            for agent in self.agents.values():
                agent.tell_to_stop()
            for agent in self.agents.values():
                agent.stop(ends_at)
        finally:
            for agent in self.agents.values():
                agent.kill()
            self._host.close()


def loopback_lab(config: Config, count: int, settings: Mapping[str, str], apart: bool = False) -> Lab:
    """``count`` modules, the lowest of them on a supply: in one stack, or ``apart``, each on the table by itself.

    The devices take the configuration of this one, and what ``settings`` says instead; one that has a config.toml in
    its own folder takes that. Raises ConfigError or HardwareError.
    """
    if not FEWEST <= count <= MOST:
        raise ConfigError(f"A lab of {count} devices is none", f"From {FEWEST} to {MOST}.")
    folder = config.state_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = config.server
    net = free_net(str(folder), count, (server.inference_port, server.cluster_port, config.cluster.link_port))
    world = stack_of({f"module-{number}": f"{net}.{number}" for number in range(1, count + 1)}, apart)
    agents = []
    for module, address in ((name, world.look(name).address) for name in world.state.modules):
        own = folder / module
        given = {
            "state_dir": str(own),
            "server.bind": address,
            "hardware.world": str(folder / SOCKET),
            "hardware.module": module,
            "hardware.wiring": "",
            **_inherited(config, own),
            **settings,
        }
        agents.append(LabAgent(module, address, own, given))
    return Lab(folder, world, agents, server.cluster_port)


def stack_of(addresses: Mapping[str, str], apart: bool = False) -> World:
    """A World with these modules and the addresses of their links, lowest first, a supply in the lowest."""
    world, below = World(), ""
    for module, address in addresses.items():
        world.add(module, address=address)
        if not below:
            world.plug(module)
        elif not apart:
            world.stack(below, module)
        below = module
    return world


def free_net(seed: str, count: int, ports: Iterable[int]) -> str:
    """The first three numbers of ``count`` loopback addresses on which nobody uses these ports: the same ones for the
    same ``seed``, while they are free. Raises ConfigError."""
    wanted, error = [port for port in ports if port], OSError()
    for attempt in range(16):
        digest = hashlib.sha256(f"{seed} {attempt}".encode()).digest()
        net = f"127.{64 + digest[0] % 190}.{digest[1]}"
        try:
            for number in range(1, count + 1):
                for port in wanted:
                    _bind(f"{net}.{number}", port)
            return net
        except OSError as refused:
            error = refused
    raise ConfigError(
        f"No loopback addresses are free for a lab: {error.strerror}",
        f"Another program may have port {', '.join(map(str, wanted))} on all of them (0.0.0.0). Choose other ports.",
    )


def _inherited(config: Config, own: Path) -> dict[str, str]:
    """The configuration file of this device, unless the other has one of its own."""
    file = config.state_dir / "config.toml"
    return {"config": str(file)} if file.is_file() and not (own / "config.toml").is_file() else {}


def _bind(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
