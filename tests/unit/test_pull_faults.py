"""A blob arrives whole and right, or not at all, whatever the line, the server or the disk do."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_registry import FakeRegistry
from pulling import QUICK, WEIGHTS, refused, same_files, write_model
from small_disk import fill, small_disk

from agent.config import ModelsConfig
from agent.errors import ModelError, NoRoomError, UnavailableError
from agent.models.pull import Puller
from agent.models.pull_control import Limits
from agent.models.store import ModelStore


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source")


@pytest.fixture
def published(registry: FakeRegistry, source: Path) -> dict[str, str]:
    """File -> digest."""
    manifest = registry.add("medical:latest", source)
    return {layer["annotations"]["org.opencontainers.image.title"]: layer["digest"] for layer in manifest["layers"]}


def make(store: ModelStore, registry: FakeRegistry, limits: Limits = QUICK) -> Puller:
    return Puller(store, ModelsConfig(registry=registry.host), limits)


def test_a_line_that_is_cut_at_every_twentieth_is_taken_up_at_each(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str]
) -> None:
    size = (source / WEIGHTS).stat().st_size
    registry.cut_every = size // 20
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)
    starts = [
        headers["range"] for path, headers in registry.requests if published[WEIGHTS] in path and "range" in headers
    ]
    assert starts == [f"bytes={n * (size // 20)}-" for n in range(1, len(starts) + 1)] and len(starts) >= 19


@pytest.mark.parametrize("twentieth", range(1, 20))
def test_a_pull_that_was_cut_goes_on_in_the_next_process(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str], twentieth: int
) -> None:
    size = (source / WEIGHTS).stat().st_size
    registry.cut_every, registry.cuts, registry.cut_for_good = size * twentieth // 20, 1, True
    refused(make(store, registry, replace(QUICK, parallel=1)), "medical", UnavailableError)
    assert not store.models()
    registry.requests.clear()
    registry.down = False
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)
    asked = [headers.get("range") for path, headers in registry.requests if published[WEIGHTS] in path]
    assert asked == [f"bytes={registry.cut_every}-"]


def test_a_server_that_knows_no_ranges_is_asked_for_all_of_it_again(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str]
) -> None:
    registry.ranges, registry.cut_every, registry.cuts = False, 100_000, 1
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)


def test_a_server_that_never_gets_further_is_given_up(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str]
) -> None:
    registry.ranges, registry.cut_every = False, 100_000
    refused(make(store, registry), "medical", UnavailableError)
    assert len([path for path in registry.paths() if published[WEIGHTS] in path]) == QUICK.tries + 1


@pytest.mark.parametrize("size", ["same", "more"])
def test_what_an_earlier_pull_left_is_not_believed(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str], size: str
) -> None:
    puller, whole = make(store, registry), (source / WEIGHTS).stat().st_size
    left = puller.blobs.partial(published[WEIGHTS])
    left.write_bytes(bytes(whole if size == "same" else whole + 1))
    list(puller.pull("medical"))
    assert same_files(store.find("medical").path, source)


@pytest.mark.parametrize("wrong", [0, 131_072, 262_000])
def test_one_wrong_bit_is_found_and_nothing_of_it_stays(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str], wrong: int
) -> None:
    data = bytearray(registry.blobs[published[WEIGHTS]])
    data[wrong] ^= 1
    registry.blobs[published[WEIGHTS]] = bytes(data)
    puller = make(store, registry)
    assert "digest" in refused(puller, "medical", ModelError).message
    assert not store.models() and not list(puller.blobs.folder.glob(published[WEIGHTS].replace(":", "-") + "*"))


def test_an_interrupted_or_a_corrupt_pull_leaves_the_old_model_as_it_was(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str], tmp_path: Path
) -> None:
    list(make(store, registry).pull("medical"))
    old = shutil.copytree(source, tmp_path / "old")
    write_model(source, 32 * 1024)
    (layer,) = (each for each in registry.add("medical:latest", source)["layers"] if each["size"] > 100_000)
    good = registry.blobs[layer["digest"]]
    registry.cut_every, registry.cuts, registry.cut_for_good = 50_000, 1, True
    refused(make(store, registry), "medical", UnavailableError)
    assert same_files(store.find("medical").path, old)
    registry.down = False
    registry.blobs[layer["digest"]] = bytes(len(good))
    refused(make(store, registry), "medical", ModelError)
    assert same_files(store.find("medical").path, old)
    registry.blobs[layer["digest"]] = good
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)


@pytest.mark.parametrize("lie", [-1, 1, 10**6])
def test_a_server_that_lies_about_length_is_found_out(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str], lie: int
) -> None:
    registry.lie = lie
    assert "should have" in refused(make(store, registry), "medical", ModelError).message
    assert not store.models()


def test_a_server_that_sends_on_and_on_is_cut_off(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str]
) -> None:
    registry.no_length = True
    registry.blobs[published[WEIGHTS]] += bytes(1 << 22)
    puller = make(store, registry)
    assert "longer than" in refused(puller, "medical", ModelError).message
    assert not store.models() and not puller.blobs.partial(published[WEIGHTS]).exists()


def test_a_server_that_ends_early_without_a_word_is_not_waited_for_for_ever(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str]
) -> None:
    registry.no_length = True
    registry.blobs[published[WEIGHTS]] = registry.blobs[published[WEIGHTS]][:-1]
    assert "ended after" in refused(make(store, registry), "medical", UnavailableError).message


def test_a_range_that_begins_elsewhere_is_not_put_together(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str]
) -> None:
    registry.off_by, registry.cut_every, registry.cuts = 1, 100_000, 1
    assert "begins at 100001" in refused(make(store, registry), "medical", ModelError).message


def test_a_silent_server_and_one_that_drips_are_given_up_in_time(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str]
) -> None:
    registry.hold = threading.Event()
    silent = replace(QUICK, silence_s=0.05, tries=2)
    refused(make(store, registry, silent), "medical", UnavailableError)
    registry.hold.set()
    registry.drip = threading.Event()
    dripping = replace(QUICK, slow_s=0.05, tries=2)
    assert "too few" in refused(make(store, registry, dripping), "medical", UnavailableError).message


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str]
) -> None:
    registry.busy = [(429, "0"), (503, ""), (500, "Wed, 21 Oct 2015 07:28:00 GMT"), (200, "")]
    registry.busy.pop()
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)


@pytest.mark.parametrize("wished", ["3600", "Wed, 21 Oct 2125 07:28:00 GMT"])
def test_a_server_that_wants_an_hour_of_patience_is_given_up_and_the_client_told(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str], wished: str
) -> None:
    registry.busy = [(503, wished)]
    error = refused(make(store, registry), "medical", UnavailableError)
    assert isinstance(error, UnavailableError) and error.retry_after >= 3600
    assert len(registry.requests) == 1


def test_a_server_that_stays_busy_is_given_up(
    store: ModelStore, registry: FakeRegistry, published: dict[str, str]
) -> None:
    registry.busy = [(429, "")] * 50
    refused(make(store, registry), "medical", UnavailableError)
    assert len(registry.requests) == QUICK.tries


def test_a_blob_whose_server_is_busy_for_a_while_arrives(
    store: ModelStore, registry: FakeRegistry, source: Path, published: dict[str, str]
) -> None:
    registry.hold = threading.Event()
    steps = make(store, registry, replace(QUICK, parallel=1)).pull("medical")
    next(steps)
    assert registry.asked.acquire(timeout=10)
    registry.busy = [(502, ""), (429, "0")]
    registry.hold.set()
    assert list(steps)[-1].status == "success" and same_files(store.find("medical").path, source)


def test_a_model_larger_than_the_disk_is_refused_before_a_byte_comes(
    store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    manifest = registry.add("medical:latest", source)
    manifest["layers"][0]["size"] = 1 << 40
    registry.put("medical:latest", manifest)
    error = refused(make(store, registry), "medical", NoRoomError)
    assert error.status == 507 and int(str(error.details["needed_bytes"])) > 1 << 40
    assert int(str(error.details["available_bytes"])) > 0
    assert not any("/blobs/" in path for path in registry.paths())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def test_a_disk_that_runs_full_in_the_middle_is_507_and_the_pull_goes_on_once_there_is_room(
    disk: Path, registry: FakeRegistry, source: Path, published: dict[str, str]
) -> None:
    store = ModelStore(disk / "state", {})
    registry.hold = threading.Event()
    steps = make(store, registry).pull("medical")
    next(steps)
    ballast = fill(disk, all_but=128 * 1024)
    registry.hold.set()
    with pytest.raises(NoRoomError, match="disk is full"):
        list(steps)
    assert not store.models()
    assert "MiB for it" in refused(make(store, registry), "medical", NoRoomError).message
    ballast.unlink()
    registry.requests.clear()
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)
    assert any("range" in headers for _, headers in registry.requests)


def test_each_try_waits_twice_as_long_and_as_long_as_the_server_wishes_within_a_bound() -> None:
    limits = Limits(backoff_s=1.0, longest_wait_s=60.0)
    assert [limits.delay(failures) for failures in (0, 1, 2, 3, 9)] == [0, 1, 2, 4, 60]
    assert (limits.delay(1, 7.0), limits.delay(0, 7.0), limits.delay(4, 7.0)) == (7, 7, 8)
