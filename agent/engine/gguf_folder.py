"""A GGUF file told in the small files of a Hugging Face folder, which all other parts read.

They are written once for each file and kept: a vocabulary takes seconds to rebuild, tokenizer.json a moment to read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from agent.engine.gguf_families import config_of
from agent.engine.gguf_file import GgufFile, find_gguf
from agent.engine.gguf_sampling import OLLAMA_PARAMETERS, recommended
from agent.engine.tokenizer_gguf import GgufTokenizer
from agent.errors import EngineError, NoRoomError

_VERSION = 2  # count up when what is written changes: older folders are then left alone
# What may lie beside the file, and then says more than the file does.
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def describe(folder: Path, cache: Path) -> Path:
    """Where config.json and the tokenizer of a model's folder are: there, or for a GGUF file in a folder of ``cache``.

    Raises ModelError for a file that cannot be read, NoRoomError when the disk is full, EngineError when the cache
    cannot be written.
    """
    gguf = find_gguf(folder)
    if gguf is None:
        return folder
    told = hashlib.blake2b(f"{_VERSION};".encode(), digest_size=8)
    beside = [folder / name for name in _BESIDE if (folder / name).is_file()]
    read = [gguf, *beside, *folder.glob(OLLAMA_PARAMETERS)]
    for path in read:
        status = path.stat()
        told.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    target = cache / f"gguf-{told.hexdigest()}"
    if not target.is_dir():
        file = GgufFile.read(gguf)
        tokenizer = GgufTokenizer.read(file)
        _write(
            target,
            {
                "config.json": config_of(file),
                "tokenizer.json": tokenizer.to_json(),
                "tokenizer_config.json": tokenizer.config(),
                "generation_config.json": {**tokenizer.generation(), **recommended(file, folder)},
            },
            beside,
        )
    return target


def _write(target: Path, files: dict[str, dict[str, object]], beside: list[Path]) -> None:
    """Written beside its place and renamed, so that a power cut leaves no half of it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part"))
        try:
            for name, value in files.items():
                (part / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
            for path in beside:
                shutil.copyfile(path, part / path.name)
            try:
                part.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another load was quicker: the same files
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoomError("no room on disk for a tokenizer", hint="remove models that are not needed") from error
        raise EngineError(f"{target} cannot be written: {error}", hint="check the folder and the disk") from error
