"""A switch that keeps each frame a while, by chance longer or shorter, so that some overtake others; some it doubles.

It stands in for a bridge: what comes in at one port goes out at all others. It reads and writes whole frames at the
ends of cables that a bridge would hold, on packet sockets, in one thread (packet(7)).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import heapq
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from random import Random

from lan import Host

MOST_FRAMES = 4096  # on their way; what comes then is lost, as in any switch
_FRAME_BYTES = 65536
_ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
_SOL_PACKET, _ADD_MEMBERSHIP, _IGNORE_OUTGOING, _PROMISCUOUS = 263, 1, 23, 1
_SIOCETHTOOL = 0x8946
_SET_OFF = (0x17, 0x1F, 0x24, 0x2C)  # ETHTOOL_STXCSUM, _STSO, _SGSO, _SGRO
_PULLED = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV)  # the cable is out, or the port is gone
_FULL = (errno.ENOBUFS, errno.EAGAIN)

_Due = tuple[float, int, "_Port", bytes]  # when, the how manieth it came, from where


class SlowSwitch:
    """``ports``: interfaces of ``host``, which nothing else uses from now on. What comes in at ``trunk``, one of them,
    came through another such switch, which kept it, and is not kept again.

    It works until ``close``, or the end of this process. Its numbers may be read at any time.
    """

    def __init__(self, host: Host, ports: Iterable[str], *, trunk: str = "", doubled: float = 0.0, seed: int) -> None:
        """``doubled``: the part of all frames that go out twice, 0 to 1, each after a time of its own."""
        self.delay_s = (0.0, 0.0)  # the shortest and the longest of what comes in from now on
        self.passed = self.overtaken = self.twice = self.lost = 0  # frames
        self._doubled, self._random = doubled, Random(seed)
        self._due: list[_Due] = []
        self._count = 0
        self._ports: list[_Port] = []
        self._waiting = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._waiting.register(self._woken, selectors.EVENT_READ)
        try:
            for name in ports:
                port = _Port(host, name, name != trunk)
                self._ports.append(port)
                self._waiting.register(port.socket, selectors.EVENT_READ, port)
        except BaseException:
            self._end()
            raise
        self._thread = threading.Thread(target=self._run, name="slow-switch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """What is on its way is lost."""
        self._wake.close()
        self._thread.join(10.0)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
                for key, _ in self._waiting.select(wait):
                    if key.data is None:
                        return
                    self._take(key.data)
                while self._due and self._due[0][0] <= time.monotonic():
                    self._send(*heapq.heappop(self._due)[1:])
        finally:
            self._end()

    def _take(self, port: _Port) -> None:
        frame = port.receive()
        if not frame:
            return
        times = 2 if port.keeps and self._random.random() < self._doubled else 1
        self.twice += times - 1
        for _ in range(times):
            if len(self._due) >= MOST_FRAMES:
                self.lost += 1
                continue
            self._count += 1
            kept_s = self._random.uniform(*self.delay_s) if port.keeps else 0.0
            heapq.heappush(self._due, (time.monotonic() + kept_s, self._count, port, frame))

    def _send(self, number: int, source: _Port, frame: bytes) -> None:
        self.passed += 1
        self.overtaken += number < source.newest
        source.newest = max(source.newest, number)
        for port in self._ports:
            if port is not source:
                port.send(frame)

    def _end(self) -> None:
        self._waiting.close()
        for each in (*(port.socket for port in self._ports), self._wake, self._woken):
            each.close()


class _Port:
    def __init__(self, host: Host, name: str, keeps: bool) -> None:
        self.keeps, self.newest = keeps, 0  # of its frames that went on
        host.ip(f"link set {name} nomaster")
        whole_frames(host, name)
        with host:
            _say_nothing(name)
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            try:
                index = socket.if_nametoindex(name)
                self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
                self.socket.setsockopt(
                    _SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8s", index, _PROMISCUOUS, 0, bytes(8))
                )
                self.socket.bind((name, _ALL_PROTOCOLS))
                self.socket.setblocking(False)
            except BaseException:
                self.socket.close()
                raise

    def receive(self) -> bytes:
        """Empty where there is none."""
        try:
            return self.socket.recv(_FRAME_BYTES)
        except OSError as error:
            if error.errno not in (*_PULLED, *_FULL):
                raise
            return b""

    def send(self, frame: bytes) -> None:
        try:
            self.socket.send(frame)
        except OSError as error:  # a frame longer than the port takes is an error of this file: see whole_frames
            if error.errno not in (*_PULLED, *_FULL):
                raise


def whole_frames(host: Host, interface: str) -> None:
    """Make the interface give away only what could be on a wire: one end of a pair hands the other packets of up to
    64 KB, to be cut later, and with no checksums yet."""
    with host, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in _SET_OFF:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(any_socket.fileno(), _SIOCETHTOOL, request)


def _say_nothing(interface: str) -> None:
    """A port of a switch has no addresses, and no words of its own."""
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
