"""The root helper: who may ask, what may be asked, and the floor when nobody feeds it. Its clock is the test's."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from board_trees import ORIN_NX, BoardTree, jetson

from hal.base import HardwareError, MissingPartError
from hal.power_cap import HelperPowerCap
from hal.power_control import PowerControl
from hal.power_helper import CLIENTS, PowerHelper, members_of
from hal.power_ladder import Step, ladder
from hal.sysfs import Sysfs

STEPS = (Step(10.0, 408_000_000), Step(20.0, 816_000_000), Step(40.0))


class Root:
    """A helper in a thread, on a board's tree; time passes when the test says so."""

    def __init__(self, folder: Path, allowed: Callable[[int, int], bool] = lambda user, group: True) -> None:
        self.tree: BoardTree = jetson(folder / "board", ORIN_NX)[0]
        self.path = folder / "power.sock"
        self.now = 100.0
        self._allowed = allowed
        self.start()

    def start(self) -> None:
        self.control = PowerControl(Sysfs(self.tree.root), ladder(STEPS), "17000000.gpu")
        self._helper = PowerHelper(self.control, self.path, self._allowed, clock=lambda: self.now)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(10)
        self._helper.close()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            self._helper.step(0.02)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    made = Root(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def cap(root: Root) -> Iterator[HelperPowerCap]:
    made = HelperPowerCap(root.path)
    yield made
    made.close()


def settled(cap: HelperPowerCap, watts: float) -> None:
    """The helper looks at its clock between two requests, so a few of them are enough."""
    for _ in range(200):
        if cap.applied() == watts:
            return
    raise AssertionError(f"{cap.applied()} W stand, not {watts}")


def test_the_cap_is_the_ladder_behind_the_helper(root: Root, cap: HelperPowerCap) -> None:
    assert (cap.floor_w, cap.peak_w, cap.applied()) == (10.0, 40.0, 40.0) and cap.steps_w == (10.0, 20.0, 40.0)
    assert cap.apply(39.9) == 20.0 == cap.applied()
    assert root.tree.text("sys/class/devfreq/17000000.gpu/max_freq") == "816000000"


def test_a_helper_that_is_not_fed_drops_to_the_floor_at_its_time_and_not_before(
    root: Root, cap: HelperPowerCap
) -> None:
    cap.apply(40.0)
    cap.feed(3.0)
    root.now += 2.9
    cap.feed(3.0)
    root.now += 2.9
    settled(cap, 40.0)
    root.now += 0.2
    settled(cap, 10.0)
    assert cap.apply(40.0) == 40.0, "it is a dead man's switch, not a lock"


def test_nobody_who_never_fed_it_is_dropped(root: Root, cap: HelperPowerCap) -> None:
    root.now += 1e6
    settled(cap, 40.0)


def test_a_floor_that_is_not_taken_is_tried_again(root: Root, cap: HelperPowerCap) -> None:
    knob = root.tree.root / "sys/class/devfreq/17000000.gpu/available_frequencies"
    kept = knob.read_text()
    knob.write_text("")
    cap.feed(1.0)
    root.now += 1.1
    settled(cap, 40.0)
    settled(cap, 40.0)  # answered after the time was up: it has tried
    knob.write_text(kept)
    for _ in range(200):
        root.now += 1.1
        if cap.applied() == 10.0:
            break
    settled(cap, 10.0)


def test_a_helper_that_is_restarted_while_it_must_be_fed_drops_and_the_client_finds_it_again(
    root: Root, cap: HelperPowerCap
) -> None:
    cap.feed(30.0)
    root.stop()
    with pytest.raises(MissingPartError, match=r"power\.sock") as missing:
        cap.applied()
    assert "thox-power" in missing.value.hint
    root.start()
    settled(cap, 10.0)


@pytest.mark.parametrize(
    "packet",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"{}",
        b'{"do": "shutdown"}',
        b'{"do": "apply"}',
        b'{"do": "apply", "watts": "25"}',
        b'{"do": "apply", "watts": NaN}',
        b'{"do": "apply", "watts": true}',
        b'{"do": "feed", "ttl_s": 1e9}',
        b'{"do": "feed", "ttl_s": -1}',
        b"[" * 500,
    ],
)
def test_what_is_no_request_is_answered_with_an_error_and_changes_nothing(
    root: Root, cap: HelperPowerCap, packet: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(10)
        client.connect(str(root.path))
        client.send(packet)
        assert "not understood" in json.loads(client.recv(512))["error"]
    root.now += 100
    settled(cap, 40.0)


def test_a_caller_who_may_not_ask_is_turned_away(tmp_path: Path) -> None:
    asked: list[int] = []

    def nobody(user: int, group: int) -> bool:
        asked.append(user)
        return False

    root = Root(tmp_path, nobody)
    try:
        with pytest.raises(MissingPartError):
            HelperPowerCap(root.path)
        assert asked[0] == os.getuid()
    finally:
        root.stop()


def test_the_socket_is_for_its_owner_and_group_from_the_start(root: Root) -> None:
    assert root.path.stat().st_mode & 0o777 == 0o660


def test_clients_that_never_leave_do_not_keep_the_helper_from_its_work(root: Root, cap: HelperPowerCap) -> None:
    idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(CLIENTS + 2)]
    for client in idle:
        client.settimeout(10)
        client.connect(str(root.path))
    assert cap.apply(20.0) == 20.0
    for client in idle:
        client.close()
    assert cap.apply(40.0) == 40.0


def test_members_of_a_group_and_root_may_ask_and_others_not() -> None:
    allowed = members_of("root")
    assert allowed(0, 0) and allowed(65_000, 0) and not allowed(65_000, 65_000)
    with pytest.raises(HardwareError, match="no group") as error:
        members_of("thox-none")
    assert "groupadd" in error.value.hint


def test_a_helper_that_answers_nonsense_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(512)
                client.send(b'{"steps_w": [], "worst_w": 10}')

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(HardwareError, match="answer"):
            HelperPowerCap(path)
        thread.join(10)
