"""Signed models: with ``models.signing_key`` set, a registry's manifest must carry a signature by that ed25519 key.

The signature of a manifest ``sha256:<hex>`` is an OCI artifact in the same repository with the tag
``sha256-<hex>.sig``: one layer of media type ``application/vnd.thox.signature.ed25519``, whose blob is the 64 bytes of
the signature (RFC 8032) over the manifest's bytes. The manifest names every blob by its sha256, so the signature is one
of the whole model.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from agent.config import ConfigError

MEDIA_TYPE = "application/vnd.thox.signature.ed25519"
SIGNATURE_BYTES = 64


class SigningKey:
    """The public key that ``models.signing_key`` holds: PEM, or the 32 bytes in base64. Raises ConfigError."""

    def __init__(self, text: str) -> None:
        try:
            if "BEGIN" in text:
                key = load_pem_public_key(text.encode())
            else:
                key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
        except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
            raise ConfigError(f"models.signing_key cannot be read: {error}", _WANTED) from error
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError("models.signing_key is not an ed25519 key", _WANTED)
        self._key = key

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over these bytes."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def tag_of(digest: str) -> str:
    """Under which tag the signature of this manifest lies."""
    return digest.replace(":", "-") + ".sig"


_WANTED = "It is an ed25519 public key, as PEM or as its 32 bytes in base64."
