"""Modules of a simulated World that are put on one another become one stack, with no hand but those that stack them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from free_ports import two_free_ports

from agent.cluster.link.connection import MutualTls
from agent.cluster.link.frames import Json
from agent.cluster.trust.identity import TrustError
from agent.cluster.trust.service import TrustService
from agent.cluster.trust.spread import PURPOSE, TrustSpread
from agent.cluster.trust.touch import TouchHost, meet
from agent.cluster.trust.watch import TouchWatch
from hal.base import HardwareError, TagRecord
from hal.boards import ORIN_NX_16
from hal.sim import sim_hardware
from hal.world import World
from hal.world_port import LocalPort
from hal.world_state import tag_to_json


class Everybody(Container[str]):
    """Is heard."""

    def __contains__(self, _device: object) -> bool:
        return True


class Module:
    """A module of the World with its agent's trust running."""

    def __init__(self, world: World, name: str, folder: Path, port: int) -> None:
        folder.mkdir()
        world.add(name)
        world.plug(name)  # each has power of its own: taking one away switches none off
        self.name, self.port = name, port
        self.hardware = sim_hardware(LocalPort(world, name), ORIN_NX_16)
        self.trust = TrustService(folder, str(uuid.uuid4()))
        self.heard: Container[str] = Everybody()
        self.watch = TouchWatch(
            self.trust,
            self.hardware.lines,
            self.hardware.readers,
            self.hardware.tag,
            self.describe,
            port,
            lambda: self.heard,
        )
        self.links = MutualTls(self.trust, self._handle, TouchHost(self.trust, self.watch))
        self.links.listen(self.hardware.link.address(), port)
        self.spread = TrustSpread(self.trust, self.links.connect, lambda: self.known)
        self.known: dict[str, tuple[str, int]] = {}
        self.watch.start()

    def describe(self, nonce: str) -> TagRecord:
        return TagRecord(
            device_id=self.trust.device_id,
            fingerprint=self.trust.fingerprint,
            face="bottom",
            firmware="0.1.0",
            ram_bytes=16 << 30,
            tops=100.0,
            floor_w=10.0,
            peak_w=40.0,
            addresses=(self.hardware.link.address(),),
            boot_nonce=nonce,
            cluster_id="ms-" + self.trust.roster().stack[:12],
        )

    def members(self) -> set[str]:
        return {each.device_id for each in self.trust.roster().members}

    def close(self) -> None:
        self.spread.close()
        self.watch.close()
        self.links.close()
        self.hardware.close()

    def _handle(self, node_id: str, body: Json) -> Json:
        return self.spread.answer(node_id, body[PURPOSE]) if PURPOSE in body else {"to": node_id}


class Table:
    """Modules side by side in a World on real time."""

    def __init__(self, folder: Path) -> None:
        self.world, self._folder, self._port = World(), folder, two_free_ports()[0]
        self.modules: list[Module] = []

    def add(self, name: str) -> Module:
        self.modules.append(Module(self.world, name, self._folder / name, self._port))
        return self.modules[-1]

    def until(self, wanted: Callable[[], bool], seconds: float = 15.0) -> None:
        """Time goes on in the World until it is so."""
        ends = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < ends, "it never came so"
            with self.world.changed:
                self.world.advance()
                self.world.changed.wait(0.02)

    def tag(self, module: Module) -> Json | None:
        tag: Json | None = self.world.status()["modules"][module.name]["tag"]
        return tag


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    for module in made.modules:
        module.close()


def test_two_modules_that_are_stacked_become_one_trust_and_a_third_joins_on_top_or_below(table: Table) -> None:
    a, b, c, d = (table.add(name) for name in "abcd")
    table.until(lambda: all(table.tag(module) for module in (a, b, c, d)))
    table.world.stack("a", "b")
    table.until(lambda: a.members() == b.members() == {a.trust.device_id, b.trust.device_id})
    table.until(lambda: (table.tag(b) or {})["cluster_id"] == "ms-" + a.trust.roster().stack[:12])
    table.world.stack("b", "c")
    table.until(lambda: c.members() == b.members() and len(c.members()) == 3)
    table.world.stack("d", "a")
    table.until(lambda: d.trust.device_id in a.members() and a.trust.device_id in d.members())
    for teller, hearer in ((a, b), (b, a), (a, d), (b, c)):
        hearer.trust.take(teller.trust.document())
    connection = d.links.connect(c.trust.device_id, (c.hardware.link.address(), c.port))
    assert connection.request({}) == {"to": d.trust.device_id}
    connection.close()


def test_four_modules_that_are_stacked_all_at_once_end_as_one_stack(table: Table) -> None:
    modules = [table.add(name) for name in "abcd"]
    table.until(lambda: all(table.tag(module) for module in modules))
    for module in modules:  # membership knows who is where
        module.known = {
            each.trust.device_id: (each.hardware.link.address(), each.port) for each in modules if each is not module
        }
        module.spread.start()
    for lower, upper in (("a", "b"), ("c", "d"), ("b", "c")):
        table.world.stack(lower, upper)
    table.until(lambda: len({module.trust.roster().stack for module in modules}) == 1, 30.0)
    table.until(lambda: all(len(module.members()) == 4 for module in modules))


def test_who_was_met_and_went_into_another_stack_unheard_is_met_again(table: Table) -> None:
    a, b = table.add("a"), table.add("b")
    table.until(lambda: table.tag(b) is not None)
    table.world.stack("a", "b")
    table.until(lambda: a.members() == b.members() and len(a.members()) == 2)
    b.watch.close()  # what its tag says stays as it is
    b.trust.leave()
    a.heard = ()
    table.until(lambda: a.trust.roster().stack == b.trust.roster().stack and len(b.members()) == 2)


def test_the_nonce_of_a_tag_is_another_one_as_soon_as_the_face_was_left(table: Table) -> None:
    a, b, thief = (table.add(name) for name in ("a", "b", "thief"))
    table.until(lambda: table.tag(b) is not None)
    table.world.stack("a", "b")
    table.until(lambda: len(b.members()) == 2)
    read = a.hardware.readers["top"].seen()
    assert read is not None
    table.world.unstack("b")
    table.until(lambda: (table.tag(b) or {})["boot_nonce"] != read.boot_nonce)
    table.world.stack("a", "b")  # the thief read the tag when it was its turn, and calls when another one touches
    table.until(lambda: b.hardware.lines.closed()["bottom"])
    with pytest.raises(TrustError, match="as it is now"):
        meet(thief.trust, read, "00" * 16, (read.addresses[0], b.port), lambda: True)
    now = replace(read, boot_nonce=str((table.tag(b) or {})["boot_nonce"]))
    table.until(lambda: bool(b.watch.refusal("someone", "")))
    with pytest.raises(TrustError, match="another device entered"):
        meet(thief.trust, now, "00" * 16, (read.addresses[0], b.port), lambda: True)
    assert thief.members() == {thief.trust.device_id}


def test_a_tag_that_was_written_by_a_stranger_leads_to_nobody(table: Table) -> None:
    """A phone, or a copy of another module's tag, lies on the reader."""
    a, b, original = (table.add(name) for name in ("a", "b", "original"))
    table.until(lambda: table.tag(b) is not None and table.tag(original) is not None)
    b.watch.close()  # its tag is another's now
    copied = replace(original.describe("ab" * 16), addresses=(b.hardware.link.address(),))
    table.world.write_tag("b", tag_to_json(copied))
    table.world.stack("a", "b")
    table.until(lambda: a.hardware.readers["top"].seen() == copied)
    with pytest.raises(TrustError, match="not who the tag names"):
        meet(a.trust, copied, a.watch.nonce(), (b.hardware.link.address(), b.port), lambda: True)
    assert a.members() == {a.trust.device_id}


def test_the_real_address_on_a_copied_tag_reaches_one_whom_nothing_touches(table: Table) -> None:
    """A relay that has no magnet on the other end."""
    a, original = table.add("a"), table.add("original")
    table.until(lambda: table.tag(original) is not None)
    copied = original.describe(original.watch.nonce())
    with pytest.raises(TrustError, match="nothing touches the bottom face"):
        meet(a.trust, copied, a.watch.nonce(), (original.hardware.link.address(), original.port), lambda: True)
    assert len(original.members()) == len(a.members()) == 1


class BrokenTag:
    """Cannot be written when ``broken``."""

    def __init__(self) -> None:
        self.broken, self.records = False, list[TagRecord]()

    def publish(self, record: TagRecord) -> None:
        if self.broken:
            raise HardwareError("the tag does not answer")
        self.records.append(record)


def test_while_a_tag_cannot_be_written_what_stands_on_it_is_what_is_asked_for(table: Table) -> None:
    a, lower = table.add("a"), table.add("lower")
    a.watch.close()
    tag = BrokenTag()
    watch = TouchWatch(a.trust, a.hardware.lines, {}, tag, a.describe, a.port, Everybody)  # type: ignore[arg-type]
    watch.look(0.0)
    first = tag.records[0].boot_nonce
    assert watch.nonce() == first and watch.refusal("x", "") == "nothing touches the bottom face of this device"
    table.world.stack(lower.name, a.name)
    table.until(lambda: a.hardware.lines.closed()["bottom"])
    watch.look(1.0)
    watch.spend("x")
    assert watch.refusal("x", "") == "" and "another device" in watch.refusal("y", "")
    table.world.unstack(a.name)
    table.until(lambda: not a.hardware.lines.closed()["bottom"])
    tag.broken = True
    with pytest.raises(HardwareError):
        watch.look(2.0)
    assert watch.nonce() == first
    tag.broken = False
    watch.look(3.0)
    assert watch.nonce() == tag.records[-1].boot_nonce != first and len(tag.records) == 2
    watch.look(4.0)
    assert len(tag.records) == 2, "the tag wears: nothing is written twice"
