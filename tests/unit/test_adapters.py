"""Adapters in the store and in the host: which model they belong to, how they load, and what they take."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_adapters import CHANGES, HIDDEN, write_adapter, write_base
from fake_models import FakeLoader

from agent.errors import ModelError, NotFoundError, RequestError
from agent.models.checkpoint import StoredModel, inspect
from agent.models.host import ModelHost
from agent.models.memory import estimate
from agent.models.options import LoadOptions
from agent.models.pull import Puller
from agent.models.pull_hub_choice import choose
from agent.models.store import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    builtin = {name: write_base(tmp_path / name) for name in ("base", "other")}
    return ModelStore(tmp_path / "state", builtin, {"org/Meant": "base"})


def add(store: ModelStore, name: str, base: str = "base", **config: object) -> StoredModel:
    with store.incoming(name) as folder:
        write_adapter(folder, base, **config)  # type: ignore[arg-type]
    return store.find(name)


def test_an_adapter_is_listed_with_its_base(store: ModelStore) -> None:
    model = add(store, "mine")
    assert (model.kind, model.base, model.format, model.architecture) == ("adapter", "base", "peft", "LoRA")
    assert (model.parameters, model.quantisation, model.broken) == (4 * (3 * HIDDEN + 24), "F32", "")
    assert [one.name for one in store.adapters(store.find("base"))] == ["mine"]
    assert store.adapters(store.find("other")) == ()


@pytest.mark.parametrize(
    "named", ["base", "org/base", "org/Base", "/home/me/models/base/", "org/Meant", "C:\\base/base"]
)
def test_the_base_is_found_by_what_the_makers_called_it(store: ModelStore, named: str) -> None:
    assert add(store, "mine", named).base == "base"


def test_a_base_that_was_pulled_from_the_hub_is_found_whatever_it_is_called(store: ModelStore) -> None:
    with store.incoming("something") as folder:
        write_base(folder)
        (folder / ".thox.json").write_text('{"source": "hf.co/org/Name@0123", "digest": "x"}')
    assert add(store, "mine", "org/Name").base == "something"
    with store.incoming("hf.co/org/Name") as folder:
        write_base(folder)
    assert store.find("mine").base == "hf.co/org/Name"  # its own name says it better


def test_an_adapter_without_its_base_says_which_and_how_to_name_it(store: ModelStore) -> None:
    model = add(store, "mine", "org/Absent")
    assert (model.base, model.broken) == ("org/Absent", "")
    with pytest.raises(NotFoundError) as caught:
        store.base(model)
    assert "org/Absent" in caught.value.message and "alias MODEL org/Absent" in (caught.value.hint or "")
    store.alias("other", "org/Absent")
    assert store.base(store.find("mine")).name == "other"


def test_an_adapter_is_no_base_of_another_nor_of_itself(store: ModelStore) -> None:
    add(store, "loop", "loop")
    add(store, "first", "base")
    assert add(store, "second", "first").base == "first"
    for name in ("loop", "second"):
        with pytest.raises(NotFoundError):
            store.base(store.find(name))


def test_what_does_not_fit_its_base_is_broken_and_says_why(store: ModelStore) -> None:
    wide = add(store, "wide", changes={"model.layers.0.self_attn.q_proj": (HIDDEN, 99)})
    deep = add(store, "deep", changes={"model.layers.7.self_attn.q_proj": (HIDDEN, HIDDEN)})
    assert "[16, 99]" in wide.broken and "layers.7" in deep.broken and "(base)" in deep.broken
    assert store.adapters(store.find("base")) == ()


def test_what_cannot_be_served_is_broken_whatever_its_base(tmp_path: Path) -> None:
    dora = inspect("dora", write_adapter(tmp_path / "dora", "absent", use_dora=True), builtin=False)
    assert dora.kind == "adapter" and "DoRA" in dora.broken and "merge" in dora.broken
    pickled = write_adapter(tmp_path / "pickled", "absent")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    assert "adapter_model.safetensors is missing" in inspect("pickled", pickled, builtin=False).broken


def test_a_model_with_an_adapter_beside_it_is_a_model(tmp_path: Path) -> None:
    folder = write_adapter(write_base(tmp_path / "both"), "absent")
    assert inspect("both", folder, builtin=False).kind == "text"


def test_a_pull_takes_an_adapter_in_and_refuses_one_that_cannot_be_served(store: ModelStore, tmp_path: Path) -> None:
    puller = Puller(store)
    good, dora = write_adapter(tmp_path / "good", "base"), write_adapter(tmp_path / "dora", "base", use_dora=True)
    assert [step.status for step in puller.copy(good.as_uri(), "mine")][-1] == "success"
    assert store.find("mine").base == "base"
    with pytest.raises(RequestError, match="DoRA"):
        list(puller.copy(dora.as_uri()))
    puller.close()
    assert [model.name for model in store.models()] == ["base", "mine", "other"]


def test_of_the_hub_an_adapters_two_files_are_taken() -> None:
    files = ["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "training_args.bin"]
    assert choose(files, "") == frozenset(files[:3])
    assert choose([*files, "config.json", "model.safetensors"], "") >= {"config.json", "model.safetensors"}
    assert not choose([files[1], "adapter_model.bin"], "")


def test_the_estimate_counts_each_matrix_that_any_of_them_changes_for_all(store: ModelStore) -> None:
    one, two = add(store, "one", rank=4), add(store, "two", rank=8, changes=dict([next(iter(CHANGES.items()))]))
    base = store.find("base")
    alone = estimate(base, LoadOptions()).total
    sides = HIDDEN + HIDDEN + HIDDEN + 24
    assert estimate(replace(base, adapters=(one,)), LoadOptions()).total - alone == 4 * 4 * sides
    assert estimate(replace(base, adapters=(one, two)), LoadOptions()).total - alone == 4 * 12 * sides
    assert estimate(one, LoadOptions()).total == 4 * 4 * sides


# --- in the host


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def host(store: ModelStore, loader: FakeLoader) -> Iterator[ModelHost]:
    host = ModelHost(store, loader, quick_s=10.0)
    yield host
    host.close()


def names(loader: FakeLoader) -> list[list[str]]:
    """The adapters of each load."""
    return [[adapter.name for adapter in engine.model.adapters] for engine in loader.opened]


def test_a_base_and_its_adapters_share_one_engine(store: ModelStore, host: ModelHost, loader: FakeLoader) -> None:
    add(store, "one")
    add(store, "two")
    store.alias("two", "second")
    leases = [host.lease(name) for name in ("one", "base", "second")]
    assert [(lease.model.name, lease.adapter) for lease in leases] == [("base", "one"), ("base", ""), ("base", "two")]
    assert len({id(lease.engine) for lease in leases}) == 1 and names(loader) == [["one", "two"]]
    assert [host.state(name).state for name in ("one", "two", "base", "other")] == [*["loaded"] * 3, "available"]
    assert host.state("one").memory is None and host.state("base").leases == 3
    running = host.running("one")
    assert running is not None and running.engine is leases[0].engine
    for lease in (*leases, running):
        lease.release()


def test_an_adapter_that_came_later_swaps_its_base_and_keeps_how_it_was_loaded(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    host.load("base", LoadOptions(context_length=64))
    running = host.lease("base")
    add(store, "late")
    assert host.state("late").state == "available"
    with host.lease("base"):
        assert len(loader.opened) == 1, "whoever wants the base alone is not kept waiting"
    with host.lease("late") as lease:
        assert lease.engine is loader.opened[1] and lease.adapter == "late"
    assert loader.opened[1].options.context_length == 64 and not loader.opened[0].closed
    running.release()
    assert loader.opened[0].closed
    add(store, "late", rank=8)  # pulled anew: other files
    with host.lease("late"):
        assert len(loader.opened) == 3


def test_an_adapter_that_comes_while_its_base_is_loading_is_loaded_after_it(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    loader.gate.clear()
    host.load("base", wait_s=None)
    assert loader.entered.acquire(timeout=10)
    add(store, "late")
    assert host.load("late", wait_s=None).state == "loading"
    loader.gate.set()
    assert host.load("late").state == "loaded" and names(loader) == [[], ["late"]]


def test_loading_an_adapter_loads_its_base_and_unloading_the_base_frees_both(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    add(store, "mine")
    state = host.load("mine", LoadOptions(slots=2))
    assert (state.name, state.state) == ("mine", "loaded")
    with pytest.raises(RequestError) as caught:
        host.unload("mine")
    assert caught.value.hint == "unload base"
    host.unload("base")
    assert loader.opened[0].closed and host.state("mine").state == "available"
    host.preload(["mine"])
    with host.lease("mine"):
        assert host.state("base").state == "loaded"


def test_a_removed_adapter_is_gone_and_its_base_stays(store: ModelStore, host: ModelHost, loader: FakeLoader) -> None:
    add(store, "mine")
    host.load("mine")
    store.remove("mine")
    host.discard("mine")
    assert host.state("mine").state == "available" and host.state("base").state == "loaded"
    with pytest.raises(NotFoundError):
        host.lease("mine")
    with host.lease("base") as lease:
        assert lease.engine is loader.opened[0]


def test_an_adapter_that_cannot_be_used_leaves_its_base_alone(
    store: ModelStore, host: ModelHost, loader: FakeLoader
) -> None:
    add(store, "wide", changes={"model.layers.0.self_attn.q_proj": (HIDDEN, 99)})
    with pytest.raises(ModelError, match=r"\[16, 99\]"):
        host.lease("wide")
    with host.lease("base"):
        assert names(loader) == [[]]
    add(store, "lost", "org/Absent")
    with pytest.raises(NotFoundError, match="org/Absent"):
        host.lease("lost")


def test_the_need_of_a_base_counts_its_adapters(store: ModelStore, host: ModelHost) -> None:
    alone = host.needed(store.find("base")).total
    model = add(store, "mine")
    assert host.needed(store.find("base")).total == alone + host.needed(model).total


def test_a_copy_of_an_adapter_is_one_too(store: ModelStore, tmp_path: Path) -> None:
    add(store, "mine")
    assert store.copy("mine", "second").base == "base"
    shutil.rmtree(store.find("mine").path)
    assert [one.name for one in store.adapters(store.find("base"))] == ["second"]
