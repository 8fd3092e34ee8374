"""A folder or a GGUF file of the device itself becomes a model; weights are linked where the disk allows it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

_PARTS = (".safetensors", ".json", ".txt", ".jinja", ".model", ".md", ".gguf")  # of a folder, what belongs to a model
_WEIGHTS = (".safetensors", ".gguf")
_PIECE = 8 * 1024 * 1024


def local_files(source: Path) -> dict[str, Path]:
    """What to take in: path in the model -> file. Nothing hidden is taken."""
    if source.is_file():
        return {source.name: source}
    found = {file.relative_to(source): file for file in sorted(source.rglob("*"))}
    return {
        path.as_posix(): file
        for path, file in found.items()
        if file.suffix in _PARTS and file.is_file() and not any(part.startswith(".") for part in path.parts)
    }


def default_name(source: Path) -> str:
    """What the model is called where nobody says."""
    return source.stem if source.is_file() else source.name


def take_in(source: Path, target: Path, told: Callable[[int], None]) -> None:
    """Link or copy a file; ``told`` hears how many bytes are there, and may raise. Raises OSError.

    Weights are linked: they are large, and nobody edits them in place. Anything else is copied.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in _WEIGHTS:
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # another disk, or one without links
            pass
        else:
            told(target.stat().st_size)
            return
    done = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while data := reader.read(_PIECE):
            writer.write(data)
            done += len(data)
            told(done)
    shutil.copymode(source, target)
