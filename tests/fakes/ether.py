"""One network and a clock of its own, for responders of mDNS: what one sends, all hear, itself too."""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from zeroconf import DNSIncoming, DNSOutgoing, DNSQuestion, DNSRecord

from agent.cluster.mdns.records import Shown, shown
from agent.cluster.mdns.responder import PORT, Packet, Responder, Source

PROPERTIES: Mapping[str, str] = {"api": "v1", "role": "leader"}
KINDS = {"A": 1, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "NSEC": 47, "ANY": 255}
_DELAY_S = 0.001


def records(node_id: str, address: str, *, leads: bool) -> Shown:
    """What a device with this address shows."""
    return shown(node_id, [ipaddress.ip_address(address).packed], 5381, PROPERTIES, leads=leads)


def question(
    name: str,
    kind: str = "A",
    *,
    unicast: bool = False,
    known: tuple[DNSRecord, ...] = (),
    wanted: tuple[DNSRecord, ...] = (),
    number: int = 0,
) -> bytes:
    """A question as another program asks it, which knows some answers, or wants to have the name for its records."""
    out = DNSOutgoing(0, multicast=unicast, id_=number)
    out.add_question(DNSQuestion(name, KINDS[kind], 0x8001 if unicast else 1))
    for record in known:
        out.add_answer_at_time(record, 0)
    cast(list[DNSRecord], out.authorities).extend(wanted)
    return out.packets()[0]


def response(*said: DNSRecord) -> bytes:
    """An answer, or an announcement, as another program makes it."""
    out = DNSOutgoing(0x8400)
    for record in said:
        out.add_answer_at_time(record, 0)
    return out.packets()[0]


@dataclass
class Heard:
    """One packet that was on the network."""

    at: float
    sender: str
    message: DNSIncoming
    to: str = ""  # one host; empty: all

    @property
    def names(self) -> set[str]:
        return {each.name for each in (*self.message.questions, *self.message.answers())}


@dataclass
class Ether:
    """``devices``: responders by address."""

    now: float = 1000.0
    devices: dict[str, Responder] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    _flying: list[tuple[float, int, str, bytes]] = field(default_factory=list)
    _returned: int = 0  # of ``heard``, by ``run``
    _strangers: dict[str, tuple[int, bool]] = field(default_factory=dict)  # port, and whether within the network

    def join(self, node_id: str, address: str, *, leads: bool, chance: float = 0.5) -> Responder:
        """A device comes."""
        responder = self.devices[address] = Responder(node_id, chance=lambda: chance)
        self.show(address, records(node_id, address, leads=leads))
        return responder

    def show(self, address: str, what: Shown, *others: str) -> None:
        """From now on. ``others``: further addresses of the same device."""
        own = frozenset(ipaddress.ip_address(each).packed for each in (address, *others))
        self._send(address, self.devices[address].show(what, own, self.now))

    def say(self, data: bytes, sender: str, port: int = PORT, *, near: bool = True) -> None:
        """Somebody who is no device of ours sends to all."""
        self._strangers[sender] = port, near
        self.heard.append(Heard(self.now, sender, DNSIncoming(data)))
        heapq.heappush(self._flying, (self.now + _DELAY_S, len(self.heard), sender, data))

    def run(self, seconds: float) -> list[Heard]:
        """Let that time go by. Returns what the devices sent since the last time."""
        end = self.now + seconds
        while True:
            due = [(responder.due, address) for address, responder in self.devices.items()]
            at, address = min(due, default=(end + 1, ""))
            flight = self._flying[0][0] if self._flying else end + 1
            if min(at, flight) > end:
                self.now, begun, self._returned = end, self._returned, len(self.heard)
                return [each for each in self.heard[begun:] if each.sender in self.devices]
            if flight <= at:
                self.now, _, sender, data = heapq.heappop(self._flying)
                self._deliver(sender, data)
            else:
                self.now = max(self.now, at)
                self._send(address, self.devices[address].tick(self.now))

    def holders(self, name: str) -> list[str]:
        """Who gives an address to a question for that name now."""
        asker = "10.0.0.250"
        self.say(question(name), asker)
        sent = self.run(2.0)
        return sorted({each.sender for each in sent if any(r.name == name and r.ttl for r in each.message.answers())})

    def _send(self, sender: str, packets: list[Packet]) -> None:
        for packet in packets:
            self.heard.append(Heard(self.now, sender, DNSIncoming(packet.data), packet.to.address if packet.to else ""))
            if packet.to is None:
                heapq.heappush(self._flying, (self.now + _DELAY_S, len(self.heard), sender, packet.data))

    def _deliver(self, sender: str, data: bytes) -> None:
        port, near = self._strangers.get(sender, (PORT, True))
        for address, responder in self.devices.items():
            source = Source(sender, port, near, own=sender == address)
            self._send(address, responder.hear(data, source, self.now))
