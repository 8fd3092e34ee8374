"""What the owner of a device can set: TOML and THOX_* variables become frozen values; an unknown key is an error.

Later wins: defaults; the file (the one THOX_CONFIG names, else ``<state_dir>/config.toml``, else
``/etc/thox/config.toml``); variables ``THOX_<SECTION>_<KEY>``, of which THOX_BIND, THOX_INFERENCE_PORT and
THOX_CLUSTER_PORT are short forms. Lists are written ``a,b`` in a variable, tables ``name=value,name=value``.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class ConfigError(Exception):
    """A setting that cannot be used; the message names it, ``hint`` says what would do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """``[server]``: the two ports and what a client may do to them."""

    bind: str = "127.0.0.1"  # THOX_BIND; 0.0.0.0 serves the LAN
    inference_port: int = 8080  # THOX_INFERENCE_PORT
    cluster_port: int = 5381  # THOX_CLUSTER_PORT
    threads: int = 128  # each request in progress holds one: more than engine.slots and engine.waiting together
    max_body_bytes: int = 16 * 1024 * 1024
    send_timeout_s: float = 20.0  # a client that reads nothing for this long is cut off
    receive_timeout_s: float = 20.0  # so is one that stops in the middle of its request

    def address(self, port: int) -> str:
        """``bind:port``, an IPv6 address in brackets."""
        return f"[{self.bind}]:{port}" if ":" in self.bind else f"{self.bind}:{port}"


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """``[limits]``: requests a minute for each key, unless the key has limits of its own. 0: no limit."""

    inference_per_minute: int = 100
    cluster_per_minute: int = 1000


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """``[models]``: what is there at start, and where others come from."""

    default: str = "thox-nano"
    preload: tuple[str, ...] = ("thox-nano", "all-minilm-l6-v2")
    aliases: Mapping[str, str] = field(default_factory=dict)
    auto_unload: bool = True  # a model that nobody uses makes room for one that is asked for
    keep_alive_s: float = 0.0  # how long a model stays after its last answer; 0: for ever
    registry: str = ""  # host[:port][/prefix] for names without a host; empty: such names are refused
    hub: str = "huggingface.co"  # host[:port][/path] that hf.co/... names are asked for
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)  # host -> token, or user:password
    proxy: str = field(default="", repr=False)  # http://[user:password@]host:port; unset: HTTPS_PROXY, ALL_PROXY
    no_proxy: tuple[str, ...] = ()  # hosts and domains that are reached without it; unset: NO_PROXY
    ca_file: str = ""  # PEM certificates that are trusted besides the system's
    plain_http: tuple[str, ...] = ()  # host[:port] that may be spoken to without TLS; this machine itself always may
    signing_key: str = ""  # ed25519 public key that manifests must be signed with; empty: unsigned ones are taken, too


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """``[engine]``: how models are loaded unless a request to load says otherwise."""

    threads: int = 0  # 0: one for each physical core
    slots: int = 16  # answers that are computed together
    context_length: int = 0  # 0: the model's own, at most 8192
    cache_tokens: int = 0  # tokens the key-value cache holds over all slots; 0: enough for four full contexts
    prefill_tokens: int = 256  # prompt tokens computed between two decode steps
    waiting: int = 64  # requests that may wait; one more is told to come back
    quantisation: str = "auto"  # auto, float, int8, int4, int4-g32
    cache_type: str = "auto"  # auto, f32, f16, u8: how the key-value cache keeps its numbers
    speculation: bool = True  # guess tokens that an answer repeats, while it pays; answers stay the same


@dataclass(frozen=True, slots=True)
class HardwareConfig:
    """``[hardware]``: which drivers."""

    mode: str = "auto"  # real: this machine's own drivers; auto: that on a recognised board, else simulated
    world: str = ""  # the socket of a simulated World that is served elsewhere, to be a module of it
    module: str = "module-1"  # which one
    wiring: Mapping[str, str] = field(default_factory=dict)  # names of hal/boards.BoardWiring, where a carrier differs


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """``[cluster]``: how this node meets the others of its stack."""

    link_port: int = 5382  # of the links between nodes, the same on all of a stack; 0: none, and so no other node
    mdns: bool = True  # tell the LAN that ``server.bind`` serves under which names the stack is there


@dataclass(frozen=True, slots=True)
class LogConfig:
    """``[log]``."""

    level: str = "info"
    format: str = "text"  # text, json


@dataclass(frozen=True, slots=True)
class Config:
    """Everything, once read. Nothing else in the agent looks at the environment."""

    state_dir: Path  # THOX_STATE_DIR
    server: ServerConfig = field(default_factory=ServerConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    log: LogConfig = field(default_factory=LogConfig)
    sources: Mapping[str, str] = field(
        default_factory=dict, compare=False
    )  # "server.bind" -> "default", a file, THOX_BIND


_SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerConfig,
    "limits": LimitsConfig,
    "models": ModelsConfig,
    "engine": EngineConfig,
    "hardware": HardwareConfig,
    "cluster": ClusterConfig,
    "log": LogConfig,
}
_SHORT = {
    "THOX_BIND": "server.bind",
    "THOX_INFERENCE_PORT": "server.inference_port",
    "THOX_CLUSTER_PORT": "server.cluster_port",
}
_OTHER_VARIABLES = ("THOX_CONFIG", "THOX_STATE_DIR", "THOX_API_KEY")
_USUAL = {  # what every program takes from the environment; the file and THOX_* win over it
    "models.proxy": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
    "models.no_proxy": ("NO_PROXY", "no_proxy"),
}
SECRETS = ("models.tokens", "models.proxy")  # never shown
_RANGES: Mapping[str, tuple[float, float]] = {
    "server.inference_port": (1, 65535),
    "server.cluster_port": (1, 65535),
    "server.threads": (4, 1024),
    "server.max_body_bytes": (1024, 1 << 30),
    "server.send_timeout_s": (0.1, 3600),
    "server.receive_timeout_s": (0.1, 3600),
    "cluster.link_port": (0, 65535),
    "limits.inference_per_minute": (0, 1_000_000),
    "limits.cluster_per_minute": (0, 1_000_000),
    "models.keep_alive_s": (0, 31_536_000),
    "engine.threads": (0, 1024),
    "engine.slots": (1, 256),
    "engine.context_length": (0, 1 << 22),
    "engine.cache_tokens": (0, 1 << 30),
    "engine.prefill_tokens": (1, 1 << 16),
    "engine.waiting": (0, 1 << 16),
}
_SWITCH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "engine.quantisation": ("auto", "float", "int8", "int4", "int4-g32"),
    "engine.cache_type": ("auto", "f32", "f16", "u8"),
    "hardware.mode": ("auto", "simulated", "real"),
    "log.level": ("debug", "info", "warning", "error"),
    "log.format": ("text", "json"),
}


def load(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration. Raises ConfigError naming the setting and where it came from.

    ``file`` overrides the search for one; ``environ`` is the process's own unless given.
    """
    environ = os.environ if environ is None else environ
    chosen = file or (Path(environ["THOX_CONFIG"]) if environ.get("THOX_CONFIG") else None)
    state_dir, state_source = _state_dir(environ)
    if chosen is None:
        usual = (state_dir / "config.toml", Path("/etc/thox/config.toml"))
        chosen = next((path for path in usual if path.is_file()), None)
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name, variables in _USUAL.items():
        variable = next((each for each in variables if environ.get(each)), None)
        if variable is not None:
            values[name], sources[name] = _parse(name, environ[variable], variable), variable
    if chosen is not None:
        for name, value in _read(chosen).items():
            values[name], sources[name] = value, str(chosen)
    for variable, name in _variables(environ).items():
        values[name], sources[name] = _parse(name, environ[variable], variable), variable
    if "state_dir" in values and state_source != "THOX_STATE_DIR":
        state_dir, state_source = Path(str(values["state_dir"])).expanduser(), sources["state_dir"]
    sources["state_dir"] = state_source
    for name, default in _defaults().items():
        if name not in values:
            sources[name] = "default"
        else:
            values[name] = _checked(name, values[name], default, sources[name])
    config = Config(
        state_dir=state_dir.absolute(),
        sources=MappingProxyType(sources),
        **{section: kind(**_own(section, values)) for section, kind in _SECTIONS.items()},
    )
    if config.server.inference_port == config.server.cluster_port:
        raise ConfigError(f"Both ports are {config.server.cluster_port}", "Give server.cluster_port another number.")
    return config


def read_setting(name: str, text: str, source: str) -> object:
    """The value of one setting as a variable would give it. Raises ConfigError."""
    return _checked(name, _parse(name, text, name), _defaults()[name], source)


def make_state_dir(config: Config) -> Path:
    """Create the state directory, private to its owner, and make sure that it can be written."""
    path = config.state_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"The state directory {path} cannot be written: {error.strerror}",
            "Set THOX_STATE_DIR to a directory of your own.",
        ) from error
    return path


def client_key(environ: Mapping[str, str] | None = None) -> str | None:
    """The API key that ``thox chat`` and ``thox models`` use, where THOX_API_KEY gives one."""
    return (os.environ if environ is None else environ).get("THOX_API_KEY") or None


def child_environ(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment for another ``thox`` on this machine: this process's own, and ``settings`` by dotted name.

    ``config`` is a file that is read where the environment names none.
    """
    environ = {"THOX_CONFIG": settings["config"]} if "config" in settings else {}
    environ |= os.environ
    if environ.get("THOX_CONFIG"):
        environ["THOX_CONFIG"] = str(Path(environ["THOX_CONFIG"]).absolute())  # its working folder may be another
    named = {name: text for name, text in settings.items() if name != "config"}
    return environ | {"THOX_" + name.replace(".", "_").upper(): text for name, text in named.items()}


def _state_dir(environ: Mapping[str, str]) -> tuple[Path, str]:
    if environ.get("THOX_STATE_DIR"):
        return Path(environ["THOX_STATE_DIR"]).expanduser(), "THOX_STATE_DIR"
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]) / "thox", "XDG_STATE_HOME"
    return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "thox", "default"


def _defaults() -> dict[str, object]:
    """Every setting but state_dir, by its dotted name."""
    return {
        f"{section}.{each.name}": getattr(kind(), each.name)
        for section, kind in _SECTIONS.items()
        for each in fields(kind)
    }


def _own(section: str, values: Mapping[str, object]) -> dict[str, object]:
    prefix = section + "."
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _read(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:  # a TOML error is a ValueError
        raise ConfigError(f"{file} cannot be read: {error}") from error
    flat: dict[str, object] = {}
    for name, value in document.items():
        if name == "state_dir":
            flat[name] = _checked(name, value, "", str(file))
        elif name not in _SECTIONS:
            inside = [known for known in _defaults() if known.rpartition(".")[2] == name]  # it lacks its section
            raise ConfigError(
                f"{file}: unknown section or key {name!r}", _nearest(name, inside or ["state_dir", *_SECTIONS])
            )
        elif not isinstance(value, dict):
            raise ConfigError(f"{file}: [{name}] is a section, not a value")
        else:
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
    known = _defaults()
    for name in flat:
        if name not in known and name != "state_dir":
            raise ConfigError(f"{file}: unknown key {name!r}", _nearest(name, known))
    return flat


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Variable -> dotted name. The long form of a setting wins over its short one."""
    known = {**_SHORT, **{"THOX_" + name.replace(".", "_").upper(): name for name in _defaults()}}
    for variable in environ:
        if variable.startswith("THOX_") and variable not in known and variable not in _OTHER_VARIABLES:
            raise ConfigError(f"Unknown variable {variable}", _nearest(variable, [*known, *_OTHER_VARIABLES]))
    return {variable: name for variable, name in known.items() if variable in environ}


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"Did you mean {near[0]}?" if near else ""


def _parse(name: str, text: str, variable: str) -> object:
    default = _defaults()[name]
    try:
        if isinstance(default, bool):
            return _SWITCH.get(text.strip().lower(), text)
        if isinstance(default, (int, float)):
            return type(default)(text)
        if isinstance(default, tuple):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if isinstance(default, Mapping):
            return dict(pair.strip().split("=", 1) for pair in text.split(",") if pair.strip())
    except ValueError as error:
        shown = "its value" if name in SECRETS else repr(text)
        raise ConfigError(f"{variable}={shown} is not {_wanted(default)}") from error
    return text


def _checked(name: str, value: object, default: object, source: str) -> object:
    fits: object = value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        fits = float(value)
    elif isinstance(default, tuple) and isinstance(value, list):
        fits = tuple(value)
    wrong = isinstance(fits, bool) is not isinstance(default, bool) or not isinstance(fits, type(default))
    if isinstance(fits, tuple):
        wrong = wrong or not all(isinstance(each, str) for each in fits)
    if isinstance(fits, Mapping):
        wrong = wrong or not all(isinstance(each, str) for each in fits.values())
    if wrong:
        shown = "its value" if name in SECRETS else repr(value)
        raise ConfigError(f"{name} = {shown} ({source}) is not {_wanted(default)}")
    if isinstance(fits, (int, float)) and name in _RANGES:
        low, high = _RANGES[name]
        if not low <= fits <= high:
            raise ConfigError(f"{name} = {fits!r} ({source}) is out of range", f"It goes from {low} to {high}.")
    if name in _CHOICES and fits not in _CHOICES[name]:
        raise ConfigError(f"{name} = {fits!r} ({source}) is unknown", f"It is one of {', '.join(_CHOICES[name])}.")
    if name == "server.bind":
        try:
            ipaddress.ip_address(str(fits))
        except ValueError as error:
            raise ConfigError(
                f"{name} = {fits!r} ({source}) is not an IP address", "0.0.0.0 serves the LAN."
            ) from error
    return fits


def _wanted(default: object) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple: "a list of texts",
        dict: "a table of texts",
    }
    return names.get(type(default), "of the right type")
