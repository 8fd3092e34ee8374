"""A device's key, and the certificates that speak for it.

Made at the first start: one Ed25519 key, which signs. Keys are agreed on by TLS 1.3 with X25519, fresh for each
connection, so no key for agreement lies on the disk. Two kinds of certificate:

* the identity certificate, signed by the key itself: device id and public key. It ends never (RFC 5280, 4.1.2.5): what
  ends is the trust in it. It is what a member knows of another, and it may issue link certificates and nothing else.
* a link certificate, issued by the identity key for a key that lives in memory alone, for 24 hours.

The fingerprint is the SHA-256 of the public key as SubjectPublicKeyInfo in DER, as in RFC 7469.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent import private_file
from agent.cluster.trust.clock import StackClock
from agent.config import ConfigError
from agent.errors import PermissionDeniedError

CERTIFICATE_BYTES: Final = 1024  # an identity certificate has some 400
LINK_LIFETIME_S: Final = 24 * 3600.0
LINK_BACKDATE_S: Final = 300.0  # clocks of two members may differ by as much
_UTC = datetime.timezone.utc
_FIRST, _LAST = datetime.datetime(2000, 1, 1, tzinfo=_UTC), datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=_UTC)
_BROKEN = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound)


class TrustError(PermissionDeniedError):
    """Somebody is not trusted, or may not be; the message says why."""

    type = "trust_error"


@dataclass(frozen=True, slots=True)
class KnownIdentity:
    """What an identity certificate says, checked: whoever made it had the key."""

    device_id: str  # UUID
    fingerprint: str  # 64 hex digits
    certificate: bytes  # DER
    key: Ed25519PublicKey = field(repr=False, compare=False)
    parsed: x509.Certificate = field(repr=False, compare=False)

    def signed(self, purpose: bytes, data: bytes, signature: bytes) -> bool:
        """Whether this device signed the data, and for this purpose."""
        try:
            self.key.verify(signature, purpose + b"\0" + data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificate and key for one TLS context, as PEM. Never written to a disk."""

    pem: bytes = field(repr=False)
    ends_at: float  # seconds since the epoch


class Identity:
    """This device's own key. The key is in no repr, no error and no log."""

    def __init__(self, device_id: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        name = _name(device_id)
        built = _builder(device_id, name, name, key.public_key(), _FIRST, _LAST)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_usage(signs_certificates=True), critical=True)
        self.known = read_identity(built.serial_number(1).sign(key, None).public_bytes(serialization.Encoding.DER))

    def sign(self, purpose: bytes, data: bytes) -> bytes:
        """64 bytes. What is signed for one purpose is no signature for another."""
        return self._key.sign(purpose + b"\0" + data)

    def own_credentials(self) -> Credentials:
        """The identity certificate itself, for the handshake of two devices that touch."""
        return Credentials(_pem(self.known.parsed, self._key), _LAST.timestamp())

    def link_credentials(self, now: float) -> Credentials:
        """For links to members: a new key, certified for 24 hours from ``now``, in seconds since the epoch."""
        key, ends_at = Ed25519PrivateKey.generate(), now + LINK_LIFETIME_S
        begins, ends = (datetime.datetime.fromtimestamp(at, _UTC) for at in (now - LINK_BACKDATE_S, ends_at))
        device_id = self.known.device_id
        built = _builder(device_id, _name(device_id), self.known.parsed.subject, key.public_key(), begins, ends)
        built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        built = built.add_extension(_usage(signs_certificates=False), critical=True)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        built = built.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.known.key)
        signed = built.add_extension(issuer, critical=False).serial_number(x509.random_serial_number())
        return Credentials(_pem(signed.sign(self._key, None), key), ends_at)


def load_identity(state_dir: Path, device_id: str) -> Identity:
    """The key in ``identity.key``, made when it is not there. Raises ConfigError when the file is something else."""
    file = state_dir / "identity.key"
    if not file.exists():
        fresh = Ed25519PrivateKey.generate()
        private_file.create(file, _key_pem(fresh))
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except _BROKEN:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{file} does not hold an Ed25519 key", "Restore it; without it this device is a stranger to its stack."
        )
    return Identity(device_id, key)


@lru_cache(maxsize=256)
def read_identity(certificate: bytes) -> KnownIdentity:
    """Raises TrustError for anything but an identity certificate as this file writes it."""
    try:
        if len(certificate) > CERTIFICATE_BYTES:
            raise ValueError("too long")
        parsed = x509.load_der_x509_certificate(certificate)
        parsed.verify_directly_issued_by(parsed)
        key, device_id = parsed.public_key(), _common_name(parsed)
        constraints = parsed.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not isinstance(key, Ed25519PublicKey) or (constraints.ca, constraints.path_length) != (True, 0):
            raise ValueError("of another kind")
    except _BROKEN as error:
        raise TrustError("This is no identity certificate of a device") from error
    return KnownIdentity(device_id, fingerprint(key), certificate, key, parsed)


def read_link(certificate: bytes, issuers: tuple[KnownIdentity, ...], clock: StackClock) -> tuple[KnownIdentity, float]:
    """Which of the issuers a link certificate speaks for, and until when. Raises TrustError when none, or not any more.

    The name counts for nothing unless the device of that name signed it: a member may not speak for another. When it
    was issued is a member's signed word of the time, so a certificate is never too early: it sets a slow clock.
    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        name = _common_name(parsed)
        issuer = next((each for each in issuers if each.device_id == name), None)
        if issuer is None:
            raise TrustError("This certificate is of no member of the stack")
        parsed.verify_directly_issued_by(issuer.parsed)
        begins, ends = parsed.not_valid_before_utc.timestamp(), parsed.not_valid_after_utc.timestamp()
    except _BROKEN as error:
        raise TrustError("This is no link certificate of a member") from error
    if ends - begins > LINK_LIFETIME_S + LINK_BACKDATE_S + 1:
        raise TrustError("This link certificate is for too long")
    clock.heard(begins + LINK_BACKDATE_S)
    if clock.now() > ends:
        raise TrustError(f"The link certificate of {issuer.device_id} has ended")
    return issuer, ends


def fingerprint(key: Ed25519PublicKey) -> str:
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).hexdigest()


def _common_name(certificate: x509.Certificate) -> str:
    """The device id of a certificate; raises ValueError when it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or str(uuid.UUID(str(names[0].value))) != names[0].value:
        raise ValueError("no device id")
    return str(names[0].value)


def _name(device_id: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])


def _builder(
    device_id: str,
    subject: x509.Name,
    issuer: x509.Name,
    key: Ed25519PublicKey,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:uuid:{device_id}")])
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    built = built.not_valid_before(begins).not_valid_after(ends).add_extension(names, critical=False)
    return built.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: Ed25519PrivateKey) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM) + _key_pem(key)


def _key_pem(key: Ed25519PrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
