"""Models come from a registry over real HTTP, whole or not at all, whatever the registry says."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import write_checkpoint
from fake_registry import FakeRegistry
from pulling import QUICK, refused
from small_gguf import gguf_bytes

from agent.config import ModelsConfig
from agent.errors import ModelError, NotFoundError, RequestError, UnavailableError
from agent.models.pull import BlobProgress, Puller
from agent.models.store import ModelStore


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {"thox-nano": write_checkpoint(tmp_path / "shipped")})


@pytest.fixture
def puller(store: ModelStore, registry: FakeRegistry) -> Iterator[Puller]:
    puller = Puller(store, ModelsConfig(registry=registry.host), QUICK)
    yield puller
    puller.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "source")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("title", ["org.opencontainers.image.title", "org.cncf.model.filepath"])
def test_a_model_is_pulled_by_its_name(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path, title: str
) -> None:
    registry.add("medical:latest", source, title)
    steps = list(puller.pull("medical"))
    total = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    assert (steps[-1].status, steps[-1].completed, steps[-1].total) == ("success", total, total)
    ends = {blob.path: blob for step in steps for blob in step.blobs}
    assert ends["config.json"] == BlobProgress(
        "config.json",
        "sha256:" + hashlib.sha256((source / "config.json").read_bytes()).hexdigest(),
        (source / "config.json").stat().st_size,
        (source / "config.json").stat().st_size,
    )
    assert sum(blob.completed for blob in ends.values()) == total
    assert [step.completed for step in steps] == sorted(step.completed for step in steps)
    model = store.find("medical")
    assert not model.broken and model.source.startswith(f"{registry.host}/medical:latest@sha256:")
    assert model.source.endswith(model.digest)
    for file in source.rglob("*"):
        copy = model.path / file.relative_to(source)
        assert copy.is_dir() if file.is_dir() else copy.read_bytes() == file.read_bytes()


def test_a_name_may_bring_its_registry_and_its_tag(store: ModelStore, registry: FakeRegistry, source: Path) -> None:
    registry.add("org/medical:v2", source)
    name = f"{registry.host}/org/medical:v2"
    list(Puller(store, limits=QUICK).pull(name))
    assert store.find(name).source.startswith(name)


def change(registry: FakeRegistry, source: Path, **values: object) -> None:
    """Publish the model with its first file described otherwise."""
    manifest = registry.add("medical:latest", source)
    manifest["layers"][0].update(values)
    registry.put("medical:latest", manifest)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 1}, "two sizes"),
        ({"size": -1}, "impossible size"),
        ({"size": 1 << 50}, "impossible size"),
        ({"size": "10"}, "impossible size"),
        ({"digest": "md5:12"}, "no sha256"),
        ({"digest": "../../manifests/x"}, "no sha256"),
    ],
)
def test_sizes_and_digests_that_lie_are_found_out(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path, values: dict[str, Any], words: str
) -> None:
    change(registry, source, **values)
    assert words in refused(puller, "medical", ModelError).message
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "a//b", "", ".", ".thox.json", "a\\b", "a\0b", "a\x1b", "~x", "a/b/c/d/e"]
)
def test_a_file_that_would_lie_outside_is_refused(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path, path: str
) -> None:
    change(registry, source, annotations={"org.opencontainers.image.title": path})
    refused(puller, "medical", ModelError)
    assert not list(store.folder.iterdir())


def test_a_file_named_twice_is_refused(puller: Puller, registry: FakeRegistry, source: Path) -> None:
    change(registry, source, annotations={"org.opencontainers.image.title": "model.safetensors"})
    assert "twice" in refused(puller, "medical", ModelError).message


@pytest.mark.parametrize(
    "manifest",
    [
        {"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []},
        {"layers": []},
        {"layers": ["x"]},
        {"layers": [{"mediaType": "application/vnd.ollama.image.adapter", "digest": "", "size": 1}]},
        {"layers": [{"mediaType": "application/vnd.cncf.model.weight.v1.tar", "annotations": {"a": "b"}}]},
    ],
)
def test_forms_of_a_model_that_are_not_known_say_so(
    puller: Puller, registry: FakeRegistry, manifest: dict[str, object]
) -> None:
    registry.put("medical:latest", manifest)
    assert refused(puller, "medical", RequestError).hint


def test_a_manifest_that_is_none_is_an_error(puller: Puller, registry: FakeRegistry) -> None:
    for data in (b"{", b"[]", b"[" * 100_000, b" " * (5 * 1024 * 1024)):
        registry.manifests["medical:latest"] = data
        refused(puller, "medical", ModelError)


def test_what_is_no_model_is_not_published(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    (source / "tokenizer.json").unlink()
    registry.add("medical:latest", source)
    assert "tokenizer.json" in refused(puller, "medical", RequestError).message
    assert not list(store.folder.iterdir())


def test_an_unknown_name_and_a_registry_that_is_away_are_told_apart(puller: Puller, store: ModelStore) -> None:
    missing = refused(puller, "nothing:v9", NotFoundError)
    assert "nothing:v9" in missing.message and "tag" in (missing.hint or "")
    away = Puller(store, ModelsConfig(registry="127.0.0.1:1"), QUICK)
    error = refused(away, "nothing", UnavailableError)
    assert error.hint and "refused" in error.message and "HTTPConnection" not in error.message
    assert "by name" in refused(puller, "https://r.example/nothing", RequestError).message
    refused(Puller(store, ModelsConfig(registry="127.0.0.1:99999"), QUICK), "nothing", ModelError)


def test_a_model_that_came_with_the_software_cannot_be_replaced(
    puller: Puller, registry: FakeRegistry, source: Path
) -> None:
    registry.add("thox-nano:latest", source)
    refused(puller, "thox-nano", RequestError)


def test_a_model_stays_usable_while_its_new_version_comes(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.add("medical:latest", source)
    list(puller.pull("medical"))
    before = store.find("medical").digest
    (source / "README.md").write_text("new")
    registry.add("medical:latest", source)
    registry.hold = threading.Event()
    steps = puller.pull("medical")
    next(steps)
    assert store.find("medical").digest == before
    registry.hold.set()
    list(steps)
    assert store.find("medical").digest != before


def test_a_folder_of_the_device_is_taken_in(puller: Puller, store: ModelStore, source: Path) -> None:
    (source / "secret.key").write_text("not a part of a model")
    steps = list(puller.copy(source.as_uri(), "mine"))
    assert steps[-1].status == "success" and steps[-1].completed == steps[-1].total
    path = store.find("mine").path
    assert not (path / "secret.key").exists() and (path / "1_Pooling" / "config.json").exists()
    assert (path / "config.json").stat().st_nlink == 1  # an edit of the original is none of ours
    list(puller.copy(source.as_uri()))
    assert store.find("source").kind == store.find("mine").kind


def test_a_listener_that_leaves_does_not_end_the_pull(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.add("medical:latest", source)
    registry.hold = threading.Event()
    leaving, staying = puller.pull("medical"), puller.pull("medical")
    next(leaving)
    next(staying)
    assert hasattr(leaving, "close")
    leaving.close()
    registry.hold.set()
    assert list(staying)[-1].status == "success" and not store.find("medical").broken


def test_a_second_pull_joins_the_first_and_sees_where_it_is(
    puller: Puller, registry: FakeRegistry, source: Path
) -> None:
    registry.add("medical:latest", source)
    registry.hold = threading.Event()
    first = puller.pull("medical")
    next(first)
    second = puller.pull("medical")
    assert len(next(second).blobs) == len(registry.blobs) + 1  # two files are one blob
    assert list(puller.running()) == ["medical"]
    registry.hold.set()
    assert list(first)[-1].status == list(second)[-1].status == "success"
    asked = [path for path in registry.paths() if "/blobs/" in path]
    assert len(asked) == len(set(asked)) == len(registry.blobs) and not puller.running()


def test_a_name_written_in_another_way_is_the_same_pull_and_the_same_model(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.add("medical:latest", source)
    registry.hold = threading.Event()
    first = puller.pull("medical")
    next(first)
    second = puller.pull("medical:latest")
    assert puller.named("medical:latest") == "medical" and list(puller.running()) == ["medical"]
    puller.cancel("medical:latest")
    for each in (first, second):
        with pytest.raises(UnavailableError, match="cancelled") as caught:
            list(each)
        assert "goes on" in (caught.value.hint or "")
    registry.hold.set()
    for name in ("medical:latest", "medical"):
        assert list(puller.pull(name))[-1].status == "success"
    assert [model.name for model in store.models()] == ["medical:latest", "thox-nano"]


def test_a_pull_that_is_cancelled_tells_all_its_listeners_and_leaves_the_name_free(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.add("medical:latest", source)
    registry.hold = threading.Event()
    steps = [puller.pull("medical"), puller.pull("medical")]
    assert [next(each).completed for each in steps] == [0, 0]
    assert registry.asked.acquire(timeout=10)
    puller.cancel("medical")
    for each in steps:
        with pytest.raises(UnavailableError, match="cancelled"):
            list(each)
    assert not puller.running() and not store.models()[1:]
    with pytest.raises(NotFoundError):
        puller.cancel("medical")
    registry.hold.set()
    assert list(puller.pull("medical"))[-1].status == "success"


def test_closing_ends_every_pull(puller: Puller, registry: FakeRegistry, source: Path) -> None:
    registry.add("medical:latest", source)
    registry.drip = threading.Event()
    steps = puller.pull("medical")
    assert any(step.completed for step in steps)
    puller.close()
    with pytest.raises(UnavailableError):
        list(steps)


def test_one_name_comes_from_one_source_at_a_time(puller: Puller, registry: FakeRegistry, source: Path) -> None:
    registry.add("medical:latest", source)
    registry.hold = threading.Event()
    steps = puller.pull("medical")
    next(steps)
    with pytest.raises(UnavailableError, match="already"):
        puller.copy(source.as_uri(), "medical")
    registry.hold.set()
    list(steps)


def test_a_tag_can_be_pinned_by_its_digest(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    old = registry.put("medical:latest", registry.add("medical:latest", source))
    (source / "README.md").write_text("newer")
    registry.add("medical:latest", source)
    list(puller.pull(f"medical@{old}"))
    assert store.find(f"medical@{old}").digest == old.removeprefix("sha256:")
    assert not (store.find(f"medical@{old}").path / "README.md").exists()
    registry.manifests[f"medical@{old}"] = registry.manifests["medical:latest"]
    assert "digest" in refused(puller, f"medical@{old}", ModelError).message
    registry.digest_header = old
    assert "digest" in refused(puller, "medical", ModelError).message


def test_a_gguf_file_of_the_device_is_taken_in_under_its_own_name(
    puller: Puller, store: ModelStore, tmp_path: Path
) -> None:
    file = tmp_path / "tiny-Q8_0.gguf"
    file.write_bytes(gguf_bytes())
    assert list(puller.copy(file.as_uri()))[-1].status == "success"
    model = store.find("tiny-Q8_0")
    assert not model.broken and [path.name for path in model.path.glob("*.gguf")] == [file.name]
