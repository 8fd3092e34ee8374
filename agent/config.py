"""What the owner of a device can set: TOML and THOX_* variables become frozen values; an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """``[server]``: the two ports and what a client may do to them."""

    bind: str = "127.0.0.1"  # THOX_BIND; 0.0.0.0 serves the LAN
    inference_port: int = 8080  # THOX_INFERENCE_PORT
    cluster_port: int = 5381  # THOX_CLUSTER_PORT
    threads: int = 64  # each open stream holds one
    max_body_bytes: int = 16 * 1024 * 1024
    send_timeout_s: float = 20.0  # a client that reads nothing for this long is cut off


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
    registry: str = ""  # host[:port] of the registry for names without one; empty: such names are refused


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


@dataclass(frozen=True, slots=True)
class HardwareConfig:
    """``[hardware]``: which drivers."""

    mode: str = "auto"  # auto: the board's own where one is recognised, else simulated; simulated


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
    log: LogConfig = field(default_factory=LogConfig)
