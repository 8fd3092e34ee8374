"""Against the registry that everybody runs: pushed through its API, pulled by name."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fake_proxy import FakeProxy
from private_ca import make_ca
from pulling import QUICK, WEIGHTS, refused, same_files, write_model
from real_registry import RealRegistry
from small_gguf import gguf_bytes

from agent.config import ModelsConfig
from agent.errors import ModelError, NotFoundError, RequestError
from agent.models.pull import Puller
from agent.models.pull_signature import MEDIA_TYPE
from agent.models.store import ModelStore

ACCOUNT, BCRYPT = "thox:magnet", "$2b$04$xyZaxwwTRp59UKEk1J/jUOv7L81vomLL4QjSkAhq52R1C3PzSB6YC"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with RealRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def puller(store: ModelStore, registry: RealRegistry) -> Puller:
    return Puller(store, ModelsConfig(registry=registry.host), QUICK)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def files(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in source.iterdir()}


def test_a_model_is_pulled_by_tag_and_by_digest(
    puller: Puller, store: ModelStore, registry: RealRegistry, source: Path, files: dict[str, bytes]
) -> None:
    digest = registry.push("org/medical", "v1", files)
    for name in ("org/medical:v1", f"{registry.host}/org/medical@{digest}"):
        assert list(puller.pull(name))[-1].status == "success"
        model = store.find(name)
        assert same_files(model.path, source) and f"sha256:{model.digest}" == digest
    refused(puller, "org/medical:v2", NotFoundError)
    refused(puller, "org/nobody", NotFoundError)
    refused(puller, f"org/medical@sha256:{'0' * 64}", NotFoundError)


@pytest.mark.parametrize("twentieth", [1, 10, 19])
def test_a_blob_goes_on_at_any_byte(
    puller: Puller,
    store: ModelStore,
    registry: RealRegistry,
    source: Path,
    files: dict[str, bytes],
    twentieth: int,
) -> None:
    registry.push("org/medical", "v1", files)
    blob = registry.blob("org/medical", files[WEIGHTS])
    cut = len(files[WEIGHTS]) * twentieth // 20
    puller.blobs.partial(str(blob["digest"])).write_bytes(files[WEIGHTS][:cut])
    steps = list(puller.pull("org/medical:v1"))
    assert same_files(store.find("org/medical:v1").path, source)
    assert steps[-1].completed == steps[-1].total


def test_the_layout_of_the_ollama_registry_is_understood(
    puller: Puller, store: ModelStore, registry: RealRegistry
) -> None:
    ollama = "application/vnd.ollama.image."
    registry.push(
        "library/tiny",
        "latest",
        {"weights": gguf_bytes(), "template": b"{{ .Prompt }}", "params": b'{"temperature": 0.6}'},
        {"weights": ollama + "model", "template": ollama + "template", "params": ollama + "params"},
    )
    name = f"{registry.host}/library/tiny"
    list(puller.pull(name))
    model = store.find(name)
    assert not model.broken
    assert {"model.gguf", "ollama-template.txt", "ollama-params.json"} <= {path.name for path in model.path.iterdir()}


def test_a_signature_is_found_beside_the_model(
    store: ModelStore, registry: RealRegistry, files: dict[str, bytes]
) -> None:
    key = Ed25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    puller = Puller(store, ModelsConfig(registry=registry.host, signing_key=public), QUICK)
    digest = registry.push("org/signed", "v1", files)
    assert "not signed" in refused(puller, "org/signed:v1", ModelError).message
    signature = registry.blob("org/signed", key.sign(registry.manifest_bytes("org/signed", digest)), MEDIA_TYPE)
    registry.manifest("org/signed", digest.replace(":", "-") + ".sig", [signature])
    assert list(puller.pull("org/signed:v1"))[-1].status == "success"


def test_a_registry_with_accounts_and_a_private_authority_serves_its_own(
    store: ModelStore, source: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    ca = make_ca(tmp_path / "ca", "registry.test")
    with RealRegistry(tmp_path / "registry", ca, ACCOUNT, BCRYPT) as registry, FakeProxy(registry.port) as proxy:
        registry.push("org/medical", "v1", files)
        name, trusted = "registry.test/org/medical:v1", ModelsConfig(proxy=proxy.host, ca_file=str(ca.ca_file))
        assert "[models.tokens]" in (refused(Puller(store, trusted, QUICK), name, RequestError).hint or "")
        known = ModelsConfig(proxy=proxy.host, ca_file=str(ca.ca_file), tokens={"registry.test": ACCOUNT})
        list(Puller(store, known, QUICK).pull(name))
        assert same_files(store.find(name).path, source)
