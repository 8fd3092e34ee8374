"""The record on a tag: whole or refused with a reason, whatever bytes come."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import ndef
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hal.base import TagRecord
from hal.tag_record import MAX_NDEF_BYTES, RECORD_TYPE, TagRecordError, decode, encode, message

RECORD = TagRecord(
    device_id="5e9a6f0e-37bb-4c52-9d0f-0d5c7a1e2b3c",
    fingerprint="ab" * 32,
    face="bottom",
    firmware="0.1.0",
    ram_bytes=16 << 30,
    tops=100.0,
    floor_w=10.0,
    peak_w=40.0,
    addresses=("10.77.0.2", "fe80::4ab0:2dff:fe12:3456"),
    boot_nonce="0123456789abcdef0123456789abcdef",
    cluster_id="ms-cluster-abc123",
)

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126))
figures = st.floats(0, 1e6, allow_nan=False)
records = st.builds(
    lambda floor, more, **rest: TagRecord(floor_w=floor, peak_w=min(1e6, floor + more), **rest),
    floor=figures,
    more=figures,
    device_id=st.uuids().map(str),
    fingerprint=st.binary(min_size=32, max_size=32).map(bytes.hex),
    face=st.sampled_from(["top", "bottom"]),
    firmware=printable.filter(lambda text: len(text) <= 32),
    ram_bytes=st.integers(1, 1 << 50),
    tops=figures,
    addresses=st.lists(st.ip_addresses().map(str).filter(lambda text: "%" not in text), max_size=8).map(tuple),
    boot_nonce=st.binary(min_size=16, max_size=16).map(bytes.hex),
    cluster_id=printable.filter(lambda text: len(text) <= 64),
)


def body_of(data: bytes) -> bytes:
    [record] = ndef.message_decoder(data, known_types={})
    return bytes(record.data[8:])


@settings(deadline=None)
@given(records)
def test_every_record_comes_back_as_it_was_and_fits_a_tag(record: TagRecord) -> None:
    data = encode(record)
    assert decode(data) == record
    assert len(data) <= MAX_NDEF_BYTES


def test_any_ndef_reader_sees_one_external_record_of_the_documented_layout() -> None:
    [record] = ndef.message_decoder(encode(RECORD))
    assert record.type == RECORD_TYPE == "urn:nfc:ext:thox.ai:node"
    payload = bytes(record.data)
    assert payload[:2] == b"\x01\x00"
    assert struct.unpack(">H", payload[2:4]) == (len(payload),)
    assert struct.unpack(">I", payload[4:8]) == (zlib.crc32(payload[:4] + payload[8:]),)
    assert payload[8:24].hex() == RECORD.device_id.replace("-", "")
    assert payload[24:56].hex() == RECORD.fingerprint
    assert payload[56:72].hex() == RECORD.boot_nonce
    assert payload[72] == 1
    assert struct.unpack(">Qddd", payload[73:105]) == (16 << 30, 100.0, 10.0, 40.0)


def test_every_flipped_bit_of_a_message_is_refused() -> None:
    data = encode(RECORD)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(TagRecordError):
            decode(bytes(flipped))


def test_every_truncation_of_a_message_is_refused_and_so_is_a_tail() -> None:
    data = encode(RECORD)
    for length in range(len(data)):
        with pytest.raises(TagRecordError):
            decode(data[:length])
    with pytest.raises(TagRecordError):
        decode(data + b"\x00")


@settings(deadline=None, max_examples=40)
@given(records, records, st.data())
def test_a_message_torn_between_two_records_is_refused(old: TagRecord, new: TagRecord, data: st.DataObject) -> None:
    one, other = encode(old), encode(new)
    cut = data.draw(st.integers(1, min(len(one), len(other)) - 1))
    torn = one[:cut] + other[cut:]
    if torn in (one, other):  # the halves were the same
        return
    with pytest.raises(TagRecordError):
        decode(torn)


@settings(deadline=None)
@given(st.binary(max_size=1200))
@example(b"\xc4\x0c\xff\xff\xff\xffthox.ai:node")  # claims 4 GB
@example(b"\xd4\x0c\x00thox.ai:node")
@example(b"\xd1\x01\x04\xff\xff\xff\xff\xff")
def test_random_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(TagRecordError) as caught:
        decode(data)
    assert str(caught.value)


@settings(deadline=None)
@given(st.binary(max_size=800))
def test_a_hostile_body_with_the_right_length_and_crc_is_a_valid_record_or_refused(body: bytes) -> None:
    data = message(1, 0, body)
    try:
        record = decode(data)
    except TagRecordError:
        return
    assert encode(record) == data


@settings(deadline=None, max_examples=40)
@given(records, st.integers(0, 300), st.integers(0, 255))
def test_one_changed_byte_inside_a_record_with_its_crc_mended_never_crashes(
    record: TagRecord, place: int, value: int
) -> None:
    body = bytearray(body_of(encode(record)))
    body[place % len(body)] = value
    try:
        changed = decode(message(1, 0, bytes(body)))
    except TagRecordError as error:
        assert str(error)
    else:
        assert encode(changed) == message(1, 0, bytes(body))


def test_a_newer_minor_version_is_read_and_what_it_appended_is_skipped() -> None:
    assert decode(message(1, 7, body_of(encode(RECORD)) + b"something new")) == RECORD


def test_a_newer_major_version_is_refused_and_says_so() -> None:
    with pytest.raises(TagRecordError, match=r"version 2\.0"):
        decode(message(2, 0, body_of(encode(RECORD))))


def test_bytes_too_many_in_the_version_that_we_know_are_refused() -> None:
    with pytest.raises(TagRecordError, match="too many"):
        decode(message(1, 0, body_of(encode(RECORD)) + b"!"))


def test_a_message_with_a_second_record_or_of_another_type_is_refused() -> None:
    [ours] = ndef.message_decoder(encode(RECORD), known_types={})
    two = b"".join(ndef.message_encoder([ours, ndef.TextRecord("hello")]))
    other = b"".join(ndef.message_encoder([ndef.Record("urn:nfc:ext:example.com:node", "", bytes(ours.data))]))
    for data in (two, other, b""):
        with pytest.raises(TagRecordError):
            decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": "node-1"},
        {"device_id": RECORD.device_id.upper()},
        {"fingerprint": "ab" * 31},
        {"fingerprint": "AB" * 32},
        {"boot_nonce": "x" * 32},
        {"face": "left"},
        {"firmware": "1.0\n"},
        {"firmware": "v" * 33},
        {"cluster_id": "c" * 65},
        {"cluster_id": "\x1b[2J"},
        {"ram_bytes": 0},
        {"ram_bytes": 1 << 51},
        {"tops": float("nan")},
        {"floor_w": -1.0},
        {"floor_w": 41.0},
        {"peak_w": float("inf")},
        {"addresses": ("10.0.0.300",)},
        {"addresses": ("host.example",)},
        {"addresses": ("fe80::1%eth0",)},
        {"addresses": ("10.0.0.1",) * 9},
    ],
    ids=str,
)
def test_a_record_that_a_reader_would_refuse_is_not_written(change: dict[str, object]) -> None:
    with pytest.raises(TagRecordError):
        encode(dataclasses.replace(RECORD, **change))  # type: ignore[arg-type]
