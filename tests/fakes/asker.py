"""A program that knows no mDNS and asks the LAN for a name all the same: one datagram, and whatever comes back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from ether import question
from lan import Host
from zeroconf import DNSAddress, DNSIncoming

WITHIN_S = 20.0
_PATIENCE_S = 0.3  # for the first answer: who has a name answers within a millisecond, on an idle machine
_MORE_S = 0.05  # for another one


def addresses(host: Host, name: str) -> dict[str, set[str]]:
    """By who answers a question for the name, asked on that host: the addresses of IPv4 it gives."""
    answers: dict[str, set[str]] = {}
    with host, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        through = struct.pack("=4s4si", b"", b"", socket.if_nametoindex("eth0"))  # ip_mreqn
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, through)
        asking.sendto(question(f"{name}.", number=1), ("224.0.0.251", 5353))
        end = time.monotonic() + _PATIENCE_S
        while (left := end - time.monotonic()) > 0:
            asking.settimeout(left)
            try:
                data, source = asking.recvfrom(9000)
            except TimeoutError:
                break
            found = [record for record in DNSIncoming(data).answers() if isinstance(record, DNSAddress)]
            end = min(end, time.monotonic() + _MORE_S)
            answers[str(source[0])] = {socket.inet_ntoa(each.address) for each in found if each.type == 1}
    return answers


def until(true: Callable[[], object], what: object = "") -> None:
    """Wait for it; each look takes its time."""
    end = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)
