"""Configuration: where a value comes from, and what is said when it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config, ConfigError, ServerConfig, client_key, load, make_state_dir
from agent.config_shared import with_shared


def _load(tmp_path: Path, toml: str = "", **variables: str) -> Config:
    if toml:
        (tmp_path / "config.toml").write_text(toml)
    return load(None, {"THOX_STATE_DIR": str(tmp_path), **variables})


def test_without_file_and_variables_the_defaults_hold(tmp_path: Path) -> None:
    config = _load(tmp_path)
    assert (config.server.bind, config.server.inference_port, config.server.cluster_port) == ("127.0.0.1", 8080, 5381)
    assert (config.limits.inference_per_minute, config.limits.cluster_per_minute) == (100, 1000)
    assert config.sources["server.bind"] == "default" and config.sources["state_dir"] == "THOX_STATE_DIR"


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    config = _load(tmp_path, '[server]\nbind = "0.0.0.0"\nthreads = 8\n', THOX_BIND="127.0.0.2")
    assert (config.server.bind, config.server.threads) == ("127.0.0.2", 8)
    assert config.sources["server.bind"] == "THOX_BIND"
    assert config.sources["server.threads"] == str(tmp_path / "config.toml")


def test_every_setting_has_a_variable_of_its_own(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        THOX_SERVER_SEND_TIMEOUT_S="3",
        THOX_MODELS_PRELOAD="thox-nano, other",
        THOX_MODELS_ALIASES="gpt-4o=thox-nano,x=y",
        THOX_ENGINE_QUANTISATION="int8",
        THOX_INFERENCE_PORT="18080",
    )
    assert config.server.send_timeout_s == 3.0
    assert config.models.preload == ("thox-nano", "other")
    assert config.models.aliases == {"gpt-4o": "thox-nano", "x": "y"}
    assert config.engine.quantisation == "int8"
    assert config.server.inference_port == 18080


def test_a_file_named_by_thox_config_is_the_one_that_is_read(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('state_dir = "/nowhere"\n[models]\npreload = []\n[models.aliases]\na = "b"\n')
    config = _load(tmp_path, "[server]\nthreads = 9\n", THOX_CONFIG=str(other))
    assert (config.models.preload, dict(config.models.aliases), config.server.threads) == (
        (),
        {"a": "b"},
        ServerConfig().threads,
    )
    assert config.state_dir == tmp_path
    assert load(None, {"THOX_CONFIG": str(other)}).state_dir == Path("/nowhere")


def test_the_state_directory_follows_the_desktop_convention(tmp_path: Path) -> None:
    assert load(None, {"XDG_STATE_HOME": str(tmp_path)}).state_dir == tmp_path / "thox"
    assert load(None, {"HOME": str(tmp_path)}).state_dir == tmp_path / ".local" / "state" / "thox"


@pytest.mark.parametrize(
    ("toml", "named", "nearest"),
    [
        ("[server]\ninference_prot = 1\n", "server.inference_prot", "server.inference_port"),
        ("[sever]\nbind = '::1'\n", "sever", "server"),
        ("state-dir = '/x'\n", "state-dir", "state_dir"),
        ("inference_port = 1\n", "inference_port", "server.inference_port"),
        ("[engine.slots]\nx = 1\n", "engine.slots", ""),
        ("server = 3\n", "[server]", ""),
    ],
)
def test_an_unknown_key_of_the_file_is_an_error_that_names_the_nearest(
    tmp_path: Path, toml: str, named: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, toml)
    assert named in str(refused.value) and nearest in refused.value.hint


def test_an_unknown_variable_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="THOX_INFERENCE_PROT") as refused:
        _load(tmp_path, THOX_INFERENCE_PROT="1")
    assert "THOX_INFERENCE_PORT" in refused.value.hint


@pytest.mark.parametrize(
    "toml",
    [
        "[server]\ninference_port = 0\n",
        "[server]\ninference_port = 70000\n",
        "[server]\ninference_port = true\n",
        "[server]\ninference_port = '8080'\n",
        "[server]\nbind = 'everywhere'\n",
        "[server]\nsend_timeout_s = nan\n",
        "[server]\ninference_port = 5381\n",
        "[models]\npreload = 'thox-nano'\n",
        "[models]\npreload = [1]\n",
        "[models]\naliases = {a = 1}\n",
        "[engine]\nslots = 1.5\n",
        "[engine]\nquantisation = 'int5'\n",
        "[log]\nlevel = 'verbose'\n",
        "state_dir = 5\n",
        "not toml",
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_an_error(tmp_path: Path, toml: str) -> None:
    with pytest.raises(ConfigError):
        _load(tmp_path, toml)


def test_of_a_few_values_all_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'verbose'") as refused:
        _load(tmp_path, "[log]\nlevel = 'verbose'\n")
    assert refused.value.hint == "It is one of debug, info, warning, error."


@pytest.mark.parametrize("variable", ["THOX_INFERENCE_PORT", "THOX_SERVER_SEND_TIMEOUT_S", "THOX_MODELS_ALIASES"])
def test_a_variable_that_cannot_be_read_is_named(tmp_path: Path, variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        _load(tmp_path, **{variable: "eighty"})


def test_a_state_directory_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = load(None, {"THOX_STATE_DIR": str(tmp_path / "file" / "state")})
    with pytest.raises(ConfigError, match="cannot be written") as refused:
        make_state_dir(config)
    assert "THOX_STATE_DIR" in refused.value.hint


def test_a_new_state_directory_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    made = make_state_dir(load(None, {"THOX_STATE_DIR": str(tmp_path / "a" / "b")}))
    assert made.stat().st_mode & 0o777 == 0o700 and not list(made.iterdir())


def test_the_key_of_a_client_comes_from_its_environment() -> None:
    assert client_key({"THOX_API_KEY": "thox_x"}) == "thox_x"
    assert client_key({}) is None


def test_the_proxy_comes_from_where_every_program_has_it_unless_the_owner_says_otherwise(tmp_path: Path) -> None:
    usual = {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "localhost, .lan"}
    config = _load(tmp_path, **usual)
    assert (config.models.proxy, config.models.no_proxy) == ("http://proxy:1", ("localhost", ".lan"))
    assert config.sources["models.proxy"] == "HTTPS_PROXY"
    assert _load(tmp_path, '[models]\nproxy = "http://mine:2"\n', **usual).models.proxy == "http://mine:2"
    assert _load(tmp_path, THOX_MODELS_PROXY="", **usual).models.proxy == ""


def test_secrets_are_read_and_never_shown(tmp_path: Path) -> None:
    toml = '[models]\nproxy = "http://me:s3cret@proxy:1"\n[models.tokens]\n"reg.example:5000" = "me:s3cret"\n'
    config = _load(tmp_path, toml)
    assert config.models.tokens == {"reg.example:5000": "me:s3cret"}
    assert "s3cret" not in repr(config)
    for wrong in ("[models]\ntokens = 's3cret'\n", "[models]\nproxy = ['s3cret']\n"):
        with pytest.raises(ConfigError) as refused:
            _load(tmp_path, wrong)
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["many", "-1", 5, None, [], "9" * 9])
def test_a_setting_of_the_stack_that_cannot_be_used_is_left_out(tmp_path: Path, text: object) -> None:
    config = load(environ={"THOX_STATE_DIR": str(tmp_path)})
    said = {"limits.inference_per_minute": text, "models.default": "medical", "server.bind": "0.0.0.0", "x": "y"}
    shared = with_shared(config, said)
    assert shared.limits == config.limits and shared.server == config.server
    assert shared.models.default == "medical" and shared.sources["limits.inference_per_minute"] == "default"
