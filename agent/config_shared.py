"""The few settings that an owner may set once for the whole stack. What a device's own file or variables say is nearer.

Only what is the same on every node, and what no node has to be restarted for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from agent.config import Config, ConfigError, read_setting

SHARED: Final = ("limits.cluster_per_minute", "limits.inference_per_minute", "models.default", "models.registry")
SOURCE: Final = "the stack"
_log = logging.getLogger(__name__)


def check_shared(name: str, text: str) -> None:
    """Raises ConfigError for a setting that is each device's own, and for a value that cannot be used."""
    if name not in SHARED:
        raise ConfigError(f"{name} is no setting of a stack", f"Those are {', '.join(SHARED)}.")
    read_setting(name, text, SOURCE)


def with_shared(config: Config, texts: Mapping[str, object]) -> Config:
    """The configuration with what the stack says where this device says nothing itself. ``texts``: as another node,
    perhaps of another version, wrote them; what cannot be used is left out."""
    values: dict[str, dict[str, object]] = {}
    sources = dict(config.sources)
    for name in SHARED:
        text = texts.get(name)
        if not isinstance(text, str) or config.sources.get(name, "default") != "default":
            continue
        try:
            section, _, key = name.partition(".")
            values.setdefault(section, {})[key] = read_setting(name, text, SOURCE)
            sources[name] = SOURCE
        except ConfigError as error:
            _log.warning("a setting of the stack is left out: %s", error)
    sections = {section: replace(getattr(config, section), **changes) for section, changes in values.items()}
    return replace(config, sources=MappingProxyType(sources), **sections)
