"""Models come into memory, are lent, swapped and freed, and nobody loses an answer by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_models import FakeEngine, FakeLoader, write_checkpoint

from agent.errors import (
    ModelError,
    ModelLoadingError,
    NoRoomError,
    NotFoundError,
    RequestError,
    ThoxError,
    UnavailableError,
)
from agent.models.host import ModelHost
from agent.models.memory import Memory, estimate
from agent.models.options import LoadOptions
from agent.models.store import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    builtin = {name: write_checkpoint(tmp_path / name) for name in ("a", "b")}
    builtin["e"] = write_checkpoint(tmp_path / "e", embedding=True)
    return ModelStore(tmp_path / "state", builtin, {"alias": "a"})


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def host(store: ModelStore, loader: FakeLoader) -> Iterator[ModelHost]:
    host = ModelHost(store, loader, quick_s=10.0)
    yield host
    loader.gate.set()
    host.close()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_request_loads_a_stored_model_and_waits_when_it_is_quick(host: ModelHost, loader: FakeLoader) -> None:
    assert host.state("a").state == "available"
    with host.lease("alias") as lease:
        assert lease.engine is loader.opened[0] and lease.model.name == "a"
        assert host.state("a").leases == 1
    state = host.state("a")
    assert (state.state, state.leases) == ("loaded", 0) and state.status is not None


def test_a_request_for_a_model_that_loads_slowly_is_told_to_come_back(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(store, loader, quick_s=0.01)
    loader.gate.clear()
    host.load("a", wait_s=None)
    assert loader.entered.acquire(timeout=10)
    with pytest.raises(ModelLoadingError) as caught:
        host.lease("a")
    body = caught.value.to_json()["error"]
    assert isinstance(body, dict)
    assert body["code"] == 503 and body["loading"]["model"] == "a" and 0 < body["loading"]["progress"] < 1
    assert body["loading"]["stage"] == "quantising" and body["loading"]["expected_s"] >= body["loading"]["elapsed_s"]
    assert int(caught.value.headers()["Retry-After"]) >= 1
    assert host.state("a").state == "loading"
    loader.gate.set()
    assert host.load("a").state == "loaded" and len(loader.opened) == 1
    host.close()


def test_two_loads_of_one_model_are_one(host: ModelHost, loader: FakeLoader) -> None:
    loader.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(host.load, "a") for _ in range(8)]
        assert loader.entered.acquire(timeout=10)
        loader.gate.set()
        assert {load.result().state for load in loads} == {"loaded"}
    assert len(loader.opened) == 1


def test_several_models_live_at_once_and_the_last_text_model_used_is_active(host: ModelHost) -> None:
    assert host.active is None
    for name in ("a", "b", "e"):
        host.load(name)
    host.lease("a").release()
    host.lease("e").release()
    assert host.active == "a"
    assert [state.name for state in host.states()] == ["a", "b", "e"]


def test_a_model_that_nobody_has_is_not_found(host: ModelHost) -> None:
    for act in (host.lease, host.load, host.unload):
        with pytest.raises(NotFoundError):
            act("c")


def test_a_failed_load_is_remembered_until_somebody_asks_to_load_again(host: ModelHost, loader: FakeLoader) -> None:
    loader.error = ModelError("a tensor is missing", hint="pull it again")
    for _ in range(2):
        with pytest.raises(ModelError, match="a tensor is missing") as caught:
            host.lease("a")
        assert caught.value.hint == "pull it again"
    assert host.state("a").state == "failed" and "tensor" in host.state("a").error
    loader.error = None
    with pytest.raises(ModelError):
        host.lease("a")
    assert host.load("a").state == "loaded"
    host.lease("a").release()


def test_an_error_nobody_expected_fails_that_model_and_not_the_loader(host: ModelHost, loader: FakeLoader) -> None:
    loader.error = ZeroDivisionError("oops")
    with pytest.raises(ThoxError, match="oops"):
        host.load("a")
    loader.error = None
    assert host.load("b").state == "loaded"


def test_a_bad_option_is_the_requests_fault_and_not_remembered(host: ModelHost, loader: FakeLoader) -> None:
    loader.error = RequestError("int4 does not go", param="options.quantisation")
    with pytest.raises(RequestError):
        host.load("a", LoadOptions(quantisation="int4"))
    assert host.state("a").state == "available"


def test_a_broken_model_is_refused_with_its_reason(host: ModelHost, store: ModelStore) -> None:
    (store.find("a").path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        host.lease("a")


def test_unload_waits_for_the_answers_that_run(host: ModelHost, loader: FakeLoader) -> None:
    lease = host.lease("a")
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(host.unload, "a")
        until(lambda: host.state("a").state == "available")  # nobody new may borrow it
        assert not loader.opened[0].closed and not unload.done()
        lease.release()
        lease.release()  # harmless
        assert unload.result(10).state == "available"
    assert loader.opened[0].closed


def test_unload_gives_up_when_answers_take_too_long_and_the_model_stays(host: ModelHost, loader: FakeLoader) -> None:
    lease = host.lease("a")
    with pytest.raises(UnavailableError, match="1 request"):
        host.unload("a", wait_s=0.01)
    assert host.state("a").state == "loaded" and not loader.opened[0].closed
    assert host.unload("a", cancel=True).state == "available"
    assert loader.opened[0].closed
    lease.release()


def test_unloading_what_is_not_loaded_is_harmless_and_what_is_loading_stops(
    host: ModelHost, loader: FakeLoader
) -> None:
    assert host.unload("a").state == "available"
    loader.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(host.load, "a")
        assert loader.entered.acquire(timeout=10)
        assert host.unload("a").state == "available"
        loader.gate.set()
        with pytest.raises(UnavailableError, match="unloaded or deleted while"):
            load.result(10)
    assert loader.opened[0].closed


def test_other_options_swap_the_model_without_dropping_its_answers(host: ModelHost, loader: FakeLoader) -> None:
    old = host.lease("a")
    assert host.load("a", LoadOptions(slots=2)).options == LoadOptions(slots=2)
    with host.lease("a") as new:
        assert new.engine is loader.opened[1]
    assert not loader.opened[0].closed  # it still answers
    old.release()
    assert loader.opened[0].closed and not loader.opened[1].closed
    host.load("a")  # plain: however it is loaded
    host.load("a", LoadOptions(slots=2))
    assert len(loader.opened) == 2


def test_a_context_beyond_the_models_own_means_as_long_as_it_goes(host: ModelHost) -> None:
    status = host.load("a", LoadOptions(context_length=32768)).status
    assert status is not None and status.context_length == 512


def test_a_model_that_does_not_fit_is_refused_with_the_bytes(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(store, loader, available=lambda: 1000)
    with pytest.raises(NoRoomError) as caught:
        host.lease("a")
    assert caught.value.details["available_bytes"] == 1000
    told, needed = caught.value.details, estimate(store.find("a"), LoadOptions())
    assert told["needed_bytes"] == needed.total == needed.weights + needed.cache + needed.workspace
    assert (told["weights_bytes"], told["cache_bytes"]) == (needed.weights, needed.cache)
    assert host.state("a").state == "available"  # room may come
    host.close()


def test_models_on_their_way_take_their_room_beforehand(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(store, loader, needed=lambda *_: Memory(500, 100, 0), available=lambda: 1000, quick_s=0.01)
    loader.gate.clear()
    with pytest.raises(ModelLoadingError):
        host.lease("a")
    with pytest.raises(NoRoomError):
        host.lease("b")
    loader.gate.set()
    host.close()


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(quantisation="int8"),
        LoadOptions(context_length=64),
        LoadOptions(slots=2),
        LoadOptions(cache_type="u8"),
        LoadOptions(draft="a"),
    ],
)
def test_a_model_that_writes_no_text_refuses_options_that_would_change_nothing(
    host: ModelHost, loader: FakeLoader, options: LoadOptions
) -> None:
    with pytest.raises(RequestError, match="e writes no text") as caught:
        host.load("e", options)
    (named,) = (
        name for name in ("quantisation", "context_length", "slots", "cache_type", "draft") if getattr(options, name)
    )
    assert caught.value.param == f"options.{named}" and "keep_alive" in (caught.value.hint or "")
    assert host.state("e").state == "available" and not loader.opened


def test_a_model_that_writes_no_text_is_not_loaded_anew_for_what_is_so_anyway(
    host: ModelHost, loader: FakeLoader
) -> None:
    host.load("e")
    host.load("e", LoadOptions(context_length=8192, quantisation="float", cache_type="auto", keep_alive_s=60.0))
    assert len(loader.opened) == 1 and host.state("e").expires_s is not None


def test_preloading_passes_over_what_is_not_there(host: ModelHost) -> None:
    host.preload(["gone", "a", "e"])
    until(lambda: [state.state for state in host.states()] == ["loaded", "loaded"])


def test_running_lends_only_what_is_loaded_and_does_not_count_as_use(host: ModelHost) -> None:
    assert host.running("a") is None and host.running() is None and host.running("gone") is None
    host.load("a")
    host.load("b")
    lease = host.running("a")
    assert lease is not None and lease.model.name == "a"
    lease.release()
    assert host.active == "b"


def test_closing_frees_everything_and_refuses_what_comes_later(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(store, loader)
    host.load("a")
    host.load("b")
    host.close()
    assert all(engine.closed for engine in loader.opened)
    with pytest.raises(UnavailableError):
        host.lease("a")


def test_loading_leasing_and_unloading_from_many_threads_leaves_nothing_open(
    host: ModelHost, loader: FakeLoader
) -> None:
    wrong: list[FakeEngine] = []

    def work(seed: int) -> None:
        for turn in range(40):
            name = "ab"[(seed + turn) % 2]
            try:
                if (seed * 7 + turn) % 5 == 0:
                    host.unload(name, wait_s=5)
                elif (seed * 3 + turn) % 11 == 0:
                    host.load(name, LoadOptions(slots=1 + turn % 3))
                else:
                    with host.lease(name) as lease:
                        engine = lease.engine
                        assert isinstance(engine, FakeEngine)
                        if engine.closed:
                            wrong.append(engine)
            except UnavailableError:
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    host.unload("a")
    host.unload("b")
    assert loader.opened and all(engine.closed for engine in loader.opened)


def test_a_model_that_is_loaded_anew_while_an_unload_waits_keeps_its_old_answers(
    host: ModelHost, loader: FakeLoader
) -> None:
    old = host.lease("a")
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(host.unload, "a")
        until(lambda: host.state("a").state == "available")
        host.load("a")  # while the unload still waits
        assert unload.result(10).state == "loaded"
    assert not loader.opened[0].closed and not loader.opened[1].closed
    old.release()
    assert loader.opened[0].closed and not loader.opened[1].closed


def test_a_deleted_model_is_freed_at_once_when_nothing_runs_and_its_load_is_dropped(
    host: ModelHost, loader: FakeLoader
) -> None:
    host.load("a")
    host.discard("a")
    assert loader.opened[0].closed and host.state("a").state == "available"
    loader.gate.clear()
    host.load("b", wait_s=None)
    host.discard("b")
    loader.gate.set()
    host.load("a")  # after b in the line
    assert host.state("b").state == "available"
    assert all(engine.closed for engine in loader.opened[:-1]) and not loader.opened[-1].closed
