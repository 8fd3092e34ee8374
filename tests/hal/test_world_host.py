"""A World for several processes: private, robust against whatever is said to it, and gone when its host is."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hal.base import HardwareError, MissingPartError
from hal.boards import ORIN_NX_16
from hal.open import open_hardware
from hal.sim import sim_hardware
from hal.world import World
from hal.world_client import WorldClient
from hal.world_host import BEHIND_BYTES, WorldHost
from hal.world_wire import HANDS, LINE_BYTES, connect, pack, use_hand

DEADLINE = 30.0


@pytest.fixture
def world() -> World:
    made = World()
    for name in "ab":
        made.add(name)
    made.plug("a")
    return made


@pytest.fixture
def path(world: World, tmp_path: Path) -> Iterator[Path]:
    host = WorldHost(world, tmp_path / "world.sock")
    yield tmp_path / "world.sock"
    host.close()
    assert not (tmp_path / "world.sock").exists()


@contextlib.contextmanager
def client(path: Path, module: str | None = None) -> Iterator[WorldClient]:
    opened = WorldClient(path, module)
    try:
        yield opened
    finally:
        opened.close()


def says(path: Path, *lines: bytes) -> list[dict[str, object]]:
    """What the host answers to these bytes until it hangs up, or has answered each."""
    with connect(path, DEADLINE) as end, end.makefile("rb") as answers:
        end.sendall(b"".join(lines))
        end.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in answers]


def test_several_processes_are_in_one_world(world: World, path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hal.open import open_hardware\n"
        "its = open_hardware(world=Path(sys.argv[1]), module='b'); print('here', flush=True)\n"
        "edge = its.lines.wait(30); its.link.send(f'{edge.face} {edge.closed}'.encode())\n"
        "print(its.link.receive(30)[0].decode(), its.cap.apply(22.0)); its.close()\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    own = open_hardware(world=path, module="a")
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert other.stdout is not None and other.stdout.readline() == "here\n"
        with client(path) as hands:
            hands.hand("stack", lower="a", upper="b")
        assert own.link.receive(DEADLINE) == (b"bottom True", "127.0.0.2")
        own.link.send(b"seen")
        assert other.communicate(timeout=DEADLINE)[0].split() == ["seen", "20.0"]
        assert world.look("b").worst_w == 20.0
    finally:
        other.kill()
        other.communicate()
        own.close()


def test_the_socket_is_for_its_user_alone_at_a_path_of_any_length(world: World, tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("er" * 40)
    folder.mkdir(parents=True)
    path = folder / "world.sock"
    assert len(str(path)) > 108
    host = WorldHost(world, path)
    try:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
        with client(path) as hands:
            assert hands.hand("reaches", source="a", target="b") is False
    finally:
        host.close()


def test_a_world_has_one_host_and_a_dead_ones_socket_is_taken_over(world: World, path: Path, tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="another World"):
        WorldHost(world, path)
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    WorldHost(world, left).close()
    with pytest.raises(HardwareError, match="cannot be served"):
        WorldHost(world, tmp_path / "no such folder" / "world.sock")


def test_who_speaks_another_version_or_names_no_module_is_told_so(path: Path) -> None:
    for first in ({"world": 2}, {}, {"world": 1, "module": "nobody"}):
        answers = says(path, pack(first), pack({"id": 1, "call": "status"}))
        assert len(answers) == 1 and answers[0]["error"]
    with pytest.raises(HardwareError, match="nobody") as caught:
        WorldClient(path, "nobody")
    assert "a, b" in caught.value.hint
    with pytest.raises(HardwareError, match="No such file"):
        WorldClient(path.with_name("other.sock"))


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"\xff\xfe\n",
        b'{"id": 1, "call": "advance"}\n',
        b'{"id": 1, "call": "__init__", "with": {}}\n',
        b'{"id": 1, "call": "look"}\n',
        b'{"id": 1, "call": "tell", "with": {"order": "step", "value": 10}}\n',
        b'{"id": 1, "call": "add", "with": {"name": "c", "board": "x"}}\n',
        b'{"id": 1, "call": "add", "with": {"name": ["c"]}}\n',
        b'{"id": 1, "call": "add"}\n',
        b'{"id": 1, "call": "heat", "with": {"celsius": NaN}}\n',
        b'{"id": 1, "call": "heat", "with": {"celsius": true}}\n',
        b'{"id": 1, "call": "status", "with": []}\n',
    ],
)
def test_what_makes_no_sense_is_answered_with_an_error_and_the_next_line_is_heard(path: Path, line: bytes) -> None:
    answers = says(
        path, pack({"world": 1}), line, pack({"id": 2, "call": "reaches", "with": {"source": "a", "target": "b"}})
    )
    assert [sorted(answer) for answer in answers] == [["world"], ["error", "hint", "id"], ["id", "value"]]


def test_a_modules_orders_are_checked(path: Path) -> None:
    with client(path, "a") as port:
        for order, value in (("step", "much"), ("step", True), ("feed", None), ("jump", 1), ("tag", {}), ("send", "ä")):
            with pytest.raises(HardwareError):
                port.tell(order, value)
        assert port.look().worst_w == 40.0


def test_a_line_that_never_ends_is_hung_up_on(path: Path) -> None:
    with connect(path, DEADLINE) as end:
        end.sendall(pack({"world": 1}))
        with pytest.raises(OSError):  # reset, or a broken pipe
            while True:
                end.sendall(b"x" * LINE_BYTES)
    with client(path) as hands:
        assert hands.hand("status")["stacks"]


def test_a_client_that_does_not_read_is_dropped_and_holds_nobody_up(world: World, path: Path) -> None:
    silent = connect(path, DEADLINE)
    silent.sendall(pack({"world": 1, "module": "b"}))
    silent.recv(100)  # the greeting, and nothing more
    end = time.monotonic() + DEADLINE
    with client(path, "a") as port:
        while world._sinks["b"]:
            with world.changed:
                world.emit("b", "datagram", 0.0, data="x" * (BEHIND_BYTES // 16), sender="")
            assert port.look().powered and time.monotonic() < end
    silent.close()


def test_when_the_host_is_gone_every_part_says_so_and_waiting_still_takes_its_time(tmp_path: Path) -> None:
    path = tmp_path / "world.sock"
    host = open_hardware("simulated", serve_at=path)
    joined = open_hardware(world=path)
    host.close()
    with pytest.raises(MissingPartError) as caught:
        joined.power.total()
    assert caught.value.hint
    began = time.monotonic()
    with pytest.raises(MissingPartError):
        joined.lines.wait(0.2)
    assert time.monotonic() - began >= 0.19
    joined.close()


def test_a_world_that_is_served_again_is_found_again_and_until_then_it_is_said_to_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "world.sock"
    first = open_hardware("simulated", serve_at=path)
    joined = open_hardware(world=path)
    first.close()
    with pytest.raises(MissingPartError, match="World lost"):
        joined.lines.wait(0.3)
    second, end = open_hardware("simulated", serve_at=path), time.monotonic() + DEADLINE
    try:
        while True:
            try:
                assert joined.power.total().value is not None
                break
            except MissingPartError as error:
                assert "World lost" in str(error) and time.monotonic() < end
                time.sleep(0.02)  # there is nothing to wait on: it finds the World by itself
        with client(path) as hands:
            hands.hand("add", name="b")
            hands.hand("stack", lower="module-1", upper="b")
        edge = joined.lines.wait(DEADLINE)
        assert edge is not None and edge.closed
    finally:
        joined.close()
        second.close()


def test_who_waits_while_the_world_is_lost_and_found_learns_that_events_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "world.sock"
    first = open_hardware("simulated", serve_at=path)
    joined = open_hardware(world=path)
    heard: list[object] = []

    def wait() -> None:
        try:
            heard.append(joined.lines.wait(DEADLINE))
        except MissingPartError as error:
            heard.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    first.close()
    second = open_hardware("simulated", serve_at=path)
    waiting.join(DEADLINE / 2)
    assert [type(each) for each in heard] == [MissingPartError]
    joined.close()
    second.close()


def test_a_world_without_the_module_stays_lost_and_says_why(tmp_path: Path) -> None:
    path, end = tmp_path / "world.sock", time.monotonic() + DEADLINE
    first = open_hardware("simulated", serve_at=path)
    with client(path) as hands:
        hands.hand("add", name="b")
    joined = open_hardware(world=path, module="b")
    first.close()
    second = open_hardware("simulated", serve_at=path)
    said = ""
    while "no module 'b'" not in said:
        assert time.monotonic() < end
        with pytest.raises(MissingPartError, match="World lost") as caught:
            joined.lines.wait(0.05)
        said = str(caught.value)
    joined.close()
    second.close()


def test_a_link_that_is_named_is_the_real_one_and_the_rest_stays_the_worlds(world: World, path: Path) -> None:
    with pytest.raises(MissingPartError, match="thox-none"):
        open_hardware(world=path, module="b", wiring={"link": "thox-none"})
    its = open_hardware(world=path, module="b", wiring={"link": "lo"})
    try:
        assert its.link.address() == "127.0.0.1" != world.look("b").address and its.simulated
        assert its.supply.external() is False
    finally:
        its.close()
    assert its.link.receive(5.0) is None, "it is closed with the rest"


def test_many_threads_share_one_connection(path: Path) -> None:
    with client(path, "a") as port:
        hardware = sim_hardware(port, ORIN_NX_16)
        wrong: list[object] = []

        def ask() -> None:
            for _ in range(50):
                if hardware.power.total().unit != "W":
                    wrong.append(1)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert not wrong and not any(thread.is_alive() for thread in threads)


def test_every_hand_has_arguments_that_json_can_say(world: World) -> None:
    for name in HANDS:
        assert callable(getattr(world, name))
        with pytest.raises(HardwareError, match="takes no"):
            use_hand(world, name, {"nothing like it": 1})
    use_hand(world, "heat", {"celsius": 30})
    assert world.status()["modules"]["a"]["ambient_c"] == 30
