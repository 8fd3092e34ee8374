"""What this device says of itself over mDNS, as DNS records (RFC 6762, RFC 6763). Values only.

The node ``node-0123456789ab`` is the host ``thox-0123456789ab.local``; the leader's device is ``thox.local`` besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from zeroconf import DNSAddress, DNSNsec, DNSPointer, DNSRecord, DNSService, DNSText

SERVICE: Final = "_thox._tcp.local."
SERVICES: Final = "_services._dns-sd._udp.local."  # true while any device is there (RFC 6763, section 9)
LEADER_HOST: Final = "thox.local."
A: Final = 1
PTR: Final = 12
TXT: Final = 16
AAAA: Final = 28
SRV: Final = 33
NSEC: Final = 47
ANY: Final = 255
IN: Final = 1
_UNIQUE: Final = IN | 0x8000  # who says it says all of it: caches drop what they had before
HOST_TTL_S: Final = 120  # of what names an address or a host
OTHER_TTL_S: Final = 4500


@dataclass(frozen=True, slots=True)
class Shown:
    """What a device shows on one network. Empty: nothing."""

    node: tuple[DNSRecord, ...] = ()  # under names that are this node's alone
    leader: tuple[DNSRecord, ...] = ()  # under the leader's name
    pointers: tuple[DNSRecord, ...] = ()  # under names that all devices share


def host_of(node_id: str) -> str:
    """``node-0123456789ab`` is the host ``thox-0123456789ab.local.``"""
    return f"thox-{node_id.removeprefix('node-')}.local."


def shown(node_id: str, addresses: Iterable[bytes], port: int, properties: Mapping[str, str], *, leads: bool) -> Shown:
    """All records. ``addresses``: packed, of the network that they are shown on. Nothing where there are none."""
    host, packed = host_of(node_id), tuple(addresses)
    if not packed:
        return Shown()
    instance = host.removesuffix("local.") + SERVICE
    return Shown(
        node=(
            *_addresses(host, packed),
            DNSService(instance, SRV, _UNIQUE, HOST_TTL_S, 0, 0, port, host),
            DNSText(instance, TXT, _UNIQUE, OTHER_TTL_S, text(properties)),
        ),
        leader=_addresses(LEADER_HOST, packed) if leads else (),
        pointers=(
            DNSPointer(SERVICE, PTR, IN, OTHER_TTL_S, instance),
            DNSPointer(SERVICES, PTR, IN, OTHER_TTL_S, SERVICE),
        ),
    )


def text(properties: Mapping[str, str]) -> bytes:
    """``key=value`` strings, each behind its length; one longer than 255 bytes is cut there."""
    strings = [f"{key}={value}".encode()[:255] for key, value in properties.items()]
    return b"".join(bytes([len(each)]) + each for each in strings)


def denial(name: str, records: Iterable[DNSRecord]) -> DNSNsec:
    """That the name has records of these types alone, so that nobody waits for others (RFC 6762, section 6.1)."""
    kinds = sorted({record.type for record in records})
    return DNSNsec(name, NSEC, _UNIQUE, HOST_TTL_S, name, kinds)


def with_ttl(record: DNSRecord, ttl_s: int) -> DNSRecord:
    """The same record to be kept for another time; 0: to be forgotten."""
    name, kind, its_class = record.name, record.type, _UNIQUE if record.unique else IN
    if isinstance(record, DNSAddress):
        return DNSAddress(name, kind, its_class, ttl_s, record.address)
    if isinstance(record, DNSService):
        return DNSService(name, kind, its_class, ttl_s, 0, 0, record.port, record.server)
    if isinstance(record, DNSText):
        return DNSText(name, kind, its_class, ttl_s, record.text)
    if isinstance(record, DNSPointer):
        return DNSPointer(name, kind, its_class, ttl_s, record.alias)
    if isinstance(record, DNSNsec):
        return DNSNsec(name, kind, its_class, ttl_s, record.next_name, record.rdtypes)
    raise TypeError(f"no device shows a {type(record).__name__}")


def order(record: DNSRecord) -> tuple[int, int, bytes]:
    """What two devices that want one name at the same time are compared by (RFC 6762, section 8.2)."""
    return record.class_, record.type, _data(record)


def _data(record: DNSRecord) -> bytes:
    if isinstance(record, DNSAddress):
        return record.address
    if isinstance(record, DNSText):
        return record.text
    if isinstance(record, DNSService):
        numbers = b"".join(each.to_bytes(2, "big") for each in (record.priority, record.weight, record.port))
        labels = [label.encode() for label in record.server.removesuffix(".").split(".")]
        return numbers + b"".join(bytes([len(label) & 255]) + label for label in labels) + b"\0"
    return b""


def _addresses(host: str, packed: Iterable[bytes]) -> tuple[DNSRecord, ...]:
    return tuple(DNSAddress(host, A if len(each) == 4 else AAAA, _UNIQUE, HOST_TTL_S, each) for each in packed)
