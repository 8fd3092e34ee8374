"""Models that share a memory: which one makes room, which one goes by itself, and which one never does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import FakeLoader, write_checkpoint

from agent.errors import NoRoomError, UnavailableError
from agent.models.checkpoint import StoredModel, inspect
from agent.models.host import ModelHost
from agent.models.memory import Memory
from agent.models.options import FOR_EVER, LoadOptions
from agent.models.shelf import Shelf
from agent.models.store import ModelStore, builtin_models


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {name: write_checkpoint(tmp_path / name) for name in ("a", "b", "e")})


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class Ram:
    """A machine of 1000 bytes, of which each loaded model takes 400 as soon as it is there."""

    def __init__(self, loader: FakeLoader) -> None:
        self._loader = loader

    def held(self) -> int:
        return 400 * sum(not engine.closed for engine in self._loader.opened)

    def available(self) -> int:
        return 1000 - self.held()

    def host(self, store: ModelStore, **settings: Any) -> ModelHost:  # noqa: ANN401  the host's own
        def needed(_model: StoredModel, options: LoadOptions) -> Memory:
            return Memory(options.slots or 400, 0, 0)

        return ModelHost(
            store, self._loader, needed=needed, available=self.available, held=self.held, quick_s=10.0, **settings
        )


@pytest.fixture
def small(store: ModelStore, loader: FakeLoader) -> Iterator[ModelHost]:
    host = Ram(loader).host(store, auto_unload=True)
    yield host
    loader.gate.set()
    host.close()


def loaded(host: ModelHost) -> list[str]:
    return [state.name for state in host.states() if state.state == "loaded"]


def test_the_longest_unused_model_makes_room_for_one_that_is_asked_for(small: ModelHost, loader: FakeLoader) -> None:
    for name in ("a", "b"):
        small.load(name)
    small.lease("a").release()
    small.lease("e").release()
    assert loaded(small) == ["a", "e"] and [engine.closed for engine in loader.opened] == [False, True, False]


def test_a_model_with_answers_running_never_makes_room(small: ModelHost, loader: FakeLoader) -> None:
    leases = [small.lease(name) for name in ("a", "b")]
    with pytest.raises(UnavailableError, match="until the answers of a, b have ended") as caught:
        small.load("e")
    assert caught.value.details["needed_bytes"] == 400 and caught.value.details["available_bytes"] == 200
    leases[0].release()
    small.load("e")
    assert loaded(small) == ["b", "e"] and not loader.opened[1].closed
    leases[1].release()


def test_what_can_never_fit_unloads_nothing(small: ModelHost) -> None:
    small.load("a")
    with pytest.raises(NoRoomError):
        small.load("b", LoadOptions(slots=1001))
    assert loaded(small) == ["a"]


def test_without_auto_unload_the_owner_is_told_which_models_to_unload(store: ModelStore, loader: FakeLoader) -> None:
    host = Ram(loader).host(store)
    for name in ("a", "b"):
        host.load(name)
    with pytest.raises(NoRoomError) as caught:
        host.load("e")
    assert caught.value.hint == "unload one of a, b" and loaded(host) == ["a", "b"]
    host.close()


def test_a_model_swapped_for_other_options_gives_up_its_own_room_first(small: ModelHost, loader: FakeLoader) -> None:
    small.load("a")
    small.load("b")
    small.load("b", LoadOptions(slots=500))
    assert loaded(small) == ["a", "b"] and [engine.closed for engine in loader.opened] == [False, True, False]


def test_room_that_a_cache_has_not_taken_yet_is_not_free(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(
        store, loader, needed=lambda *_: Memory(200, 400, 0), available=lambda: 1000, held=lambda: 0, quick_s=10.0
    )
    host.load("a")
    assert host.memory_free() == 400
    with pytest.raises(NoRoomError):
        host.load("b")
    host.close()


def test_a_model_nobody_uses_is_unloaded_after_its_keep_alive(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(store, loader, keep_alive_s=0.0, quick_s=10.0)
    lease = host.lease("a")  # it is there for the request that it came for
    host.load("b", LoadOptions(keep_alive_s=FOR_EVER))
    host.load("e", LoadOptions(keep_alive_s=3600))
    expires = host.state("e").expires_s
    assert expires is not None and 3590 < expires <= 3600 and host.state("b").expires_s is None
    host.load("e", LoadOptions(keep_alive_s=0))
    until(lambda: loaded(host) == ["a", "b"])
    assert loader.opened[2].closed and not loader.opened[0].closed
    lease.release()
    until(lambda: loaded(host) == ["b"])
    assert loader.opened[0].closed and len(loader.opened) == 3
    host.close()


def test_a_second_load_is_expected_to_take_as_long_as_the_first(store: ModelStore, loader: FakeLoader) -> None:
    host = ModelHost(store, loader)
    host.load("a")
    host.unload("a")
    loader.gate.clear()
    state = host.load("a", wait_s=None)
    assert state.state == "loading" and state.loading is not None and state.loading.expected_s < 1.0
    loader.gate.set()
    host.close()


def test_who_has_int4_already_is_not_told_to_choose_it() -> None:
    model = inspect("thox-nano", builtin_models()["thox-nano"], builtin=True)
    for quantisation, advised in (("int8", True), ("int4-g32", False)):
        with pytest.raises(NoRoomError) as caught:
            Shelf().victims(model, Memory(10, 0, 0, quantisation), 5, auto_unload=True)
        assert ("choose int4" in (caught.value.hint or "")) is advised
