"""What stands on a module's NFC tag: TagRecord <-> the bytes of an NDEF message. Pure; such bytes are hostile input.

The message is one external record, ``urn:nfc:ext:thox.ai:node``. Its payload, big-endian:

    offset  size  field
    0       1     major version: a reader refuses one that it does not know
    1       1     minor version: a newer one only appends to the body, and what is appended is skipped
    2       2     length of the whole payload
    4       4     CRC-32 (zlib) of everything else in the payload
    8       16    device UUID
    24      32    SHA-256 of the public key
    56      16    boot nonce
    72      1     face that wears the tag: 0 top, 1 bottom
    73      8     RAM, bytes
    81      24    TOPS, floor W, peak W: three IEEE doubles
    105     1+n   firmware, printable ASCII, at most 32
            1+n   cluster id, the same, at most 64; empty: in no cluster
            1+... number of addresses, at most 8, each as its length (4 or 16) and the bytes of the IP address

Length and CRC make a message that was torn between two writes, or in the air, no message at all. They are no proof of
who wrote it: anybody with a phone can write a tag. What the record claims must be proven over the link, with the key
that the fingerprint names.
"""

from __future__ import annotations

import ipaddress
import math
import struct
import uuid
import zlib
from collections.abc import Callable

import ndef

from hal.base import HardwareError, TagRecord

MAX_NDEF_BYTES = 868  # what a factory-fresh NT3H2111 offers: 872 bytes of data area less tag and 3-byte length
RECORD_TYPE = "urn:nfc:ext:thox.ai:node"
MAJOR, MINOR = 1, 0

MAX_FIRMWARE = 32
MAX_CLUSTER_ID = 64
MAX_ADDRESSES = 8
MAX_RAM_BYTES = 1 << 50
MAX_FIGURE = 1e6  # TOPS and watts: far above any module, far below what upsets arithmetic

_HEAD = struct.Struct(">BBHI")
_FIXED = struct.Struct(">16s32s16sBQddd")


class TagRecordError(HardwareError):
    """These bytes are no record of a node, or this record cannot be written; the message says why."""


def encode(record: TagRecord) -> bytes:
    """The NDEF message for a tag, at most MAX_NDEF_BYTES. Raises TagRecordError where a reader would refuse it."""
    _check(record)
    body = _FIXED.pack(
        uuid.UUID(record.device_id).bytes,
        bytes.fromhex(record.fingerprint),
        bytes.fromhex(record.boot_nonce),
        ("top", "bottom").index(record.face),
        record.ram_bytes,
        record.tops,
        record.floor_w,
        record.peak_w,
    )
    body += _short(record.firmware.encode("ascii")) + _short(record.cluster_id.encode("ascii"))
    body += bytes((len(record.addresses),))
    body += b"".join(_short(ipaddress.ip_address(address).packed) for address in record.addresses)
    return message(MAJOR, MINOR, body)


def decode(data: bytes) -> TagRecord:
    """The record in an NDEF message that a tag holds. Raises TagRecordError, and nothing else, on all others."""
    major, minor, body = _open(_payload(data))
    if major != MAJOR:
        raise TagRecordError(f"version {major}.{minor} of the record is not known", "update the older module")
    reader = _Body(body)
    device, key, nonce, face, ram, tops, floor, peak = _FIXED.unpack(reader.take(_FIXED.size))
    if face > 1:
        raise TagRecordError(f"there is no face {face}")
    firmware, cluster = reader.text("firmware"), reader.text("cluster id")
    count = reader.take(1)[0]
    if count > MAX_ADDRESSES:
        raise TagRecordError(f"{count} addresses are too many")
    addresses = tuple(reader.address() for _ in range(count))
    if reader.left and minor <= MINOR:
        raise TagRecordError(f"{reader.left} bytes too many for version {major}.{minor}")
    record = TagRecord(
        device_id=str(uuid.UUID(bytes=device)),
        fingerprint=key.hex(),
        face="bottom" if face else "top",
        firmware=firmware,
        ram_bytes=ram,
        tops=tops,
        floor_w=floor,
        peak_w=peak,
        addresses=addresses,
        boot_nonce=nonce.hex(),
        cluster_id=cluster,
    )
    _check(record)
    return record


def message(major: int, minor: int, body: bytes) -> bytes:
    """The NDEF message around a body of the given version, with its length and CRC."""
    length = _HEAD.size + len(body)
    if length > MAX_NDEF_BYTES:
        raise TagRecordError(f"{length} bytes are too many for a tag")
    versions = struct.pack(">BBH", major, minor, length)
    return _wrap(versions + struct.pack(">I", zlib.crc32(versions + body)) + body)


def _wrap(payload: bytes) -> bytes:
    data = b"".join(ndef.message_encoder([ndef.Record(RECORD_TYPE, "", payload)]))
    if len(data) > MAX_NDEF_BYTES:
        raise TagRecordError(f"{len(data)} bytes are too many for a tag")
    return data


def _payload(data: bytes) -> bytes:
    """What the one record of the message carries."""
    if not data:
        raise TagRecordError("the tag is empty")
    if len(data) > MAX_NDEF_BYTES:
        raise TagRecordError(f"{len(data)} bytes are too many for a node's tag")
    try:
        # No known types: every record stays bytes, whatever it claims to be.
        records = list(ndef.message_decoder(bytes(data), errors="strict", known_types={}))
    except (ndef.DecodeError, ValueError, IndexError) as error:
        raise TagRecordError(f"no NDEF message: {error}") from error
    if len(records) != 1 or records[0].type != RECORD_TYPE:
        raise TagRecordError("not the tag of a node")
    payload = bytes(records[0].data)
    # Only the one form that encode() writes: no bit outside the CRC may be free.
    if _wrap(payload) != data:
        raise TagRecordError("an NDEF message of another form than a node's")
    return payload


def _open(payload: bytes) -> tuple[int, int, bytes]:
    """Versions and body of a payload that is whole."""
    if len(payload) < _HEAD.size:
        raise TagRecordError("torn: shorter than its head")
    major, minor, length, crc = _HEAD.unpack_from(payload)
    if length != len(payload):
        raise TagRecordError(f"torn: {len(payload)} of {length} bytes")
    body = payload[_HEAD.size :]
    if zlib.crc32(payload[:4] + body) != crc:
        raise TagRecordError("torn: the CRC does not fit")
    return major, minor, body


class _Body:
    """Takes a body apart, and never reads past its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise TagRecordError("the body ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def text(self, what: str) -> str:
        try:
            return self.take(self.take(1)[0]).decode("ascii")
        except UnicodeDecodeError as error:
            raise TagRecordError(f"the {what} is not ASCII") from error

    def address(self) -> str:
        packed = self.take(self.take(1)[0])
        if len(packed) not in (4, 16):
            raise TagRecordError(f"an address of {len(packed)} bytes")
        return str(ipaddress.ip_address(packed))


def _short(data: bytes) -> bytes:
    return bytes((len(data),)) + data


def _check(record: TagRecord) -> None:
    """Both ways: what a reader refuses is not written, and what is read is what could have been written."""
    _same("device id", record.device_id, lambda text: str(uuid.UUID(text)))
    _same("fingerprint", record.fingerprint, lambda text: bytes.fromhex(text).hex(), 64)
    _same("boot nonce", record.boot_nonce, lambda text: bytes.fromhex(text).hex(), 32)
    if record.face not in ("top", "bottom"):
        raise TagRecordError(f"there is no face {record.face!r}")
    for what, text, most in (
        ("firmware", record.firmware, MAX_FIRMWARE),
        ("cluster id", record.cluster_id, MAX_CLUSTER_ID),
    ):
        if len(text) > most or not (text.isascii() and text.isprintable()):
            raise TagRecordError(f"the {what} is not printable ASCII of at most {most} characters")
    if not 0 < record.ram_bytes <= MAX_RAM_BYTES:
        raise TagRecordError(f"{record.ram_bytes} bytes of RAM cannot be")
    for what, figure in (("TOPS", record.tops), ("floor", record.floor_w), ("peak", record.peak_w)):
        if not (math.isfinite(figure) and 0 <= figure <= MAX_FIGURE):
            raise TagRecordError(f"{what} of {figure} cannot be")
    if record.floor_w > record.peak_w:
        raise TagRecordError(f"a floor of {record.floor_w} W above the peak of {record.peak_w} W")
    if len(record.addresses) > MAX_ADDRESSES:
        raise TagRecordError(f"{len(record.addresses)} addresses are too many")
    for address in record.addresses:
        _same("address", address, lambda text: str(ipaddress.ip_address(text)))
        if "%" in address:
            raise TagRecordError("the scope of an address means nothing to another module")


def _same(what: str, text: str, canonical: Callable[[str], str], length: int | None = None) -> None:
    """Only the one spelling that comes back when the bytes are read again."""
    try:
        same = canonical(text) == text and length in (None, len(text))
    except ValueError:
        same = False
    if not same:
        raise TagRecordError(f"{text!r:.80} is no {what}")
