"""The NFC reader over the wire: nfcpy's own driver in its process, an emulated PN532 behind a pseudo-terminal."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ndef
import pytest
from ntag_chip import NtagChip
from pn532_pty import Pn532
from test_tag_record import RECORD

from hal.base import Sighting
from hal.nfc_reader import NfcReader, open_reader
from hal.tag_record import encode

DEADLINE = 60.0  # generous: two busy cores; nothing here is a matter of speed


class Bench:
    """One reader on a cable that can be pulled: the device file is a link, as udev makes it."""

    def __init__(self, folder: Path) -> None:
        self.link = folder / "thox-nfc0"
        self.chip = Pn532()
        self.link.symlink_to(self.chip.path)
        self.tag = NtagChip()
        self.tag.ndef = encode(RECORD)

    def replug(self) -> None:
        self.link.unlink()
        self.chip = Pn532()
        self.link.symlink_to(self.chip.path)


class EndlessTag:
    """Answers every page of every sector, and says that its message is 65,535 bytes long."""

    uid = bytes.fromhex("04666666666666")
    sens_res, sel_res = b"\x44\x00", b"\x00"

    def __init__(self) -> None:
        self.asked_beyond = False

    def rf(self, frame: bytes) -> bytes | None:
        if frame[:1] == b"\xc2":
            self.asked_beyond = True
            return b"\x0a"
        if frame[:1] != b"\x30":
            return None
        self.asked_beyond |= frame[1] > 0xE1
        container = bytes((0xE1, 0x10, 0xFF, 0x00))
        pages = {3: container + b"\x03\xff\xff\xff" + bytes(8), 4: b"\x03\xff\xff\xff" + bytes(12)}
        return bytes(12) + container if frame[1] == 0 else pages.get(frame[1], bytes(16))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.chip.unplug()


@pytest.fixture
def reader(bench: Bench) -> Iterator[NfcReader]:
    reader = open_reader("top", str(bench.link))
    eventually(lambda: reader.state().state == "ok", reader)
    yield reader
    reader.close()


def eventually(true: Callable[[], bool], reader: NfcReader) -> None:
    """Wait for it to come true: sightings wake us, states are looked at."""
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, f"{reader.state()}, seen {reader.seen()}"
        time.sleep(0.02)


def sighted(reader: NfcReader) -> Sighting:
    sighting = reader.wait(DEADLINE)
    assert sighting is not None, str(reader.state())
    return sighting


def test_a_neighbour_that_is_stacked_is_read_and_one_that_is_taken_away_is_gone(
    bench: Bench, reader: NfcReader
) -> None:
    assert reader.face == "top"
    assert reader.seen() is None
    stacked = time.monotonic()
    bench.chip.place(bench.tag)
    came = sighted(reader)
    assert came.record == RECORD == reader.seen()
    unstacked = time.monotonic()
    bench.chip.remove()
    gone = sighted(reader)
    assert gone.record is None is reader.seen()
    assert stacked < came.at < unstacked < gone.at
    assert bench.chip.unknown == []


def test_a_record_that_its_owner_rewrites_is_seen_without_unstacking(bench: Bench, reader: NfcReader) -> None:
    bench.chip.place(bench.tag)
    assert sighted(reader).record == RECORD
    joined = dataclasses.replace(RECORD, cluster_id="ms-cluster-42")
    bench.tag.ndef = encode(joined)
    assert sighted(reader).record == joined


def test_another_module_in_the_same_place_is_another_sighting_with_nothing_between_taken_for_it(
    bench: Bench, reader: NfcReader
) -> None:
    bench.chip.place(bench.tag)
    assert sighted(reader).record == RECORD
    other = NtagChip(bytes.fromhex("04ffeeddccbbaa"))
    other.ndef = encode(dataclasses.replace(RECORD, device_id="00000000-0000-4000-8000-000000000001"))
    bench.chip.place(other)
    assert sighted(reader).record is None
    record = sighted(reader).record
    assert record is not None
    assert record.device_id.endswith("0001")


def test_a_record_torn_by_a_write_during_the_read_is_never_taken_for_whole(bench: Bench, reader: NfcReader) -> None:
    """Every read of the first message comes apart: while the reader is at page 12, the owner puts another there."""
    other = dataclasses.replace(RECORD, device_id="00000000-0000-4000-8000-000000000002", tops=50.0)
    messages = [encode(RECORD), encode(other)]
    swaps = 0

    def swap(page: int) -> None:
        nonlocal swaps
        if page == 12 and swaps < 3:
            swaps += 1
            bench.tag.ndef = messages[swaps % 2]

    bench.tag.before_read = swap
    bench.chip.place(bench.tag)
    assert sighted(reader).record in (RECORD, other)
    assert swaps == 3
    assert reader.wait(0) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 300,
        b"".join(ndef.message_encoder([ndef.TextRecord("hello")])),
        encode(RECORD)[:-1] + b"\x00",
    ],
    ids=["empty", "noise", "a text", "a wrong byte"],
)
def test_a_tag_of_a_stranger_is_a_fault_that_is_named_and_no_neighbour(
    bench: Bench, reader: NfcReader, content: bytes
) -> None:
    bench.tag.ndef = content
    bench.chip.place(bench.tag)
    eventually(lambda: reader.state().state == "fault", reader)
    assert "refused" in reader.state().detail
    assert reader.seen() is None
    assert reader.wait(0) is None
    bench.tag.ndef = encode(RECORD)
    assert sighted(reader).record == RECORD
    assert reader.state().state == "ok"


def test_a_tag_that_claims_to_be_endless_is_read_no_further_than_a_nodes_tag_is_long(
    bench: Bench, reader: NfcReader
) -> None:
    endless = EndlessTag()
    bench.chip.place(endless)
    eventually(lambda: reader.state().state == "fault", reader)
    assert "refused" in reader.state().detail
    assert endless.asked_beyond is False
    bench.chip.place(bench.tag)
    assert sighted(reader).record == RECORD


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_helper_that_dies_or_hangs_is_replaced_and_the_neighbour_stays(
    bench: Bench, reader: NfcReader, blow: signal.Signals
) -> None:
    """The chip still speaks its high speed then, which nfcpy alone cannot open it from."""
    bench.chip.place(bench.tag)
    assert sighted(reader).record == RECORD
    assert bench.chip.speed == 921600
    pid = reader.helper_pid
    assert pid is not None
    os.kill(pid, blow)
    eventually(lambda: reader.state().state != "ok", reader)
    assert reader.state().detail
    eventually(lambda: reader.state().state == "ok", reader)
    assert reader.helper_pid not in (None, pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    bench.chip.remove()
    while sighted(reader).record is not None:  # a slow machine may take longer to restart than the record is held
        pass
    assert reader.seen() is None


def test_a_reader_that_is_unplugged_is_a_fault_and_works_again_when_it_is_back(bench: Bench, reader: NfcReader) -> None:
    bench.chip.place(bench.tag)
    assert sighted(reader).record == RECORD
    bench.chip.unplug()
    eventually(lambda: reader.state().state in ("fault", "missing"), reader)
    assert sighted(reader).record is None, "a neighbour that nobody can see does not stay for ever"
    bench.replug()
    bench.chip.place(bench.tag)
    assert sighted(reader).record == RECORD
    assert reader.state().state == "ok"


def test_a_chip_that_hangs_is_a_fault_until_it_answers_again(bench: Bench, reader: NfcReader) -> None:
    bench.chip.silent = True
    eventually(lambda: reader.state().state == "fault", reader)
    bench.chip.silent = False
    eventually(lambda: reader.state().state == "ok", reader)


def test_a_reader_that_was_never_there_is_missing_and_closing_it_ends_everything(tmp_path: Path) -> None:
    reader = open_reader("bottom", str(tmp_path / "thox-nfc1"))
    eventually(lambda: reader.state().state == "missing", reader)
    assert "thox-nfc1" in reader.state().detail
    assert reader.state().part == "nfc-reader-bottom"
    reader.close()
    assert reader.helper_pid is None


def test_libnfcs_own_driver_finds_the_same_tag_in_the_emulated_chip(bench: Bench) -> None:
    """The emulator speaks the chip's protocol, not one library's dialect of it."""
    program = shutil.which("nfc-list")
    if program is None:
        pytest.skip("nfc-list is not installed: apt-get install libnfc-bin")
    bench.chip.place(bench.tag)
    environment = {"LIBNFC_DEFAULT_DEVICE": f"pn532_uart:{bench.chip.path}", "LIBNFC_AUTO_SCAN": "false"}
    found = subprocess.run(
        [program, "-t", "1"], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert bench.tag.uid.hex(" ", 1) in found.stdout.replace("  ", " "), found.stdout + found.stderr
