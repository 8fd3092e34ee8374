"""Each layout of a model in a registry becomes a folder: ORAS and ModelPack by name, Ollama's and Docker's by kind."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_registry import MANIFEST, FakeRegistry
from pulling import QUICK, WEIGHTS, refused, same_files, write_model
from small_gguf import gguf_bytes

from agent.config import ModelsConfig
from agent.errors import ModelError, NoRoomError, RequestError
from agent.models.pull import Puller
from agent.models.store import ModelStore

OLLAMA, MODELPACK = "application/vnd.ollama.image.", "application/vnd.cncf.model."
FILEPATH = "org.cncf.model.filepath"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def puller(store: ModelStore, registry: FakeRegistry) -> Puller:
    return Puller(store, ModelsConfig(registry=f"{registry.host}/library"), QUICK)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source")


def publish(registry: FakeRegistry, name: str, *layers: dict[str, object]) -> None:
    config = registry.blob("application/vnd.docker.container.image.v1+json", b"{}")
    registry.put(name, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": list(layers)})


def test_a_model_of_the_ollama_registry_is_one_gguf_and_its_texts(
    puller: Puller, store: ModelStore, registry: FakeRegistry
) -> None:
    weights = gguf_bytes()
    publish(
        registry,
        "library/qwen3:0.6b",
        registry.blob(OLLAMA + "model", weights),
        registry.blob(OLLAMA + "template", b"{{ .Prompt }}"),
        registry.blob(OLLAMA + "license", b"Apache"),
        registry.blob(OLLAMA + "license", b"and another"),
        registry.blob(OLLAMA + "params", json.dumps({"stop": ["<|im_end|>"]}).encode()),
        registry.blob(OLLAMA + "system", b"You are kind."),
        registry.blob(OLLAMA + "messages", b"[]"),
        registry.blob(OLLAMA + "projector", b"not for text"),
    )
    list(puller.pull("qwen3:0.6b"))
    model = store.find("qwen3:0.6b")
    assert {path.name: path.read_bytes() for path in model.path.iterdir() if path.name != ".thox.json"} == {
        "model.gguf": weights,
        "ollama-template.txt": b"{{ .Prompt }}",
        "ollama-params.json": b'{"stop": ["<|im_end|>"]}',
        "ollama-system.txt": b"You are kind.",
        "LICENSE.txt": b"Apache",
        "LICENSE-2.txt": b"and another",
    }
    assert not model.broken and model.source.startswith(f"{registry.host}/library/qwen3:0.6b@sha256:")


def test_a_docker_model_is_a_gguf_too(puller: Puller, store: ModelStore, registry: FakeRegistry) -> None:
    publish(
        registry,
        "ai/smol:latest",
        registry.blob("application/vnd.docker.ai.gguf.v3", gguf_bytes()),
        registry.blob("application/vnd.docker.ai.license", b"Apache"),
    )
    list(puller.pull("ai/smol"))
    assert {path.name for path in store.find("ai/smol").path.glob("*")} >= {"model.gguf", "LICENSE.txt"}
    assert not store.find("ai/smol").broken


def test_an_adapter_or_two_ggufs_are_no_model(puller: Puller, registry: FakeRegistry) -> None:
    weights = registry.blob(OLLAMA + "model", gguf_bytes())
    publish(registry, "library/a:latest", weights, registry.blob(OLLAMA + "adapter", b"x"))
    assert "adapter" in refused(puller, "a", RequestError).message
    publish(registry, "library/b:latest", weights, weights)
    assert "twice" in refused(puller, "b", ModelError).message


def test_what_only_says_that_it_is_a_gguf_is_not_published(
    puller: Puller, store: ModelStore, registry: FakeRegistry
) -> None:
    publish(registry, "library/a:latest", registry.blob(OLLAMA + "model", b"<html>not found</html>"))
    refused(puller, "a", RequestError)
    assert not store.models()


def test_a_gguf_of_an_unknown_architecture_is_refused_with_those_that_are_known(
    puller: Puller, store: ModelStore, registry: FakeRegistry
) -> None:
    length = (5).to_bytes(8, "little")
    foreign = gguf_bytes().replace(length + b"llama", length + b"rwkv7", 1)
    publish(registry, "library/a:latest", registry.blob(OLLAMA + "model", foreign))
    error = refused(puller, "a", RequestError)
    assert "unknown architecture 'rwkv7'" in error.message and "qwen3" in error.message
    assert not store.models()


def packed(registry: FakeRegistry, path: str, data: bytes, **kinds: object) -> dict[str, object]:
    """A layer of ModelPack: the file in a tar, under its path unless told otherwise."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(str(kinds.get("inside", path)))
        member.size = len(data)
        if "link" in kinds:
            member.type, member.linkname, member.size = tarfile.SYMTYPE, str(kinds["link"]), 0
        tar.addfile(member, None if "link" in kinds else io.BytesIO(data))
        if "beside" in kinds:
            tar.addfile(tarfile.TarInfo(str(kinds["beside"])))
    layer = registry.blob(MODELPACK + "weight.v1.tar", stream.getvalue())
    return {**layer, "annotations": {FILEPATH: path}}


def test_a_modelpack_is_unpacked_file_by_file(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    layers = [packed(registry, file.name, file.read_bytes()) for file in source.iterdir()]
    config = {
        **registry.blob(MODELPACK + "weight.config.v1.raw", b"{}"),
        "annotations": {FILEPATH: "1_Pooling/config.json"},
    }
    publish(registry, "library/packed:v1", *layers, config)
    steps = list(puller.pull("packed:v1"))
    model = store.find("packed:v1")
    assert same_files(model.path, source) and (model.path / "1_Pooling" / "config.json").read_text() == "{}"
    assert steps[-1].completed == steps[-1].total
    assert {blob.bytes for blob in puller.blobs.unreferenced()} == {layer["size"] for layer in layers}


@pytest.mark.parametrize(
    "kinds",
    [
        {"inside": "../config.json"},
        {"inside": "/etc/passwd"},
        {"inside": "other"},
        {"link": "/etc/passwd"},
        {"beside": "x"},
    ],
)
def test_an_archive_that_holds_anything_else_is_refused(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path, kinds: dict[str, object]
) -> None:
    publish(registry, "library/packed:v1", packed(registry, "config.json", b"{}", **kinds))
    assert "holds something else" in refused(puller, "packed:v1", ModelError).message
    assert not store.models()


def test_an_archive_that_is_none_is_refused(puller: Puller, registry: FakeRegistry) -> None:
    layer = {**registry.blob(MODELPACK + "weight.v1.tar", b"no archive" * 100), "annotations": {FILEPATH: "x.json"}}
    publish(registry, "library/packed:v1", layer)
    assert "cannot be read" in refused(puller, "packed:v1", ModelError).message


@pytest.mark.parametrize("path", ["x/y.json", "X", "x"])
def test_files_that_cannot_lie_side_by_side_are_refused(puller: Puller, registry: FakeRegistry, path: str) -> None:
    publish(registry, "library/odd:v1", registry.layer("x", b"1"), registry.layer(path, b"2"))
    refused(puller, "odd:v1", ModelError)


def test_a_manifest_of_more_files_than_any_model_has_is_refused(puller: Puller, registry: FakeRegistry) -> None:
    layer = registry.layer("x", b"1")
    publish(registry, "library/many:v1", *([layer] * 5000))
    assert "more than 4096" in refused(puller, "many:v1", ModelError).message


def test_room_is_wanted_for_an_archive_and_for_what_is_in_it(
    puller: Puller, registry: FakeRegistry, source: Path
) -> None:
    layer = {**packed(registry, WEIGHTS, b""), "size": 1 << 40}
    publish(registry, "library/packed:v1", layer)
    error = refused(puller, "packed:v1", NoRoomError)
    assert error.details["needed_bytes"] == 2 << 40
