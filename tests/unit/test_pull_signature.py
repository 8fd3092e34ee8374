"""A device with a signing key takes what that key signed, and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fake_models import write_checkpoint
from fake_registry import MANIFEST, FakeRegistry
from pulling import QUICK, refused

from agent.config import ModelsConfig
from agent.errors import ModelError, RequestError
from agent.models.pull import Puller
from agent.models.pull_signature import MEDIA_TYPE
from agent.models.store import ModelStore

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def puller(store: ModelStore, registry: FakeRegistry) -> Puller:
    return Puller(store, ModelsConfig(registry=registry.host, signing_key=public(KEY)), QUICK)


@pytest.fixture
def digest(registry: FakeRegistry, tmp_path: Path) -> str:
    return registry.put("medical:latest", registry.add("medical:latest", write_checkpoint(tmp_path / "source")))


def sign(registry: FakeRegistry, digest: str, signature: bytes, kind: str = MEDIA_TYPE) -> None:
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": [registry.blob(kind, signature)]}
    registry.put(f"medical:{digest.replace(':', '-')}.sig", manifest)


@pytest.mark.parametrize("form", ["base64", "pem"])
def test_a_signed_model_is_taken(store: ModelStore, registry: FakeRegistry, digest: str, form: str) -> None:
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    sign(registry, digest, KEY.sign(registry.manifests["medical:latest"]))
    settings = ModelsConfig(registry=registry.host, signing_key=pem if form == "pem" else public(KEY))
    list(Puller(store, settings, QUICK).pull("medical"))
    assert not store.find("medical").broken


def test_an_unsigned_model_is_refused_before_any_of_its_files_come(
    puller: Puller, store: ModelStore, registry: FakeRegistry, digest: str
) -> None:
    error = refused(puller, "medical", ModelError)
    assert "not signed" in error.message and digest.replace(":", "-") in (error.hint or "")
    assert not any("/blobs/" in path for path in registry.paths()) and not store.models()


def test_a_signature_by_another_key_or_over_another_manifest_is_refused(
    puller: Puller, store: ModelStore, registry: FakeRegistry, digest: str
) -> None:
    data = registry.manifests["medical:latest"]
    for signature in (OTHER.sign(data), KEY.sign(data + b" "), bytes(64)):
        sign(registry, digest, signature)
        assert "not signed by" in refused(puller, "medical", ModelError).message
    assert not store.models()


def test_what_is_no_signature_is_refused(puller: Puller, registry: FakeRegistry, digest: str) -> None:
    good = KEY.sign(registry.manifests["medical:latest"])
    for data, kind in ((good[:-1], MEDIA_TYPE), (good + b"x", MEDIA_TYPE), (good, "text/plain")):
        sign(registry, digest, data, kind)
        assert "no ed25519" in refused(puller, "medical", ModelError).message
    name = f"medical:{digest.replace(':', '-')}.sig"
    bad: tuple[object, ...] = ({}, {"layers": []}, {"layers": ["x"]}, {"layers": [{}, {}]}, [])
    for manifest in bad:
        registry.put(name, manifest)
        refused(puller, "medical", ModelError)


def test_a_manifest_changed_after_it_was_signed_is_refused(puller: Puller, registry: FakeRegistry, digest: str) -> None:
    sign(registry, digest, KEY.sign(registry.manifests["medical:latest"]))
    registry.manifests["medical:latest"] += b"\n"
    refused(puller, "medical", ModelError)


def test_the_hub_which_signs_nothing_is_closed(puller: Puller) -> None:
    with pytest.raises(RequestError, match="signed"):
        puller.pull("hf.co/org/name")
