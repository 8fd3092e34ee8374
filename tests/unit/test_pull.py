"""Models come from a registry over real HTTP, whole or not at all, whatever the registry says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import write_checkpoint
from fake_registry import FakeRegistry

from agent.errors import ModelError, NoRoomError, NotFoundError, RequestError, ThoxError, UnavailableError
from agent.models.pull import Progress, Puller
from agent.models.pull_registry import Reference, is_loopback
from agent.models.store import ModelStore


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {"thox-nano": write_checkpoint(tmp_path / "shipped")})


@pytest.fixture
def puller(store: ModelStore, registry: FakeRegistry) -> Puller:
    return Puller(store, registry.host)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "source")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


def refused(puller: Puller, name: str, kind: type[ThoxError]) -> ThoxError:
    with pytest.raises(kind) as caught:
        list(puller.pull(name))
    return caught.value


@pytest.mark.parametrize("title", ["org.opencontainers.image.title", "org.cncf.model.filepath"])
def test_a_model_is_pulled_by_its_name(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path, title: str
) -> None:
    registry.add("medical:latest", source, title)
    steps = list(puller.pull("medical"))
    total = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    assert steps[-1] == Progress("success", total, total)
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
    list(Puller(store).pull(name))
    assert store.find(name).source.startswith(name)


def test_a_name_without_a_registry_is_refused_with_the_way_to_set_one(store: ModelStore) -> None:
    error = refused(Puller(store), "medical", RequestError)
    assert "[models]" in (error.hint or "")


def test_a_registry_that_wants_a_token_gets_an_anonymous_one(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.token = "abc"
    registry.add("medical:latest", source)
    list(puller.pull("medical"))
    assert not store.find("medical").broken
    asked = [path for path, _ in registry.requests if path.startswith("/token")]
    assert len(asked) == 1 and "repository%3Amedical%3Apull" in asked[0] and "service=here" in asked[0]


def test_blobs_may_lie_elsewhere_and_the_token_does_not_go_along(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    with FakeRegistry() as other:
        other.blobs = registry.blobs
        registry.token, registry.redirect = "secret", f"http://{other.host}/elsewhere/"
        registry.add("medical:latest", source)
        list(puller.pull("medical"))
        assert other.requests and not any("authorization" in headers for _, headers in other.requests)
    assert not store.find("medical").broken


@pytest.mark.parametrize(
    "to", ["http://10.0.0.1/", "ftp://127.0.0.1/", "file:///etc/", "https://user@127.0.0.1/", "http://[x/"]
)
def test_a_redirect_to_where_nobody_should_go_is_refused(
    puller: Puller, registry: FakeRegistry, source: Path, to: str
) -> None:
    registry.add("medical:latest", source)
    registry.redirect = to
    assert "leads to" in refused(puller, "medical", ModelError).message


def test_redirects_in_a_circle_end(puller: Puller, registry: FakeRegistry, source: Path) -> None:
    registry.add("medical:latest", source)
    registry.redirect = f"http://{registry.host}/v2/medical/blobs/"
    refused(puller, "medical", ModelError)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_where_it_ended(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path, ranges: bool
) -> None:
    registry.add("medical:latest", source)
    registry.cut_at, registry.ranges = 100, ranges
    list(puller.pull("medical"))
    assert any(headers.get("range") == "bytes=100-" for _, headers in registry.requests)
    assert (store.find("medical").path / "config.json").read_bytes() == (source / "config.json").read_bytes()


def change(registry: FakeRegistry, source: Path, **values: object) -> None:
    """Publish the model with its first file described otherwise."""
    manifest = registry.add("medical:latest", source)
    manifest["layers"][0].update(values)
    registry.put("medical:latest", manifest)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 1}, "longer than"),
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


def test_bytes_that_do_not_match_their_digest_are_thrown_away(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    manifest = registry.add("medical:latest", source)
    digest = manifest["layers"][0]["digest"]
    registry.blobs[digest] = bytes(len(registry.blobs[digest]))
    assert "digest" in refused(puller, "medical", ModelError).message
    assert not list(store.folder.iterdir())


def test_a_blob_that_ends_early_is_not_waited_for_for_ever(
    puller: Puller, registry: FakeRegistry, source: Path
) -> None:
    manifest = registry.add("medical:latest", source)
    manifest["layers"][0]["size"] += 1
    registry.put("medical:latest", manifest)
    refused(puller, "medical", UnavailableError)


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
        {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "", "size": 1}]},
        {"layers": [{"mediaType": "application/vnd.cncf.model.weight.v1.tar", "annotations": {"a": "b"}}]},
    ],
)
def test_forms_of_a_model_that_are_not_known_say_so(
    puller: Puller, registry: FakeRegistry, manifest: dict[str, object]
) -> None:
    registry.put("medical:latest", manifest)
    assert "safetensors" in (refused(puller, "medical", RequestError).hint or "")


def test_a_manifest_that_is_none_is_an_error(puller: Puller, registry: FakeRegistry) -> None:
    for data in (b"{", b"[]", b"[" * 100_000, b" " * (5 * 1024 * 1024)):
        registry.manifests["medical:latest"] = data
        refused(puller, "medical", ModelError)


def test_what_is_no_model_is_not_published(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    (source / "tokenizer.json").unlink()
    registry.add("medical:latest", source)
    assert "tokenizer.json" in refused(puller, "medical", ModelError).message
    assert not list(store.folder.iterdir())


def test_a_model_larger_than_the_disk_is_refused_before_a_byte_comes(
    puller: Puller, registry: FakeRegistry, source: Path
) -> None:
    change(registry, source, size=1 << 40)
    error = refused(puller, "medical", NoRoomError)
    assert error.status == 507 and int(str(error.details["needed_bytes"])) > 1 << 40
    assert not any("/blobs/" in path for path, _ in registry.requests)


def test_an_unknown_name_and_a_registry_that_is_away_are_told_apart(puller: Puller, store: ModelStore) -> None:
    refused(puller, "nothing", NotFoundError)
    error = refused(Puller(store, "127.0.0.1:1"), "nothing", UnavailableError)
    assert error.hint
    refused(Puller(store, "127.0.0.1:x"), "nothing", UnavailableError)


@pytest.mark.parametrize("name", ["hf.co/org/name", "org/name.gguf", "Org/Name", "../x", "a b"])
def test_sources_that_are_not_there_yet_and_names_that_are_none_are_refused(puller: Puller, name: str) -> None:
    assert refused(puller, name, RequestError).hint


def test_a_model_that_came_with_the_software_cannot_be_replaced(
    puller: Puller, registry: FakeRegistry, source: Path
) -> None:
    registry.add("thox-nano:latest", source)
    refused(puller, "thox-nano", RequestError)


def test_a_pull_that_is_closed_leaves_nothing_and_the_name_is_free_again(
    puller: Puller, store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.add("medical:latest", source)
    pull = puller.pull("medical")
    assert next(pull).completed == 0 and next(pull).completed > 0
    refused(puller, "medical", UnavailableError)  # it is on its way
    assert hasattr(pull, "close")
    pull.close()
    assert not list(store.folder.iterdir())
    list(puller.pull("medical"))


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


@pytest.mark.parametrize(
    "url", ["file:///nowhere/at/all", "file://host/tmp", "file:relative", "file://[x", "file:///%00"]
)
def test_a_folder_that_is_not_there_is_not_found(puller: Puller, url: str) -> None:
    with pytest.raises(NotFoundError):
        list(puller.copy(url, "mine"))


def test_a_reference_is_read_as_everybody_writes_it() -> None:
    for name, host, repository, tag in (
        ("a", "r:1", "a", "latest"),
        ("a/b:v", "r:1", "a/b", "v"),
        ("reg.example.com/a/b", "reg.example.com", "a/b", "latest"),
        ("localhost/a", "localhost", "a", "latest"),
        ("host:5000/a:1.0", "host:5000", "a", "1.0"),
    ):
        assert Reference.parse(name, "r:1") == Reference(host, repository, tag)


def test_only_this_machine_itself_is_spoken_to_in_the_clear() -> None:
    for host in ("localhost", "localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "::1"):
        assert is_loopback(host)
    for host in ("localhost.evil.org", "127.0.0.1.evil.org", "10.0.0.1", "example.com:80", "0x7f.1"):
        assert not is_loopback(host)
