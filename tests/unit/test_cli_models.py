"""``thox models`` and its short forms, against a real device."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_device import Device
from rich.console import Console
from small_gguf import gguf_bytes

from agent.cli_models_progress import pull
from agent.cli_models_tables import count, list_models, show_loaded, show_model, show_usage, size
from agent.client import Client
from agent.models.store import builtin_models

NEEDED = {
    "weights_bytes": 1 << 30, "cache_bytes": 1 << 29, "workspace_bytes": 1 << 28, "needed_bytes": 7 << 28,
    "quantisation": "int8", "cache_type": "u8",
}  # fmt: skip
MODEL: dict[str, object] = {
    "id": "m", "root": "m", "kind": "text", "state": "loading", "parameters": 1_236_000_000, "quantisation": "Q4_K",
    "format": "gguf", "bytes": 800_000_000, "context_length": 8192, "architecture": "LlamaForCausalLM", "digest": "12",
    "licence": "mit", "sampling": {"top_p": 0.9}, "source": "hf.co/o/m", "template": "[/bold] {{ m }}",
    "needed": {**NEEDED, "available_bytes": 5 << 30}, "loading": {"progress": 0.25, "stage": "quantising"},
}  # fmt: skip


def said(show: object, what: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    show(what, console)  # type: ignore[operator]
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (1500, "1 KiB"), (8 << 20, "8 MiB"), (3 << 29, "1.5 GiB")])
def test_sizes_are_for_people(value: int, text: str) -> None:
    assert size(value) == text


def test_counts_are_for_people() -> None:
    assert [count(value) for value in (7, 22_700, 135_000_000, 7_240_000_000)] == ["7", "22.7 K", "135.0 M", "7.2 B"]


def test_the_tables_say_what_the_device_said() -> None:
    listed = said(list_models, [MODEL, {**MODEL, "id": "other"}])
    assert "1.2 B" in listed and "Q4_K" in listed and "763 MiB" in listed and "other -> m" in listed
    shown = said(show_model, MODEL)
    assert "loading (25%, quantising)" in shown and "mit" in shown and "top_p 0.9" in shown
    assert "1.8 GiB of memory (int8 weights 1.0 GiB, u8 cache 512 MiB, workspace 256 MiB); 5.0 GiB are free" in shown
    assert "[/bold] {{ m }}" in shown  # a template is no markup
    loaded = {**MODEL, "state": "loaded", "memory": NEEDED, "answering": 2, "expires_in_s": 600.0}
    del loaded["loading"]
    assert "in 10 min" in said(show_loaded, [loaded]) and "1.8 GiB" in said(show_loaded, [loaded])
    assert "int8" in said(show_loaded, [loaded])
    assert "No model" in said(show_loaded, [{**MODEL, "state": state} for state in ("available", "failed")])
    one = {"model": "m", "bytes": 5 << 20, "shared_bytes": 4 << 20, "packed_bytes": 3 << 20}
    names = ("models_bytes", "packed_bytes", "unused_bytes", "partial_bytes", "free_bytes")
    usage = said(show_usage, {"models": [one], **{name: index << 30 for index, name in enumerate(names, 1)}})
    assert "4 MiB" in usage and "5.0 GiB" in usage


def test_names_stay_whole_on_a_narrow_terminal() -> None:
    name, base = "registry.example:5000/organisation/model:q4", "hf.co/organisation/a-model-with-a-long-name"
    models = [
        {**MODEL, "id": name, "root": name, "state": "available"},
        {**MODEL, "id": "lora", "root": "lora", "kind": "adapter", "base": base, "context_length": 0},
    ]
    for width, left_out in (
        (170, ()),
        (90, ("context", "parameters")),
        (64, ("context", "parameters", "weights", "kind")),
    ):
        console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        list_models(models, console)
        assert isinstance(console.file, io.StringIO)
        lines = console.file.getvalue().splitlines()
        assert any(name in line for line in lines) and all(len(line) <= width for line in lines)
        titles = ("model", "size", "kind", "weights", "parameters", "context")
        assert [title for title in titles if title not in lines[0]] == [each for each in titles if each in left_out]


def test_what_is_loaded_of_an_adapter_is_said_by_its_base() -> None:
    lora = {**MODEL, "id": "lora", "root": "lora", "kind": "adapter", "base": "m", "state": "loaded"}
    assert "with its base" in said(show_loaded, [lora])


def test_a_model_goes_through_its_whole_life_from_the_command_line(device: Device, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(builtin_models()["thox-nano"], source)
    (source / "README.md").write_text("---\nlicense: mit\n---\n")

    def thox(*arguments: str) -> str:
        done = device.thox(*arguments, "--key", device.key)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "mine is here" in thox("pull", str(source), "--name", "mine")
    assert "a copy of mine" in thox("models", "copy", "mine", "second")
    assert "another name of second" in thox("models", "alias", "second", "third")
    assert "mit" in thox("show", "mine") and "weights" in thox("show", "third")
    assert "is loaded and takes" in thox("load", "mine", "--context-length", "64", "--keep-alive", "1h")
    assert "mine" in thox("ps") and "in 60 min" in thox("ps")
    assert "second" in thox("models", "usage")
    assert "is unloaded" in thox("unload", "mine")
    assert "mine" not in thox("ps")
    assert thox("rm", "third", "second", "mine").splitlines() == [
        f"{name} is removed." for name in ("third", "second", "mine")
    ]
    assert "freed" in thox("models", "prune")
    assert "mine" not in thox("models")
    refused = device.thox("load", "mine")
    assert refused.returncode == 1 and "does not exist" in refused.stderr
    assert "no pull of 'mine'" in device.thox("models", "cancel", "mine", "--key", device.key).stderr


def test_a_gguf_file_is_told_by_the_name_that_it_has_on_the_device(device: Device, tmp_path: Path) -> None:
    file = tmp_path / "a file.gguf"
    file.write_bytes(gguf_bytes())
    refused = device.thox("pull", file.as_uri())
    assert refused.returncode == 1 and "permission admin" in refused.stderr and "owner's key" in refused.stderr
    named = file.rename(tmp_path / "small-model.gguf")
    done = device.thox("pull", named.as_uri(), "--key", device.key)
    assert done.stdout == "small-model is here. `thox load small-model` loads it; so does the first request for it.\n"


def test_who_interrupts_a_pull_is_told_that_it_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    class Interrupted(Client):
        def lines(self, path: str, body: object) -> Iterator[dict[str, object]]:  # type: ignore[override]
            yield {"model": "m:1", "completed": 1, "total": 2, "blobs": []}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(Interrupted("127.0.0.1", 1), "m:1", None, Console(file=io.StringIO()))
    assert "m:1 goes on" in capfd.readouterr().err


def test_a_pull_that_breaks_says_why(device: Device, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({"architectures": ["X"]}))
    done = device.thox("pull", broken.as_uri(), "--key", device.key)
    assert done.returncode == 1 and "broken" in done.stderr
