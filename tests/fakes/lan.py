"""A LAN of this machine's own: hosts in network namespaces on bridges, which nothing outside can reach.

A namespace belongs to a thread, and the sockets and threads that it makes stay in it. So a test may start what it
tests on several hosts of one process, and processes there, too. All is gone when the LAN is closed, or this process is
at its end, and those that it started.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from itertools import count

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why this machine has no LAN of its own; empty when it can."""
    if shutil.which("ip") is None:
        return "a LAN of namespaces needs ip, of the package iproute2"
    try:
        with Lan() as lan:
            lan.host("10.0.0.1/24")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"this machine lets nobody make a LAN of namespaces: {error}"
    return ""


class Lan:
    """Bridges in a namespace of their own, and the hosts on them."""

    def __init__(self, *bridges: str) -> None:
        """``br0`` alone where none is named."""
        self._numbers = count(1)
        self._bridges = bridges or ("br0",)
        self._hosts: list[Host] = []
        self.switch = self._new()
        for bridge in self._bridges:
            self.switch.ip(f"link add {bridge} type bridge mcast_snooping 0")
            self.switch.ip(f"link set {bridge} up")

    def __enter__(self) -> Lan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for host in self._hosts:
            host.close()
        self._hosts.clear()

    def host(self, *addresses: str) -> Host:
        """One more, with these addresses and their prefixes, if any, on ``eth0``."""
        host = self._new()
        host.ip("link set lo up")
        if addresses:
            self.plug(host, "eth0", *addresses)
        return host

    def plug(self, host: Host, interface: str, *addresses: str, bridge: str = "", port: str = "") -> None:
        """Give the host an interface on a bridge, the first unless one is named. ``port``: the other end's name."""
        number = next(self._numbers)
        port = port or f"port{number}"
        # The kernel says at once that a pair is up, but a second later where both ends happen to have the same index.
        self.switch.ip(f"link add {port} index {1000 + number} type veth peer name {interface} netns {host.path}")
        self.switch.ip(f"link set {port} master {bridge or self._bridges[0]} up")
        for address in addresses:  # before it is up, and with no search for a second owner: usable at once
            host.ip(f"address add {address} dev {interface}{' nodad' if ':' in address else ''}")
        host.ip(f"link set {interface} up")

    def _new(self) -> Host:
        host = Host()
        self._hosts.append(host)
        return host


class Host:
    """A network namespace. ``with host:`` makes what follows, in this thread, happen there."""

    def __init__(self) -> None:
        self._home: list[int] = []
        made: list[int | OSError] = []

        def make() -> None:
            if _libc.unshare(_NEW_NETWORK):
                made.append(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
            else:
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        self._fd = made[0]

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def __enter__(self) -> Host:
        self._home.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _enter(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        home = self._home.pop()
        _enter(home)
        os.close(home)

    def ip(self, command: str) -> None:
        """``ip COMMAND`` there."""
        self.run("ip", *command.split())

    def run(self, *command: str) -> str:
        """What a command says there."""
        with self:
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    @property
    def within(self) -> tuple[str, ...]:
        """A command that runs the rest of its line there, in a process which sees this host's interfaces in /sys."""
        own_sys = 'mount -t sysfs none /sys && exec "$0" "$@"'
        return ("nsenter", f"--net={self.path}", "unshare", "-m", "sh", "-c", own_sys)

    def close(self) -> None:
        os.close(self._fd)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
