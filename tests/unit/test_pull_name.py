"""What people write to have a model, and where it points."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import NotFoundError, RequestError
from agent.models.pull_http import is_loopback
from agent.models.pull_name import HubName, Reference, check_no_address, local_path, parse
from agent.models.store import check_name

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("name", "host", "repository", "tag", "digest"),
    [
        ("a", "r:1", "a", "latest", ""),
        ("a/b:v", "r:1", "a/b", "v", ""),
        ("a:0.6b", "r:1", "a", "0.6b", ""),
        (f"a@{DIGEST}", "r:1", "a", "latest", DIGEST),
        (f"a:v@{DIGEST}", "r:1", "a", "v", DIGEST),
        ("reg.example.com/a/b", "reg.example.com", "a/b", "latest", ""),
        ("localhost/a", "localhost", "a", "latest", ""),
        ("host:5000/a:1.0", "host:5000", "a", "1.0", ""),
        ("docker.io/a/b.gguf", "docker.io", "a/b.gguf", "latest", ""),
    ],
)
def test_a_reference_is_read_as_everybody_writes_it(
    name: str, host: str, repository: str, tag: str, digest: str
) -> None:
    assert parse(name, "r:1") == Reference(host, repository, tag, digest)
    assert check_name(name) == name


def test_a_default_registry_may_have_a_prefix_for_names_of_one_part() -> None:
    assert parse("qwen3:0.6b", "registry.ollama.ai/library") == Reference("registry.ollama.ai", "library/qwen3", "0.6b")
    assert parse("me/mine", "registry.ollama.ai/library") == Reference("registry.ollama.ai", "me/mine")
    assert parse("x.example/mine", "registry.ollama.ai/library") == Reference("x.example", "mine")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf.co/Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B")),
        ("huggingface.co/Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B")),
        ("hf.co/unsloth/Qwen3-0.6B-GGUF:Q4_K_M", HubName("unsloth/Qwen3-0.6B-GGUF", "Q4_K_M")),
        ("hf.co/o/n:sub/n-q4_0.gguf", HubName("o/n", "sub/n-q4_0.gguf")),
        ("hf.co/o/n@refs/pr/1", HubName("o/n", "", "refs/pr/1")),
        ("hf.co/o/n@v1.0:Q8_0", HubName("o/n", "Q8_0", "v1.0")),
    ],
)
def test_a_name_of_the_hub_has_a_revision_and_a_wish(name: str, expected: HubName) -> None:
    assert parse(name, "") == expected
    assert check_name(name) == name and str(expected) == name.replace("huggingface.co", "hf.co")


@pytest.mark.parametrize(
    "name",
    [
        "Org/Name", "../x", "a b", "a:", "a:b:c", "r.example/", "r.example/A", "a@sha256:12", "a@",
        f"a@{DIGEST.upper()}", "-r.example/a", "r.example:x/a", "r_x.example/a",
        "hf.co/name", "hf.co/", "hf.co/a/b/c", "hf.co/a/b:", "hf.co/a/b@", "hf.co/a/../b", "hf.co/a/b:../x",
        "hf.co/a/b@x:y:z", "hf.co/../etc", "hf.co/a/b:/x", "",
    ],
)  # fmt: skip
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(name, "r:1")
    assert caught.value.hint and caught.value.param == "model"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("https://huggingface.co/Qwen/Qwen3-0.6B", "write huggingface.co/Qwen/Qwen3-0.6B"),
        ("http://r.example:5000/a b", "write hf.co/org/name or host/name:tag"),
    ],
)
def test_an_address_from_a_browser_is_refused_with_the_name_to_write(address: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_no_address(address)
    assert caught.value.hint == hint
    check_no_address("r.example:5000/org/name:tag")


def test_a_name_without_a_registry_is_refused_with_the_way_to_set_one() -> None:
    with pytest.raises(RequestError) as caught:
        parse("medical", "")
    assert "models.registry" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "url", ["file:///nowhere/at/all", "file://host/tmp", "file:relative", "file://[x", "file:///%00"]
)
def test_a_folder_that_is_not_there_is_not_found(url: str) -> None:
    with pytest.raises(NotFoundError):
        local_path(url)


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    folder = tmp_path / "ä model %20"
    folder.mkdir()
    assert local_path(folder.as_uri()) == folder


def test_only_this_machine_itself_is_spoken_to_in_the_clear() -> None:
    for host in ("localhost", "localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "::1"):
        assert is_loopback(host)
    for host in ("localhost.evil.org", "127.0.0.1.evil.org", "10.0.0.1", "example.com:80", "0x7f.1"):
        assert not is_loopback(host)
