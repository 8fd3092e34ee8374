"""The link between modules: datagrams to a multicast group on one named network interface.

IPv4, with a time to live of 1: no router carries them further. The interface needs an address; 169.254.x.y, which
systemd-networkd assigns by itself (``LinkLocalAddressing=ipv4``), is enough.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import threading
import time

from hal.base import HardwareError, MissingPartError
from hal.sysfs import Sysfs

DATAGRAM_BYTES = 1200  # fits a frame with any header that a tunnel may add
GROUP, PORT = "239.255.53.81", 5381  # of the block that is for a site's own use, RFC 2365
_SIOCGIFADDR = 0x8915
_IP_MULTICAST_ALL = 49  # Linux: 0 keeps away what other sockets of this host joined


class UdpStackLink:
    """Raises MissingPartError when the interface is not there or has no address."""

    def __init__(self, interface: str, sysfs: Sysfs, group: str = GROUP, port: int = PORT) -> None:
        self._interface, self._sysfs, self._to = interface, sysfs, (group, port)
        try:
            index = socket.if_nametoindex(interface)
        except OSError as error:
            raise MissingPartError(
                f"there is no network interface {interface} for the link between modules",
                "name it under [hardware.wiring] link; ip link lists those that there are",
            ) from error
        own = self.address()
        joined = struct.pack("4s4si", socket.inet_aton(group), socket.inet_aton(own), index)
        self._in = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._closed = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        try:
            self._in.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # several nodes on one machine
            self._in.bind((group, port))
            self._in.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
            self._in.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            self._in.setblocking(False)
            self._out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, joined)
            self._out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            self._out.bind((own, 0))
            self._out.setblocking(False)
        except OSError as error:
            self.close()
            raise HardwareError(f"the link on {interface} cannot be opened: {error.strerror}") from error
        self._own = self._out.getsockname()

    def send(self, datagram: bytes) -> None:
        if len(datagram) > DATAGRAM_BYTES:
            raise HardwareError(f"a datagram of {len(datagram)} bytes is too long", f"{DATAGRAM_BYTES} is the most")
        try:
            self._out.sendto(datagram, self._to)
        except OSError:
            return  # a cable that is out, or a full queue: lost, as any datagram may be

    def receive(self, timeout: float) -> tuple[bytes, str] | None:
        ends = time.monotonic() + max(0.0, timeout)
        while not self._closed.is_set():
            left = max(0.0, ends - time.monotonic())
            try:
                ready, _, _ = select.select([self._in, self._wake_in], [], [], left)
                if not ready:
                    return None
                # One byte more than may come tells a datagram that is too long from one that just fits.
                datagram, sender = self._in.recvfrom(DATAGRAM_BYTES + 1)
            except (OSError, ValueError):  # taken by nobody after all; or closed under our hands
                continue
            if sender != self._own and len(datagram) <= DATAGRAM_BYTES:
                return datagram, str(sender[0])
        return None

    def address(self) -> str:
        request = struct.pack("256s", self._interface.encode()[:15])
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError as error:
            raise MissingPartError(
                f"the network interface {self._interface} has no IPv4 address",
                "let systemd-networkd give it one: LinkLocalAddressing=ipv4",
            ) from error
        return socket.inet_ntoa(answer[20:24])

    def carrier(self) -> bool | None:
        folder = f"sys/class/net/{self._interface}"
        if self._sysfs.text_or(f"{folder}/operstate") == "down":
            return False
        state = self._sysfs.text_or(f"{folder}/carrier")
        return state == "1" if state else None

    def gigabits(self) -> float | None:
        text = self._sysfs.text_or(f"sys/class/net/{self._interface}/speed")  # Mb/s; -1, or no answer: not known
        return int(text) / 1000 if text.isdigit() else None

    def close(self) -> None:
        self._closed.set()
        for each in (self._wake_out, self._in, self._out, self._wake_in):  # the first one ends a receive that waits
            each.close()
