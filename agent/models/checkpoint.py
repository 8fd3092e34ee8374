"""What a model's folder says about itself, read without its weights: configuration, file sizes, headers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from agent.engine import encoder_spec
from agent.engine.lora import LoraSpec
from agent.errors import ModelError
from agent.models.checkpoint_files import Unusable, holds_adapter, read_adapter, read_contents, read_object
from agent.models.checkpoint_sizes import Sizes, Widths

RECORD = ".thox.json"  # written by a pull: where the model came from

Kind = Literal["text", "embedding", "reranker", "adapter"]
Files = tuple[tuple[str, int, int], ...]  # path in the folder, bytes, mtime in ns


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model on disk. Where ``broken`` says something, the model is listed and cannot be loaded."""

    name: str
    path: Path
    kind: Kind
    architecture: str  # as config.json names it, e.g. LlamaForCausalLM
    parameters: int  # elements of all tensors
    bytes: int  # of all files
    context_length: int  # what config.json allows; 0: it does not say
    created: int  # Unix time, s: when the files came
    modified: int  # Unix time, s: the newest file
    digest: str  # of the registry's manifest; else of names, sizes and times of the files, so it changes when they do
    source: str  # builtin, local, or the registry's reference
    broken: str = ""
    format: str = ""  # safetensors, gguf, peft
    quantisation: str = ""  # of the files, e.g. BF16, Q4_K, gptq-int4
    sizes: Sizes = Sizes()  # noqa: RUF009  frozen
    widths: Widths = Widths()  # noqa: RUF009  frozen
    base: str = ""  # of an adapter: the model that it changes; as its makers named it where the store has none such
    lora: LoraSpec | None = field(default=None, compare=False)  # of an adapter
    adapters: tuple[StoredModel, ...] = ()  # what is to be loaded with it

    @property
    def short(self) -> str:
        """The digest in a length for people."""
        return self.digest[:12]

    @property
    def builtin(self) -> bool:
        return self.source == "builtin"


def check_usable(model: StoredModel) -> None:
    """Raises ModelError for a model that is listed and cannot be loaded."""
    if model.broken:
        raise ModelError(f"The model {model.name} cannot be used: {model.broken}", hint="delete and pull it again")


def inspect(name: str, path: Path, *, builtin: bool) -> StoredModel:
    """Look at a folder. Never raises for what is wrong inside: ``broken`` says it."""
    try:
        files = _files(path)
    except OSError as error:  # it went away under our eyes, or may not be read
        return _broken(name, path, (), builtin, f"the folder cannot be read: {error.strerror}")
    try:
        return _inspect(name, path, files, builtin)
    except Unusable as reason:
        return _broken(name, path, files, builtin, str(reason))


def _files(path: Path) -> Files:
    """Every file below the folder. Asked for at each request, so it is one pass over the directories."""
    found: list[tuple[str, int, int]] = []
    folders = [(str(path), "")]
    while folders:
        folder, prefix = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_file():
                    stat = entry.stat()
                    found.append((prefix + entry.name, stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


@lru_cache(maxsize=256)
def _inspect(name: str, path: Path, files: Files, builtin: bool) -> StoredModel:
    """``files`` is the key of the cache: a folder whose files did not change is not read again."""
    present = {file for file, _, _ in files}
    adapter = holds_adapter(present)
    contents = read_adapter(path, present) if adapter else read_contents(path, present)
    config = contents.config
    record = read_object(path, RECORD, present) if RECORD in present else {}
    # A multimodal checkpoint keeps the numbers of its decoder one level down.
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    encoder = encoder_spec.kind(config) or ("embedding" if "modules.json" in present else None)
    return StoredModel(
        name=name,
        path=path,
        kind="adapter" if adapter else encoder or "text",
        architecture="LoRA" if adapter else _architecture(config),
        parameters=contents.sizes.total,
        bytes=sum(size for _, size, _ in files),
        context_length=_number(text, "max_position_embeddings", "n_positions"),
        created=_time(files, record.get("created")),
        modified=_time(files, None),
        digest=str(record.get("digest") or _digest(files)).removeprefix("sha256:"),
        source="builtin" if builtin else str(record.get("source") or "local"),
        format=contents.format,
        quantisation=contents.quantisation,
        sizes=contents.sizes,
        widths=Widths() if encoder or adapter else _widths(text),
        base="" if contents.lora is None else contents.lora.base,
        lora=contents.lora,
    )


def _broken(name: str, path: Path, files: Files, builtin: bool, reason: str) -> StoredModel:
    return StoredModel(
        name=name,
        path=path,
        kind="adapter" if holds_adapter({file for file, _, _ in files}) else "text",
        architecture="",
        parameters=0,
        bytes=sum(size for _, size, _ in files),
        context_length=0,
        created=_time(files, None),
        modified=_time(files, None),
        digest=_digest(files),
        source="builtin" if builtin else "local",
        broken=reason,
    )


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    raise Unusable("config.json names no architecture")


def _widths(config: Mapping[str, Any]) -> Widths:
    heads, hidden = _number(config, "num_attention_heads"), _number(config, "hidden_size")
    return Widths(
        layers=_number(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=_number(config, "num_key_value_heads") or heads,
        head_size=_number(config, "head_dim") or (hidden // heads if heads else 0),
        hidden=hidden,
        feed_forward=_number(config, "intermediate_size"),
        vocabulary=_number(config, "vocab_size"),
    )


def _number(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _time(files: Files, recorded: object) -> int:
    if isinstance(recorded, int) and recorded > 0:
        return recorded
    return max((mtime for _, _, mtime in files), default=0) // 1_000_000_000


def _digest(files: Files) -> str:
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
