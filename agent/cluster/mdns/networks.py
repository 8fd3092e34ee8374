"""Which networks this device is on, as far as ``server.bind`` serves them, and when that changes.

Loopback, point-to-point links (a VPN is not a LAN), links without a partner and addresses that a client should not be
told (temporary, deprecated and unusable ones of IPv6) are left out.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import Final

import ifaddr

Address = IPv4Interface | IPv6Interface

_GET_FLAGS: Final = 0x8913  # SIOCGIFFLAGS
_UP, _LOOPBACK, _POINT_TO_POINT, _RUNNING, _MULTICAST = 0x1, 0x8, 0x10, 0x40, 0x1000
_UNFIT: Final = 0x01 | 0x08 | 0x20 | 0x40  # temporary, refused as a duplicate, deprecated, tentative: linux/if_addr.h
_IPV6_FLAGS: Final = Path("/proc/thread-self/net/if_inet6")
_CHANGES: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR


@dataclass(frozen=True, slots=True)
class Network:
    """One interface and this device's addresses there."""

    index: int
    name: str
    addresses: tuple[Address, ...]

    @property
    def packed(self) -> tuple[bytes, ...]:
        """The addresses to be told: link-local ones only where there is no other."""
        wide = [each for each in self.addresses if not each.ip.is_link_local]
        return tuple(each.ip.packed for each in wide or self.addresses)

    def near(self, address: str) -> bool:
        """Whether that address is within this network."""
        source = ip_address(address.partition("%")[0])
        return source.is_link_local or any(source in each.network for each in self.addresses)


def networks(bind: str) -> tuple[Network, ...]:
    """Those where a server bound to that address can be reached. ``0.0.0.0``: over IPv4; ``::``: over both."""
    wanted = ip_address(bind)
    found: list[Network] = []
    unfit = _unfit()
    for adapter in ifaddr.get_adapters():
        if adapter.index is None or not _is_lan(adapter.name):
            continue
        addresses = [each for each in map(_interface, adapter.ips) if each.ip not in unfit]
        if not wanted.is_unspecified:
            addresses = [each for each in addresses if each.ip == wanted]
        elif wanted.version == 4:
            addresses = [each for each in addresses if each.version == 4]
        if addresses:
            found.append(Network(adapter.index, adapter.name, tuple(sorted(addresses, key=_order))))
    return tuple(found)


def own_addresses() -> frozenset[bytes]:
    """All of this device, packed."""
    return frozenset(_interface(ip).ip.packed for adapter in ifaddr.get_adapters() for ip in adapter.ips)


def changes() -> socket.socket:
    """Readable whenever an interface or an address came or went. Raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    try:
        opened.bind((0, _CHANGES))
    except OSError:
        opened.close()
        raise
    return opened


def _interface(ip: ifaddr.IP) -> Address:
    text = ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip
    return ip_interface(f"{text.partition('%')[0]}/{ip.network_prefix}")


def _order(address: Address) -> tuple[int, bytes]:
    return address.version, address.ip.packed


def _is_lan(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            answer = fcntl.ioctl(control, _GET_FLAGS, struct.pack("16sH14x", name.encode()[:15], 0))
        except OSError:  # gone meanwhile
            return False
    flags = struct.unpack_from("H", answer, 16)[0]
    needed = _UP | _RUNNING | _MULTICAST
    return flags & needed == needed and not flags & (_LOOPBACK | _POINT_TO_POINT)


def _unfit() -> set[object]:
    """Addresses of IPv6 that are not to be told; none where the kernel has no IPv6."""
    try:
        lines = _IPV6_FLAGS.read_text().split("\n")
    except OSError:
        return set()
    rows = [line.split() for line in lines if line]
    return {ip_address(bytes.fromhex(row[0])) for row in rows if int(row[4], 16) & _UNFIT}
