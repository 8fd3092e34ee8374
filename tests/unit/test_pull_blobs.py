"""Models share their blobs, and what no model has any more can be swept, but never from under a pull."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_registry import FakeRegistry
from pulling import QUICK, WEIGHTS, same_files, write_model

from agent.config import ModelsConfig
from agent.models.pull import Puller
from agent.models.store import ModelStore


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def puller(store: ModelStore, registry: FakeRegistry) -> Iterator[Puller]:
    puller = Puller(store, ModelsConfig(registry=registry.host), QUICK)
    yield puller
    puller.close()


@pytest.fixture
def source(tmp_path: Path, registry: FakeRegistry) -> Path:
    folder = write_model(tmp_path / "source")
    registry.add("medical:v1", folder)
    (folder / "README.md").write_text("newer")
    registry.add("medical:v2", folder)
    return folder


def blobs_asked(registry: FakeRegistry) -> list[str]:
    return [path for path in registry.paths() if "/blobs/" in path]


def test_two_models_share_the_bytes_of_what_they_have_in_common(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    list(puller.pull("medical:v1"))
    registry.requests.clear()
    list(puller.pull("medical:v2"))
    assert len(blobs_asked(registry)) == 1  # the readme
    first, second = store.find("medical:v1").path, store.find("medical:v2").path
    assert (first / WEIGHTS).samefile(second / WEIGHTS) and same_files(second, source)
    assert not (first / WEIGHTS).stat().st_mode & 0o222  # an edit in place would change both


def test_two_pulls_at_once_fetch_what_they_share_once(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.hold = threading.Event()
    pulls = [puller.pull("medical:v1"), puller.pull("medical:v2")]
    for steps in pulls:
        next(steps)
    registry.hold.set()
    for steps in pulls:
        assert list(steps)[-1].status == "success"
    asked = blobs_asked(registry)
    assert len(asked) == len(set(asked))
    assert same_files(store.find("medical:v2").path, source) and not store.find("medical:v1").broken


def test_blobs_are_swept_once_no_model_has_them(puller: Puller, store: ModelStore, source: Path) -> None:
    list(puller.pull("medical:v1"))
    list(puller.pull("medical:v2"))
    assert puller.blobs.unreferenced() == [] and puller.blobs.sweep() == 0
    store.remove("medical:v2")
    (only,) = puller.blobs.unreferenced()
    assert only.bytes == len("newer") and not only.partial and puller.blobs.sweep() == only.bytes
    assert not store.find("medical:v1").broken
    store.remove("medical:v1")
    assert puller.blobs.sweep() > (source / WEIGHTS).stat().st_size
    assert not list(puller.blobs.folder.iterdir())


def test_a_sweep_may_leave_what_is_young(puller: Puller, store: ModelStore, source: Path) -> None:
    left = puller.blobs.partial("sha256:" + "ab" * 32)
    left.write_bytes(b"begun")
    assert puller.blobs.sweep(older_than_s=3600) == 0 and left.exists()
    old = time.time() - 7200
    os.utime(left, (old, old))
    assert [blob.partial for blob in puller.blobs.unreferenced()] == [True]
    assert puller.blobs.sweep(older_than_s=3600) == 5 and not left.exists()


def test_a_sweep_takes_nothing_from_a_pull_on_its_way(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    list(puller.pull("medical:v1"))
    store.remove("medical:v1")
    registry.hold = threading.Event()
    steps = puller.pull("medical:v2")
    next(steps)
    assert puller.blobs.sweep() == 0
    registry.hold.set()
    assert list(steps)[-1].status == "success" and same_files(store.find("medical:v2").path, source)


def test_a_blob_that_the_disk_spoilt_is_mended_by_pulling_again(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    list(puller.pull("medical:v2"))
    spoilt = store.find("medical:v2").path / WEIGHTS
    data = bytearray(spoilt.read_bytes())
    data[1000] ^= 1
    spoilt.chmod(0o644)
    spoilt.write_bytes(bytes(data))
    assert not same_files(store.find("medical:v2").path, source)
    registry.requests.clear()
    list(puller.pull("medical:v2"))
    assert same_files(store.find("medical:v2").path, source) and len(blobs_asked(registry)) == 1


def test_a_disk_without_links_gets_copies(puller: Puller, store: ModelStore, source: Path, tmp_path: Path) -> None:
    list(puller.pull("medical:v1"))
    blob = next(path for path in puller.blobs.folder.iterdir() if path.stat().st_size > 100_000)
    target = Path("/dev/shm") / f"thox-test-{os.getpid()}"  # another file system
    if not target.parent.is_dir() or target.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system only")
    try:
        puller.blobs.give("sha256:" + blob.name.removeprefix("sha256-"), target)
        assert target.read_bytes() == blob.read_bytes() and target.stat().st_nlink == 1
    finally:
        target.unlink(missing_ok=True)
