"""Quantised weights of a stage, packed once into a file on disk and mapped from there at every later start.

The file is safetensors. What it must hold follows from the checkpoint, the layers and the formats, so its header is
known beforehand: a file whose header is not that one, byte for byte, or whose data do not match their checksums is
built anew. It is written beside its place and renamed, so that a power cut leaves either no file or a whole one.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from agent.engine.base import Floats
from agent.engine.decoder import DecoderSpec
from agent.engine.quantise import Packed, Quantisation, quantise
from agent.engine.weights import Checkpoint
from agent.engine.weights_layout import Layout, lay_out
from agent.errors import EngineError, ModelError, NoRoomError

_BLOCK = 1 << 17  # weights a thread quantises at a time: what fits its share of the processor's cache
_ABANDONED_S = 3600.0  # a half-written file this old belongs to a process that died


Told = Callable[[float], None]  # how much is packed, 0 to 1


def _unheard(share: float) -> None:
    """Nobody asks."""


class Weights:
    """What a stage computes with: matrices in their format, vectors in float32."""

    def __init__(self, checkpoint: Checkpoint, packed: Mapping[str, Packed], file: mmap.mmap | None) -> None:
        self._checkpoint = checkpoint
        self._packed = packed
        self._file = file

    @classmethod
    def open(
        cls,
        checkpoint: Checkpoint,
        spec: DecoderSpec,
        layers: range,
        quantisation: Quantisation,
        *,
        cache: Path | None,
        threads: int,
        told: Told = _unheard,
    ) -> Weights:
        """Map the packed weights of these layers from ``cache``, a folder for this model alone, or pack them first.

        Without a folder they are packed into memory. ``told`` hears how far that is. Raises ModelError for a checkpoint
        that does not fit, NoRoomError when the disk is full, EngineError when the folder cannot be written.
        """
        spec.check(checkpoint.shapes)
        layout = lay_out(spec, layers, quantisation, checkpoint)
        if not layout.formats:
            return cls(checkpoint, {}, None)
        with ThreadPoolExecutor(threads, "pack") as pool:
            if cache is None:
                memory = mmap.mmap(-1, layout.size)
                _pack(checkpoint, layout, memory, pool, told)
                return cls(checkpoint, layout.packed(memory), None)
            path = cache / f"{quantisation}-{layers.start}-{layers.stop}.safetensors"
            file = _map_valid(path, layout, pool)
            if file is None:
                _build(path, checkpoint, layout, pool, told)
                file = _map_valid(path, layout, pool)
            if file is None:
                raise EngineError(f"{path.name} is damaged as soon as it is written", hint="check the disk")
        return cls(checkpoint, layout.packed(file), file)

    def matrix(self, name: str) -> Packed | Floats:
        """A matrix, [outputs, inputs]; float32 when it is not quantised."""
        packed = self._packed.get(name)
        return self._checkpoint.tensor(name) if packed is None else packed

    def vector(self, name: str) -> Floats:
        """The weight of a norm, or a bias."""
        return self._checkpoint.tensor(name)

    @property
    def smallest_group(self) -> int | None:
        """The fewest inputs of a matrix that share a scale; None where nothing is quantised."""
        return min((packed.format.group for packed in self._packed.values()), default=None)

    def drop_pages(self) -> None:
        """Give mapped pages back: for a runtime that made its own copy. They return when somebody reads them."""
        self._checkpoint.drop_pages()
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)


def _map_valid(path: Path, layout: Layout, pool: ThreadPoolExecutor) -> mmap.mmap | None:
    """Map the file; None when there is none, or it is not what it must be."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != layout.size:
                return None
            # A private map: it counts as writable, which the runtimes ask of arrays they share, and is never written.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EngineError(f"{path.name} cannot be read: {error}", hint="check the disk") from error
    if data[: len(layout.header)] != layout.header:
        return None
    return data if np.array_equal(layout.checksums.view(data), _checksums(layout, data, pool)) else None


def _build(path: Path, checkpoint: Checkpoint, layout: Layout, pool: ThreadPoolExecutor, told: Told) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                # Reserved first: a full disk is an error here, where under a map it would be a bus error.
                os.posix_fallocate(file.fileno(), 0, layout.size)
                data = mmap.mmap(file.fileno(), layout.size)
                _pack(checkpoint, layout, data, pool, told)
                data.flush()
                os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)  # still there when something failed
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoomError(
                f"no room on disk for the packed weights: {layout.size / 1e6:.0f} MB",
                hint="remove models that are not needed",
            ) from error
        raise EngineError(
            f"packed weights cannot be written: {error}", hint=f"check the folder {path.parent}"
        ) from error


def _sweep(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}.*.part"):
        if time.time() - part.stat().st_mtime > _ABANDONED_S:
            part.unlink(missing_ok=True)


def _pack(checkpoint: Checkpoint, layout: Layout, data: mmap.mmap, pool: ThreadPoolExecutor, told: Told) -> None:
    data[: len(layout.header)] = layout.header
    for index, (name, packed) in enumerate(layout.packed(data).items()):
        told(index / len(layout.formats))
        outputs, inputs = packed.shape
        step = max(1, _BLOCK // inputs)

        def pack_rows(start: int, name: str = name, packed: Packed = packed, step: int = step) -> None:
            if packed.format == checkpoint.native(name):
                checkpoint.pack(name, start, start + step, packed)
                return
            block = slice(start, start + step)
            quantise(
                checkpoint.rows(name, start, start + step), packed.format, packed.values[block], packed.scales[block]
            )

        for _ in pool.map(pack_rows, range(0, outputs, step)):
            pass
        if not np.isfinite(packed.scales).all():
            raise ModelError(f"{name} has weights that are not finite", hint="the checkpoint is broken: pull it again")
        checkpoint.drop_pages()  # nobody reads them again, and all of them together are larger than what is packed
    layout.checksums.view(data)[:] = _checksums(layout, data, pool)


def _checksums(layout: Layout, data: mmap.mmap, pool: ThreadPoolExecutor) -> list[int]:
    return list(pool.map(lambda part: zlib.crc32(part.view(data)), layout.parts))
