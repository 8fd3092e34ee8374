"""Files that are replaced or deleted under a model that is loaded, or on its way: no answer is lost by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_models import FakeEngine, FakeLoader, write_checkpoint
from running_server import until

from agent.engine.base import Report
from agent.errors import ModelError, UnavailableError
from agent.models.checkpoint import StoredModel
from agent.models.host import ModelHost
from agent.models.options import LoadOptions
from agent.models.store import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {name: write_checkpoint(tmp_path / name) for name in ("a", "b")})


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def host(store: ModelStore, loader: FakeLoader) -> Iterator[ModelHost]:
    host = ModelHost(store, loader, quick_s=10.0)
    yield host
    loader.gate.set()
    host.close()


def pulled(store: ModelStore, values: int) -> None:
    with store.incoming("mine") as folder:
        write_checkpoint(folder)
        (folder / "config.json").write_text((folder / "config.json").read_text() + " " * values)


def test_files_that_are_pulled_anew_replace_the_engine_of_the_old_ones_without_losing_an_answer(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    pulled(store, 1)
    host.load("mine", LoadOptions(slots=2, keep_alive_s=600.0))
    old = host.lease("mine")
    pulled(store, 2)
    loader.gate.clear()
    with host.lease("mine") as meanwhile:
        assert meanwhile.engine is old.engine, "the old one answers until the new one is there"
    assert host.state("mine").loading is not None
    loader.gate.set()
    until(lambda: host.state("mine").loading is None)
    with host.lease("mine") as lease:
        assert lease.engine is not old.engine and lease.model.digest == store.find("mine").digest
    assert host.state("mine").options == LoadOptions(slots=2) and host.state("mine").expires_s is not None
    assert not loader.opened[0].closed  # it still answers
    old.release()
    assert loader.opened[0].closed and len(loader.opened) == 2


def test_newer_files_that_cannot_be_loaded_leave_the_old_engine_and_are_not_tried_at_each_request(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    pulled(store, 1)
    host.load("mine")
    pulled(store, 2)
    loader.error = ModelError("no tensor w")
    for _ in range(3):
        host.lease("mine").release()
        until(lambda: host.state("mine").loading is None)
    assert len(loader.opened) == 1 and not loader.opened[0].closed
    assert loader.entered.acquire(timeout=5) and loader.entered.acquire(timeout=5)
    assert not loader.entered.acquire(blocking=False)


def test_a_load_that_nobody_wants_any_more_ends_at_its_next_word_and_the_next_one_begins(store: ModelStore) -> None:
    begun = threading.Event()

    def endless(model: StoredModel, options: LoadOptions, report: Report) -> FakeEngine:
        end = time.monotonic() + 10
        while model.name == "a" and time.monotonic() < end:
            report("quantising", 0.5)
            begun.set()
        return FakeEngine(model, options)

    host = ModelHost(store, endless)
    try:
        host.load("a", wait_s=None)
        assert begun.wait(5)
        host.unload("a")
        assert host.load("b", wait_s=5).state == "loaded" and host.state("a").state == "available"
    finally:
        host.close()


def test_a_model_that_is_deleted_while_it_loads_is_not_called_broken(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    pulled(store, 1)
    loader.gate.clear()
    loader.error = OSError("its files are gone")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(host.load, "mine")
        assert loader.entered.acquire(timeout=10)
        store.remove("mine")
        host.discard("mine")
        loader.gate.set()
        with pytest.raises(UnavailableError, match="deleted while it was loading"):
            waiting.result(10)
