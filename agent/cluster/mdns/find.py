"""Which Thox devices the LAN has, in their own words: to be shown, not to be trusted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from agent.cluster.mdns.networks import networks
from agent.cluster.mdns.records import SERVICE
from agent.errors import ThoxError

MOST_DEVICES: Final = 256
MOST_CHARACTERS: Final = 64  # of what a device says in one word
_ANSWER_MS: Final = 500  # for a device that was seen, and said no more


@dataclass(frozen=True, slots=True)
class Found:
    """One device, in its own words. An empty word, or port 0: it did not say."""

    host: str
    addresses: tuple[str, ...]  # IPv4 first
    cluster_port: int
    inference_port: int
    node: str
    cluster: str
    role: str
    version: str
    simulated: bool


def find(seconds: float) -> list[Found]:
    """Ask for that long, and say who answered, leaders first. Raises ThoxError where nobody can be asked."""
    asked = [str(each.ip) for network in networks("::") for each in network.addresses]
    if not asked:
        raise ThoxError("This machine is on no network", hint="Connect it to the network of the devices.")
    names: dict[str, None] = {}

    def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            names.pop(name, None)
        elif len(names) < MOST_DEVICES:
            names[name] = None

    try:
        with Zeroconf(interfaces=asked) as client:
            browser = ServiceBrowser(client, SERVICE, handlers=[heard])
            threading.Event().wait(seconds)
            browser.cancel()
            infos = [info for name in list(names) if (info := client.get_service_info(SERVICE, name, _ANSWER_MS))]
    except OSError as error:
        raise ThoxError(
            f"The network cannot be asked: {error.strerror}", hint="Another program may keep port 5353 for itself."
        ) from error
    return sorted(map(_found, infos), key=lambda each: (each.cluster, each.role != "leader", each.host))


def _found(info: ServiceInfo) -> Found:
    words = {key: _word(value or "") for key, value in info.decoded_properties.items()}
    addresses = sorted(map(ip_address, info.parsed_addresses(IPVersion.All)), key=lambda each: each.version)
    return Found(
        host=_word((info.server or info.name).removesuffix(".")),
        addresses=tuple(map(str, addresses)),
        cluster_port=info.port or 0,
        inference_port=_port(words),
        node=words.get("node", ""),
        cluster=words.get("cluster", ""),
        role=words.get("role", ""),
        version=words.get("version", ""),
        simulated=words.get("simulated") == "1",
    )


def _word(text: str) -> str:
    """Without what would move a terminal's cursor."""
    return "".join(each for each in text[:MOST_CHARACTERS] if each.isprintable())


def _port(words: Mapping[str, str]) -> int:
    port = words.get("inference", "")
    return int(port) if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536 else 0
