"""What the models take on disk, and what of that nobody needs.

Three kinds of files besides the models themselves: packed weights, made again whenever they are missing; blobs that no
model links to any more; the beginnings of blobs whose pull was cut, which the next pull goes on from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.models.checkpoint import StoredModel
from agent.models.pull_blobs import BlobStore
from agent.models.store import ModelStore


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """Bytes of one model. ``shared`` are files that other models have as well: removing this one does not free them."""

    name: str
    files: int
    shared: int
    packed: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes. A file that several models share counts once in ``files``."""

    models: tuple[ModelUsage, ...]
    files: int
    packed: int
    blobs: int  # that no model links to
    partial: int  # begun and not finished
    free: int
    total: int  # of the disk


@dataclass(frozen=True, slots=True)
class Freed:
    """Bytes that a prune freed."""

    packed: int
    blobs: int


class Disk:
    """``packed`` is the folder of packed weights, one folder for each model's files."""

    def __init__(self, store: ModelStore, blobs: BlobStore, packed: Path) -> None:
        self._store, self._blobs, self.packed = store, blobs, packed

    def usage(self) -> Usage:
        models = [model for model in self._store.models() if not model.builtin]
        held: dict[str, list[tuple[int, int]]] = {model.name: list(_inodes(model.path)) for model in models}
        owners: dict[int, set[str]] = {}
        sizes: dict[int, int] = {}
        for name, found in held.items():
            for inode, size in found:
                owners.setdefault(inode, set()).add(name)
                sizes[inode] = size
        shown = tuple(
            ModelUsage(
                model.name,
                sum(dict(held[model.name]).values()),
                sum({inode: size for inode, size in held[model.name] if len(owners[inode]) > 1}.values()),
                _size(packed_folder(self.packed, model)),
            )
            for model in models
        )
        unused = self._blobs.unreferenced()
        disk = shutil.disk_usage(self._store.folder)
        return Usage(
            shown,
            files=sum(sizes.values()),
            packed=_size(self.packed),
            blobs=sum(blob.bytes for blob in unused if not blob.partial),
            partial=sum(blob.bytes for blob in unused if blob.partial),
            free=disk.free,
            total=disk.total,
        )

    def prune(self, *, loaded: Iterable[str] | None = None) -> Freed:
        """Delete blobs and beginnings of blobs that nobody needs, and packed weights of models that are gone.

        With ``loaded``, names of models, also the packed weights of all others: they are made again when one is loaded.
        """
        keep = set(loaded) if loaded is not None else None
        models = [model for model in self._store.models() if keep is None or model.name in keep]
        return Freed(self._sweep(models), self._blobs.sweep())

    def sweep_packed(self) -> None:
        """Delete the packed weights of models that are gone."""
        self._sweep(self._store.models())

    def forget(self, model: StoredModel) -> None:
        """A model was removed: what was kept for it alone goes, too."""
        others = self._store.models()
        if all(other.digest != model.digest for other in others):
            shutil.rmtree(packed_folder(self.packed, model), ignore_errors=True)
        self._blobs.sweep(partial=False)

    def _sweep(self, models: Iterable[StoredModel]) -> int:
        kept = {packed_folder(self.packed, model).name for model in models}
        freed = 0
        for folder in self.packed.glob("*"):
            if folder.name not in kept:
                freed += _size(folder)
                shutil.rmtree(folder, ignore_errors=True)
        return freed


def packed_folder(cache: Path, model: StoredModel) -> Path:
    """Where the packed weights of a model's files are: copies of a model share it."""
    return cache / hashlib.blake2b(model.digest.encode(), digest_size=16).hexdigest()


def _inodes(folder: Path) -> Iterable[tuple[int, int]]:
    """Inode and bytes of every file."""
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                stat = (Path(path) / name).stat()
            except OSError:  # deleted meanwhile
                continue
            yield stat.st_ino, stat.st_size


def _size(folder: Path) -> int:
    return sum(dict(_inodes(folder)).values())
