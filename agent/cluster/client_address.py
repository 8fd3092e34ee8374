"""Where clients reach a port of this node, also where its server listens on every address."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final

from hal.base import StackLink, answer_of

LOOK_S: Final = 5.0  # how long an address is believed: a lease or a cable may change it
# Of the blocks for documentation: nobody is there. Nothing is sent to them; the kernel only says how it would.
_AWAY: Final = {4: (socket.AF_INET, "198.51.100.1"), 6: (socket.AF_INET6, "2001:db8::1")}


def outward(version: int) -> str:
    """This machine's address on the network that its default route leads to; empty where there is no such route."""
    family, away = _AWAY[version]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((away, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


class ClientAddress:
    """``address``: host and port of the server, an IPv6 address in brackets. Calling it gives what clients are told.

    That is the server's own address; of one that listens on all, this machine's on the network that its default route
    leads to (the LAN, where there are several networks), and where there is no such route, that of the stack's link.
    """

    def __init__(
        self,
        address: str,
        link: StackLink,
        clock: Callable[[], float] = time.monotonic,
        route: Callable[[int], str] = outward,
    ) -> None:
        host, _, self._port = address.rpartition(":")
        self._host, self._link, self._clock, self._route = host.strip("[]"), link, clock, route
        self._everywhere = ip_address(self._host).is_unspecified
        self._found, self._found_at = "", float("-inf")

    def __call__(self) -> str:
        host = self._lan() if self._everywhere else self._host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    def _lan(self) -> str:
        now = self._clock()
        if now - self._found_at >= LOOK_S:
            # A server on all addresses of IPv6 is reached over IPv4, too.
            routes = (4, 6) if ip_address(self._host).version == 6 else (4,)
            ways = (found for version in routes if (found := self._route(version)))
            self._found, self._found_at = next(ways, "") or answer_of(self._link.address) or self._host, now
        return self._found
