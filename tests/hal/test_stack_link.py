"""The link between modules, over the loopback interface."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.base import HardwareError, MissingPartError
from hal.link import DATAGRAM_BYTES, UdpStackLink
from hal.sysfs import Sysfs

GROUP = "239.255.53.82"  # not the device's own: a node may run on this machine


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def links(port: int) -> Iterator[tuple[UdpStackLink, UdpStackLink]]:
    both = UdpStackLink("lo", Sysfs(), GROUP, port), UdpStackLink("lo", Sysfs(), GROUP, port)
    yield both
    for link in both:
        link.close()


def test_a_datagram_reaches_the_others_and_not_its_sender(links: tuple[UdpStackLink, UdpStackLink]) -> None:
    one, other = links
    one.send(b"\x00hello\xff")
    assert other.receive(10.0) == (b"\x00hello\xff", "127.0.0.1")
    assert one.receive(0.05) is None and one.address() == "127.0.0.1"


def test_the_longest_datagram_passes_and_a_longer_one_is_refused_on_both_sides(
    links: tuple[UdpStackLink, UdpStackLink], port: int
) -> None:
    one, other = links
    with pytest.raises(HardwareError, match="1201"):
        one.send(bytes(DATAGRAM_BYTES + 1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        stranger.sendto(bytes(DATAGRAM_BYTES + 1), (GROUP, port))
    one.send(bytes(DATAGRAM_BYTES))
    arrived = other.receive(10.0)
    assert arrived is not None and arrived[0] == bytes(DATAGRAM_BYTES), "the one that was too long is not told"


def test_closing_ends_a_receive_that_waits(port: int) -> None:
    link = UdpStackLink("lo", Sysfs(), GROUP, port)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(link.receive(60.0)))
    thread.start()
    link.close()
    thread.join(10)
    assert got == [None]
    link.send(b"into the void")


def test_an_interface_that_is_not_there_says_where_to_name_it() -> None:
    with pytest.raises(MissingPartError, match="thox-none") as missing:
        UdpStackLink("thox-none", Sysfs())
    assert "[hardware.wiring]" in missing.value.hint


@pytest.mark.parametrize(
    ("operstate", "carrier", "seen"),
    [("up", "1", True), ("dormant", "0", False), ("down", None, False), ("", None, None)],
)
def test_the_carrier_is_the_kernels(
    tmp_path: Path, port: int, operstate: str, carrier: str | None, seen: bool | None
) -> None:
    folder = tmp_path / "sys/class/net/lo"
    folder.mkdir(parents=True)
    (folder / "operstate").write_text(operstate)
    if carrier is not None:
        (folder / "carrier").write_text(carrier)
    link = UdpStackLink("lo", Sysfs(tmp_path), GROUP, port)
    assert link.carrier() is seen
    link.close()


@pytest.mark.parametrize(("told", "gigabits"), [("10000", 10.0), ("2500", 2.5), ("-1", None), (None, None)])
def test_the_speed_is_the_kernels(tmp_path: Path, port: int, told: str | None, gigabits: float | None) -> None:
    folder = tmp_path / "sys/class/net/lo"
    folder.mkdir(parents=True)
    if told is not None:
        (folder / "speed").write_text(told)
    link = UdpStackLink("lo", Sysfs(tmp_path), GROUP, port)
    assert link.gigabits() == gigabits
    link.close()
