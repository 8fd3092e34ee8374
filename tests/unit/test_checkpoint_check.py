"""What this engine cannot load is refused when it is pulled, and an architecture it has not before its weights come."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_hub import FakeHub, FakeStorage
from pulling import QUICK, refused, write_model

from agent.config import ModelsConfig
from agent.errors import NotFoundError, RequestError
from agent.models.checkpoint import inspect
from agent.models.checkpoint_check import check_architecture, check_loadable
from agent.models.pull import Puller
from agent.models.store import ModelStore, builtin_models


def changed(tmp_path: Path, name: str, change: dict[str, object]) -> Path:
    """A copy of a shipped model with other settings."""
    shipped = builtin_models()
    if name not in shipped:
        pytest.skip(f"the package with {name} is not installed")
    folder = shutil.copytree(shipped[name], tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    return folder


@pytest.mark.parametrize("name", ["thox-nano", "all-minilm-l6-v2"])
def test_what_is_shipped_can_be_loaded(tmp_path: Path, name: str) -> None:
    folder = changed(tmp_path, name, {})
    check_architecture(folder / "config.json", {"config.json"})
    check_loadable(inspect(name, folder, builtin=False))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("thox-nano", {"num_hidden_layers": 99}, "lacks"),
        ("thox-nano", {"vocab_size": 11}, "do not fit"),
        ("thox-nano", {"head_dim": 33}, "head_dim"),
        ("all-minilm-l6-v2", {"num_hidden_layers": 99}, "lacks encoder.layer"),
        ("all-minilm-l6-v2", {"intermediate_size": 77}, "config.json asks for"),
        ("all-minilm-l6-v2", {"architectures": ["BertForSequenceClassification"]}, "2 classes"),
    ],
)
def test_a_model_that_a_load_would_refuse_is_not_taken_in(
    tmp_path: Path, name: str, change: dict[str, object], says: str
) -> None:
    folder = changed(tmp_path, name, change)
    store = ModelStore(tmp_path / "state", {})
    puller = Puller(store, limits=QUICK, check=check_loadable)
    with pytest.raises(RequestError, match=rf"mine cannot be used: .*{says}"):
        list(puller.copy(folder.as_uri(), "mine"))
    with pytest.raises(NotFoundError):
        store.find("mine")


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"architectures": ["NobodyKnowsForCausalLM"], "model_type": "nobody"}, "Qwen3ForCausalLM"),
        ({"architectures": ["BertForTokenClassification"], "model_type": "bert"}, "MPNetModel"),
        ({"model_type": "nobody"}, "Qwen3ForCausalLM"),
    ],
)
def test_of_an_unknown_architecture_no_weights_are_fetched(
    tmp_path: Path, config: dict[str, object], known: str
) -> None:
    source = write_model(tmp_path / "source")
    (source / "config.json").write_text(json.dumps(config))
    with FakeStorage() as storage, FakeHub(storage) as hub:
        hub.put("org/Name-1B", {path.name: path.read_bytes() for path in source.iterdir()})
        puller = Puller(ModelStore(tmp_path / "state", {}), ModelsConfig(hub=hub.host), QUICK)
        error = refused(puller, "hf.co/org/Name-1B", RequestError)
        assert "architecture" in str(error) and error.hint is not None and known in error.hint
        assert not storage.requests, "the weights lie there"


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_a_config_that_is_none_is_left_to_those_who_say_what_is_wrong_with_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    check_architecture(tmp_path / "config.json", {"config.json"})
    check_architecture(tmp_path / "none.json", ())
