"""Bringing models onto the device: from an OCI registry, or from a folder of the device itself.

A model in a registry is one blob for each file, with the file's path as the annotation
``org.opencontainers.image.title`` (as ORAS writes it) or ``org.cncf.model.filepath`` (as the CNCF's ModelPack does).
Nothing that comes is believed: sizes and digests are checked while the bytes stream into a folder aside, and it becomes
a model in one step once all of it is there and is one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from agent.errors import ModelError, NoRoomError, NotFoundError, RequestError, UnavailableError
from agent.models.checkpoint import RECORD, inspect
from agent.models.pull_registry import MANIFESTS, Reference, Repository
from agent.models.store import ModelStore, check_name

RESERVE_BYTES = 256 * 1024 * 1024  # left free on the disk for logs and keys
LARGEST_FILE = 1024**4
MOST_FILES = 4096
REPORT_S = 0.25  # how often a running download tells where it is

_TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PACKED = ("tar", "gzip", "zstd")  # a layer that is an archive instead of a file
_LOCAL_FILES = (".safetensors", ".json", ".txt", ".jinja", ".model", ".md")  # of a folder, what belongs to a model
_LATER = "this version takes checkpoints in Hugging Face layout (safetensors) from OCI registries"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull is. ``completed`` and ``total`` are bytes over all files."""

    status: str
    completed: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class _Blob:
    path: str
    digest: str
    size: int


class Puller:
    """Fills the store. Safe to call from many threads; one pull of a name at a time.

    ``registry`` is host[:port] for names that have none; empty: such names are refused.
    """

    def __init__(self, store: ModelStore, registry: str = "") -> None:
        self._store, self._registry = store, registry
        self._lock = threading.Lock()
        self._coming: set[str] = set()

    def pull(self, name: str) -> Iterator[Progress]:
        """Download a model under its own name. Closing the iterator cancels, and leaves nothing.

        Raises RequestError (a name that is none, or of a kind that cannot be had), NotFoundError, NoRoomError,
        UnavailableError (the registry, or the same pull running), ModelError (what came is broken).
        """
        _refuse_other_kinds(name)
        check_name(name)
        reference = Reference.parse(name, self._registry)
        with self._alone(name), self._store.incoming(name) as folder:
            repository = Repository(reference)
            manifest, digest = repository.manifest()
            blobs = _blobs(manifest, str(reference))
            total, done = sum(blob.size for blob in blobs), 0
            self._check_room(total)
            yield Progress("downloading", 0, total)
            for blob in blobs:
                for part in _download(repository, blob, folder / blob.path):
                    yield Progress(f"downloading {blob.path}", done + part, total)
                done += blob.size
            yield Progress("checking", done, total)
            _record(folder, f"{reference}@{digest}", digest)
            _check_usable(name, folder)
        yield Progress("success", total, total)

    def copy(self, url: str, name: str | None = None) -> Iterator[Progress]:
        """Take in a folder of this device, given as ``file:///path``; weights are linked where the disk allows it.

        Only for those who may read the device's files anyway: the caller checks that.
        """
        source = Path(unquote(url.removeprefix("file://")))
        name = check_name(source.name if name is None else name, "name")
        if not source.is_absolute() or not source.is_dir():
            raise NotFoundError(f"there is no folder {source}", hint="write file:///path/to/folder", param="model")
        files = [file for file in sorted(source.rglob("*")) if file.suffix in _LOCAL_FILES and file.is_file()]
        total, done = sum(file.stat().st_size for file in files), 0
        with self._alone(name), self._store.incoming(name) as folder:
            self._check_room(total)
            for file in files:
                target = folder / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(file, target)
                done += target.stat().st_size
                yield Progress(f"copying {file.name}", done, total)
            _check_usable(name, folder)
        yield Progress("success", total, total)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._lock:
            if name in self._coming:
                raise UnavailableError(f"{name} is on its way already", retry_after=10)
            self._coming.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._coming.discard(name)

    def _check_room(self, total: int) -> None:
        free = shutil.disk_usage(self._store.folder).free - RESERVE_BYTES
        if total > free:
            raise NoRoomError(
                f"the model takes {total >> 20} MiB and the disk has {max(0, free) >> 20} MiB for it",
                hint="delete a model first",
                needed_bytes=total,
                available_bytes=max(0, free),
            )


def _refuse_other_kinds(name: str) -> None:
    if name.startswith(("hf.co/", "huggingface.co/")):
        raise RequestError("models of the Hugging Face hub cannot be pulled yet", hint=_LATER, param="model")
    if name.lower().endswith(".gguf"):
        raise RequestError("GGUF files cannot be used yet", hint=_LATER, param="model")


def _blobs(manifest: dict[str, Any], reference: str) -> list[_Blob]:
    """The files that a manifest names. Raises RequestError for forms we do not know, ModelError for nonsense."""
    kind = manifest.get("mediaType", MANIFESTS[0])
    layers = manifest.get("layers")
    if kind not in MANIFESTS or not isinstance(layers, list) or not layers:
        raise RequestError(f"{reference} is no model but {str(kind)[:80]}", hint=_LATER, param="model")
    if len(layers) > MOST_FILES:
        raise ModelError(f"{reference} has {len(layers)} files, more than {MOST_FILES}")
    blobs: dict[str, _Blob] = {}
    for layer in layers:
        blob = _blob(layer if isinstance(layer, dict) else {}, reference)
        if blob.path in blobs:
            raise ModelError(f"{reference} has {blob.path} twice")
        blobs[blob.path] = blob
    return list(blobs.values())


def _blob(layer: dict[str, Any], reference: str) -> _Blob:
    kind, notes = str(layer.get("mediaType", "")), layer.get("annotations")
    if "ollama" in kind or "gguf" in kind:
        raise RequestError(f"{reference} is a GGUF model, which cannot be used yet", hint=_LATER, param="model")
    title = next((notes[key] for key in _TITLES if key in notes), None) if isinstance(notes, dict) else None
    if not isinstance(title, str) or any(kind.endswith(ending) for ending in _PACKED):
        raise RequestError(f"{reference} has no file for each blob: {kind[:80]}", hint=_LATER, param="model")
    path, digest, size = PurePosixPath(title), layer.get("digest"), layer.get("size")
    parts = title.split("/")
    if path.is_absolute() or not 0 < len(parts) <= 4 or any(not _is_file_name(part) for part in parts):
        raise ModelError(f"{reference} has a file that would lie outside the model: {title[:80]!r}")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ModelError(f"{reference}: {title} has no sha256 digest")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST_FILE:
        raise ModelError(f"{reference}: {title} has an impossible size")
    return _Blob(title, digest, size)


def _is_file_name(part: str) -> bool:
    """No way up, nothing hidden (our own record is), nothing a terminal or another system would choke on."""
    return bool(part) and len(part) <= 200 and part.isprintable() and part[0] not in ".~" and "\\" not in part


def _download(repository: Repository, blob: _Blob, target: Path) -> Iterator[int]:
    """Write a blob to its file; gives its bytes so far, now and then. Raises ModelError when the digest is another."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, done, told = hashlib.sha256(), 0, 0.0
    with target.open("xb") as file:
        for data in repository.blob(blob.digest, blob.size):
            digest.update(data)
            try:
                file.write(data)
            except OSError as error:
                raise NoRoomError(
                    f"{target.name} cannot be written: {error.strerror}", hint="delete a model"
                ) from error
            done += len(data)
            if time.monotonic() - told >= REPORT_S:
                told = time.monotonic()
                yield done
    if f"sha256:{digest.hexdigest()}" != blob.digest:
        raise ModelError(f"{blob.path} did not arrive as its digest says", hint="pull it again")
    yield done


def _record(folder: Path, source: str, digest: str) -> None:
    (folder / RECORD).write_text(json.dumps({"source": source, "digest": digest, "created": int(time.time())}))


def _check_usable(name: str, folder: Path) -> None:
    model = inspect(name, folder, builtin=False)
    if model.broken:
        raise ModelError(f"{name} cannot be used: {model.broken}", hint=_LATER)


def _link_or_copy(source: Path, target: Path) -> None:
    """Weights are linked: they are large, and nobody edits them in place. Anything else is copied."""
    if source.suffix == ".safetensors":
        try:
            target.hardlink_to(source.resolve())
            return
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(source, target)
