"""Models come from a hub that speaks the Hugging Face hub's protocol, and only the files that make the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, FakeStorage
from pulling import QUICK, WEIGHTS, refused, same_files, write_model
from small_gguf import gguf_bytes

from agent.config import ModelsConfig
from agent.errors import ModelError, NotFoundError, RequestError
from agent.models.pull import Puller
from agent.models.pull_hub_choice import choose
from agent.models.store import ModelStore

NAME = "hf.co/org/Name-1B"


@pytest.fixture
def storage() -> Iterator[FakeStorage]:
    with FakeStorage() as storage:
        yield storage


@pytest.fixture
def hub(storage: FakeStorage) -> Iterator[FakeHub]:
    with FakeHub(storage) as hub:
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def puller(store: ModelStore, hub: FakeHub) -> Puller:
    return Puller(store, ModelsConfig(hub=hub.host), QUICK)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source")


@pytest.fixture
def files(source: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in source.iterdir()}


def test_a_checkpoint_is_pulled_from_the_hub_by_its_commit(
    puller: Puller, store: ModelStore, hub: FakeHub, storage: FakeStorage, source: Path, files: dict[str, bytes]
) -> None:
    commit = hub.put("org/Name-1B", {**files, "pytorch_model.bin": b"the same again", "onnx/model.onnx": b"and again"})
    steps = list(puller.pull(NAME))
    model = store.find(NAME)
    assert same_files(model.path, source) and not model.broken
    assert (model.source, model.digest) == (f"hf.co/org/Name-1B@{commit}", commit)
    assert steps[-1].total == sum(map(len, files.values()))
    assert not any(path.endswith((".bin", ".onnx")) for path in hub.paths())
    assert all(f"/resolve/{commit}/" in path for path in hub.paths()[1:])
    assert len(storage.requests) == 1  # the weights, and nothing else, lie elsewhere


def test_a_large_file_that_is_cut_goes_on_at_the_storage(
    puller: Puller, store: ModelStore, hub: FakeHub, storage: FakeStorage, source: Path, files: dict[str, bytes]
) -> None:
    hub.put("org/Name-1B", files)
    storage.cut_every = len(files[WEIGHTS]) // 4
    list(puller.pull(NAME))
    assert same_files(store.find(NAME).path, source)
    assert [headers.get("range") for _, headers in storage.requests][1] == f"bytes={storage.cut_every}-"


def test_small_files_are_checked_by_gits_own_digest(puller: Puller, hub: FakeHub, files: dict[str, bytes]) -> None:
    commit = hub.put("org/Name-1B", files)
    hub.wrong_id = "config.json"
    assert "config.json did not arrive" in refused(puller, f"{NAME}@{commit}", ModelError).message


def test_a_mirror_that_lists_names_alone_is_asked_for_each_files_headers(
    puller: Puller, store: ModelStore, hub: FakeHub, storage: FakeStorage, source: Path, files: dict[str, bytes]
) -> None:
    hub.blobs_known = False
    hub.put("org/Name-1B", files)
    list(puller.pull(NAME))
    assert same_files(store.find(NAME).path, source) and len(storage.requests) == 1


def test_a_file_that_is_another_than_the_list_says_is_refused(
    puller: Puller, hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.put("org/Name-1B", files)
    hub.other_etag = True
    assert "another file" in refused(puller, NAME, ModelError).message


def test_a_gated_model_wants_a_token_that_goes_to_the_hub_alone(
    store: ModelStore, hub: FakeHub, storage: FakeStorage, source: Path, files: dict[str, bytes]
) -> None:
    hub.put("org/Name-1B", files)
    hub.gated.add("org/Name-1B")
    hub.token = "hf_secret"
    error = refused(Puller(store, ModelsConfig(hub=hub.host), QUICK), NAME, RequestError)
    assert "gated" in error.message and "[models.tokens]" in (error.hint or "")
    list(Puller(store, ModelsConfig(hub=hub.host, tokens={hub.host: "hf_secret"}), QUICK).pull(NAME))
    assert same_files(store.find(NAME).path, source)
    assert storage.requests and not any("authorization" in headers for _, headers in storage.requests)


def test_the_token_of_the_hub_is_not_shown_to_a_mirror(
    store: ModelStore, hub: FakeHub, files: dict[str, bytes]
) -> None:
    hub.put("org/Name-1B", files)
    list(Puller(store, ModelsConfig(hub=hub.host, tokens={"hf.co": "hf_secret"}), QUICK).pull(NAME))
    assert not any("authorization" in headers for _, headers in hub.requests)


def test_a_revision_is_a_branch_or_a_commit(
    puller: Puller, store: ModelStore, hub: FakeHub, files: dict[str, bytes]
) -> None:
    old = hub.put("org/Name-1B", {**files, "README.md": b"old"})
    hub.put("org/Name-1B", {**files, "README.md": b"new"})
    hub.put("org/Name-1B", {**files, "README.md": b"other"}, "refs/pr/1")
    hub.put("org/Name-1B", {**files, "README.md": b"tagged"}, "v1.0")
    for name, text in (
        (NAME, "new"),
        (f"{NAME}@{old}", "old"),
        (f"{NAME}@refs/pr/1", "other"),
        (f"{NAME}:v1.0", "tagged"),
    ):
        list(puller.pull(name))
        assert (store.find(name).path / "README.md").read_text() == text


def test_what_is_not_on_the_hub_is_not_found_and_a_wrong_wish_names_what_there_is(puller: Puller, hub: FakeHub) -> None:
    assert "not there" in refused(puller, "hf.co/no/body", RequestError).message  # as the hub tells strangers
    hub.put("org/Name-1B", {"n-Q8_0.gguf": b"GGUF", "n-Q4_K_M.gguf": b"GGUF", "README.md": b""})
    assert refused(puller, f"{NAME}:Q2_K", NotFoundError).hint == "it has Q4_K_M, Q8_0"
    refused(puller, f"{NAME}@v9", NotFoundError)
    hub.put("org/Name-1B", {"README.md": b"", "model.bin": b""})
    assert "no files" in refused(puller, NAME, RequestError).message


@pytest.mark.parametrize("path", ["../x.json", "a/../../x.json", ".thox.json", "/etc/x.json"])
def test_a_file_of_the_hub_that_would_lie_outside_is_refused(
    puller: Puller, store: ModelStore, hub: FakeHub, files: dict[str, bytes], path: str
) -> None:
    hub.put("org/Name-1B", {**files, path: b"{}"})
    if "/" in path:
        list(puller.pull(NAME))  # it is no part of a model, so nobody asks for it
        assert "x.json" not in {file.name for file in store.find(NAME).path.rglob("*")}
    else:
        refused(puller, NAME, ModelError)


GGUFS = (
    "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-IQ4_XS.gguf", "mmproj-F16.gguf", "BF16/m-BF16-00001-of-00002.gguf",
    "F16/m-F16.gguf", "m-q5_k_m-00002-of-00002.gguf", "m-q5_k_m-00001-of-00002.gguf", "README.md",
    "LICENSE", "config.json",
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("", "m-Q4_K_M.gguf"),
        ("Q8_0", "m-Q8_0.gguf"),
        ("q8_0", "m-Q8_0.gguf"),
        ("IQ4_XS", "m-IQ4_XS.gguf"),
        ("F16", "F16/m-F16.gguf"),
        ("F16/m-F16.gguf", "F16/m-F16.gguf"),
        ("m-Q8_0.gguf", "m-Q8_0.gguf"),
        ("Q4_K", None),
        ("BF16", None),  # half of it
        ("m-q5_k_m-00002-of-00002.gguf", None),
    ],
)
def test_one_gguf_is_chosen_by_its_quantisation(wanted: str, chosen: str | None) -> None:
    expected = {chosen, "README.md", "LICENSE"} if chosen else set()
    assert choose(GGUFS, wanted) == expected


@pytest.mark.parametrize("wanted", ["Q5_K_M", "m-q5_k_m-00001-of-00002.gguf"])
def test_a_gguf_in_parts_is_chosen_with_all_of_them(wanted: str) -> None:
    parts = {"m-q5_k_m-00001-of-00002.gguf", "m-q5_k_m-00002-of-00002.gguf"}
    assert choose(GGUFS, wanted) == {*parts, "README.md", "LICENSE"}


def test_a_part_that_counts_to_nothing_is_no_model() -> None:
    for name in ("m-00000-of-00000.gguf", "m-00001-of-00000.gguf", "m-00002-of-00001.gguf", "m-00001-of-99999.gguf"):
        assert choose([name, "README.md"], "") == frozenset()


def test_of_a_checkpoint_that_lies_there_many_times_one_form_is_chosen() -> None:
    wanted = {
        "config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "chat_template.jinja", "1_Pooling/config.json", "2_Dense/model.safetensors",
        "LICENSE.txt",
    }  # fmt: skip
    others = {
        "consolidated.safetensors", "pytorch_model.bin", "onnx/model.onnx", "openvino/config.json", ".gitattributes",
        "original/params.json", "assets/x.png", "m-Q4_K_M.gguf",
    }  # fmt: skip
    assert choose(sorted(wanted | others), "") == wanted


def test_a_lone_gguf_needs_no_wish() -> None:
    assert choose(["model.gguf"], "") == {"model.gguf"}
    assert choose(["a.gguf", "b.gguf"], "") == frozenset()


def test_a_gguf_of_the_hub_lies_at_the_root_of_its_model(puller: Puller, store: ModelStore, hub: FakeHub) -> None:
    hub.put("org/Name-1B", {"Q8_0/m-Q8_0.gguf": gguf_bytes(), "m-Q4_K_M.gguf": b"not this one", "README.md": b"x"})
    list(puller.pull(f"{NAME}:Q8_0"))
    model = store.find(f"{NAME}:Q8_0")
    assert not model.broken and (model.path / "m-Q8_0.gguf").read_bytes() == gguf_bytes()
    assert len(list(model.path.rglob("*.gguf"))) == 1
