"""The sockets of mDNS on one network: the group's port, shared with every other responder of this machine.

A socket is bound to the group's own address. So it hears what is sent to all of this network, which no router carries,
and never takes a packet that was meant for another responder here, such as avahi.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from agent.cluster.mdns.networks import Network
from agent.cluster.mdns.responder import PORT, Packet, Source

GROUP4: Final = "224.0.0.251"
GROUP6: Final = "ff02::fb"
MOST_AT_ONCE: Final = 64  # packets of one socket between two looks at everything else
_MOST_BYTES: Final = 9000
_IP_MULTICAST_ALL: Final = 49  # linux/in.h; Python has no name for it
_HOPS: Final = 255

_log = logging.getLogger(__name__)


class MdnsLink:
    """For one thread."""

    def __init__(self, network: Network) -> None:
        """Raises OSError where the port or the group cannot be had."""
        self.network = network
        self.sockets: list[socket.socket] = []
        versions = {address.version for address in network.addresses}
        try:
            for version, opened in ((4, _open4), (6, _open6)):
                if version in versions:
                    opened(network.index, self.sockets.append)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for each in self.sockets:
            each.close()

    def receive(self, ready: socket.socket, own: frozenset[bytes]) -> Iterator[tuple[bytes, Source]]:
        """What waits. ``own``: packed addresses of this device."""
        for _ in range(MOST_AT_ONCE):
            try:
                data, reply = ready.recvfrom(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:  # the interface went away: the next look at the networks notices
                _log.debug("mDNS on %s: %s", self.network.name, error)
                return
            address = str(reply[0])
            packed = ip_address(address.partition("%")[0]).packed
            yield data, Source(address, reply[1], self.network.near(address), packed in own, reply)

    def send(self, packet: Packet) -> None:
        """Lost where the network cannot take it now: what matters is told twice, and asked again."""
        for each in self.sockets:
            six = each.family == socket.AF_INET6
            everybody = (GROUP6, PORT, 0, self.network.index) if six else (GROUP4, PORT)
            if packet.to is None or six == (":" in packet.to.address):
                with suppress(OSError):
                    each.sendto(packet.data, packet.to.reply if packet.to else everybody)


def _open4(index: int, keep: Callable[[socket.socket], None]) -> None:
    opened = _open(socket.AF_INET, keep)
    interface = struct.pack("=4sii", socket.inet_aton(GROUP4), 0, index)  # ip_mreqn; 0.0.0.0: the index alone decides
    opened.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # nothing of the other networks that this device is on
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _HOPS)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # other programs of this machine hear it, too
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
    opened.bind((GROUP4, PORT))
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, interface)


def _open6(index: int, keep: Callable[[socket.socket], None]) -> None:
    opened = _open(socket.AF_INET6, keep)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOPS)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    opened.bind((GROUP6, PORT, 0, index))  # a group of one link: the socket belongs to that interface from here on
    group = socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("=i", index)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)


def _open(family: socket.AddressFamily, keep: Callable[[socket.socket], None]) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    keep(opened)
    # Enough to share a port of a group with whoever lets it be shared. With SO_REUSEPORT as well, Linux (seen in 6.18)
    # gives a packet of one network to any one of the sockets, that of another network, too.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return opened
