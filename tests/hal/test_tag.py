"""Our own tag: written so that no reader takes a torn record for whole, and no oftener than its EEPROM endures."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ntag_chip import NtagChip
from test_tag_record import RECORD

from hal.base import HardwareError, MissingPartError, TagRecord
from hal.tag import BURST, LAST_BLOCK, REFILL_S, Nt3hTag, TagWearError
from hal.tag_record import TagRecordError, decode, encode

JOINED = dataclasses.replace(RECORD, cluster_id="ms-cluster-42", boot_nonce="f" * 32)


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Cut(Exception):
    """The power goes."""


def tag_on(chip: NtagChip, clock: Clock | None = None) -> Nt3hTag:
    clock = clock or Clock()
    return Nt3hTag(chip, clock, clock.sleep)


def read_over_the_air(chip: NtagChip) -> bytes:
    """What a reader makes of the memory: page by page, as the bytes come."""
    data = b"".join(chip.rf(bytes((0x30, page))) or b"" for page in range(4, 0xE0, 4))
    assert data[0] == 0x03
    if data[1] < 255:
        return data[2 : 2 + data[1]]
    return data[4 : 4 + int.from_bytes(data[2:4], "big")]


def believed(message: bytes) -> TagRecord | None:
    try:
        return decode(message)
    except TagRecordError:
        return None


def test_a_published_record_is_what_a_reader_reads() -> None:
    chip = NtagChip()
    tag = tag_on(chip)
    tag.publish(RECORD)
    assert decode(read_over_the_air(chip)) == RECORD
    assert tag.state().state == "ok"
    assert tag.state().part == "nfc-tag"


def test_serial_number_locks_container_and_configuration_are_never_written() -> None:
    chip = NtagChip()
    fixed = bytes(chip.memory[:16]), bytes(chip.memory[(LAST_BLOCK + 1) * 16 :])
    tag = tag_on(chip)
    longest = dataclasses.replace(
        RECORD, firmware="f" * 32, cluster_id="c" * 64, addresses=("2001:db8::1234:5678:9abc:def0",) * 8
    )
    for record in (RECORD, JOINED, longest):
        tag.publish(record)
        assert decode(read_over_the_air(chip)) == record
    assert (bytes(chip.memory[:16]), bytes(chip.memory[(LAST_BLOCK + 1) * 16 :])) == fixed
    assert set(chip.written) <= set(range(1, LAST_BLOCK + 1))


def test_only_blocks_that_change_are_written_and_none_when_nothing_does() -> None:
    chip = NtagChip()
    tag = tag_on(chip)
    tag.publish(RECORD)
    chip.written.clear()
    tag.publish(RECORD)
    assert chip.written == []
    tag.publish(dataclasses.replace(RECORD, cluster_id="ms-cluster-abc124"))
    assert chip.written[0] == chip.written[-1] == 1, "the length goes first and comes last"
    assert len(chip.written) <= 5, "length twice, the CRC's block or two, and the block of the cluster id"


def test_a_reader_that_reads_between_any_two_writes_finds_an_empty_tag() -> None:
    chip = NtagChip()
    tag = tag_on(chip)
    tag.publish(RECORD)
    found: list[bytes] = []

    def peek(_: int) -> None:
        chip.watchdog()
        found.append(read_over_the_air(chip))

    chip.before_write = peek
    tag.publish(JOINED)
    assert found[0] == encode(RECORD)
    assert set(found[1:]) == {b""}
    assert read_over_the_air(chip) == encode(JOINED)


@settings(deadline=None)
@given(first=st.integers(1, 60), between=st.integers(0, 60))
def test_a_reader_whose_read_overlaps_the_writing_never_gets_a_mixture(first: int, between: int) -> None:
    """``first`` pages are read before the writing, the others at a write further on."""
    chip = NtagChip()
    tag = tag_on(chip)
    tag.publish(RECORD)
    pages = [chip.memory[page * 4 : page * 4 + 16] for page in range(4, 4 + 4 * first, 4)]
    writes = 0
    rest = b""

    def snap(_: int) -> None:
        nonlocal writes, rest
        if writes == between:
            rest = bytes(chip.memory)
        writes += 1

    chip.before_write = snap
    tag.publish(JOINED)
    if between >= writes:
        rest = bytes(chip.memory)
    data = b"".join(bytes(page) for page in pages) + rest[16 + 16 * len(pages) :]
    length = data[1] if data[1] < 255 else int.from_bytes(data[2:4], "big")
    start = 2 if data[1] < 255 else 4
    assert believed(data[start : start + length]) in (None, RECORD, JOINED)


@pytest.mark.parametrize("blow", range(1, 16))
def test_power_lost_before_any_write_leaves_a_whole_record_or_none_and_the_next_start_writes_it(blow: int) -> None:
    chip = NtagChip()
    tag_on(chip).publish(RECORD)
    chip.written.clear()

    def cut(_: int) -> None:
        if len(chip.written) == blow:
            raise Cut

    chip.before_write = cut
    try:
        tag_on(chip).publish(JOINED)
    except Cut:
        chip.watchdog()
        assert believed(read_over_the_air(chip)) is None
    else:
        assert len(chip.written) <= blow
    chip.before_write = lambda block: None
    tag_on(chip).publish(JOINED)
    assert decode(read_over_the_air(chip)) == JOINED


@pytest.mark.parametrize("trouble", ["write_errors", "torn_writes"])
def test_a_block_that_did_not_take_is_written_again(trouble: str) -> None:
    chip = NtagChip()
    setattr(chip, trouble, 2)
    tag_on(chip).publish(RECORD)
    assert decode(read_over_the_air(chip)) == RECORD


def test_a_block_that_never_takes_is_a_fault_with_a_hint_and_no_reader_believes_the_tag() -> None:
    chip = NtagChip()
    tag = tag_on(chip)
    tag.publish(RECORD)
    chip.write_errors = 1000
    with pytest.raises(HardwareError, match="does not keep") as caught:
        tag.publish(JOINED)
    assert caught.value.hint
    assert tag.state().state == "fault"
    chip.write_errors = 0
    tag.publish(JOINED)
    assert tag.state().state == "ok"


def test_a_reader_that_holds_the_memory_is_waited_for() -> None:
    chip, clock = NtagChip(), Clock()
    tag = tag_on(chip, clock)
    chip.rf_holds = 20
    tag.publish(RECORD)
    assert decode(read_over_the_air(chip)) == RECORD


def test_a_reader_that_never_lets_go_is_an_error_after_a_bounded_time_and_nothing_is_written() -> None:
    chip, clock = NtagChip(), Clock()
    tag = tag_on(chip, clock)
    chip.rf_holds = 1 << 30
    before = clock.now
    with pytest.raises(HardwareError, match="a reader has held"):
        tag.publish(RECORD)
    assert clock.now - before < 5
    assert chip.written == []


def test_an_eeprom_that_never_finishes_is_an_error_after_a_bounded_time() -> None:
    chip, clock = NtagChip(), Clock()
    tag = tag_on(chip, clock)
    chip.busy_polls = 1 << 30
    with pytest.raises(HardwareError, match="finish writing"):
        tag.publish(RECORD)
    assert clock.now < 5


def test_memory_is_given_back_to_the_air_when_the_record_is_written() -> None:
    chip = NtagChip()
    tag_on(chip).publish(RECORD)
    assert chip.rf(b"\x30\x04") != b"\x00"


def test_a_tag_that_does_not_answer_is_missing_and_back_when_it_answers() -> None:
    chip = NtagChip()
    chip.absent = True
    tag = tag_on(chip)
    assert tag.state().state == "missing"
    with pytest.raises(MissingPartError):
        tag.publish(RECORD)
    chip.absent = False
    tag.publish(RECORD)
    assert tag.state().state == "ok"


def test_a_tag_that_is_no_nfc_forum_tag_is_left_as_it_is() -> None:
    chip = NtagChip()
    chip.memory[12:16] = bytes(4)
    tag = tag_on(chip)
    assert tag.state().state == "fault"
    with pytest.raises(HardwareError, match="capability container"):
        tag.publish(RECORD)
    assert chip.written == []


def test_a_record_that_no_reader_would_take_is_refused_before_the_tag_is_touched() -> None:
    chip = NtagChip()
    tag = tag_on(chip)
    with pytest.raises(TagRecordError):
        tag.publish(dataclasses.replace(RECORD, firmware="\x1b"))
    assert chip.written == []


def test_records_in_rapid_turn_are_refused_before_they_wear_the_tag_out() -> None:
    chip, clock = NtagChip(), Clock()
    tag = tag_on(chip, clock)
    changes = [dataclasses.replace(RECORD, boot_nonce=f"{number:032x}") for number in range(BURST + 2)]
    for record in changes[:BURST]:
        tag.publish(record)
    written = len(chip.written)
    with pytest.raises(TagWearError) as caught:
        tag.publish(changes[BURST])
    assert 0 < caught.value.retry_after_s <= REFILL_S
    assert len(chip.written) == written
    assert decode(read_over_the_air(chip)) == changes[BURST - 1], "the tag keeps what it has"
    assert tag.state().state == "ok"
    tag.publish(changes[BURST - 1])  # what is there already costs nothing
    clock.sleep(caught.value.retry_after_s)
    tag.publish(changes[BURST])
    assert decode(read_over_the_air(chip)) == changes[BURST]


def test_the_longest_record_fits() -> None:
    longest = dataclasses.replace(
        RECORD, firmware="f" * 32, cluster_id="c" * 64, addresses=("2001:db8::1234:5678:9abc:def0",) * 8
    )
    assert len(encode(longest)) + 5 <= 872
