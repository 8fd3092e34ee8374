"""Which files an OCI manifest stands for. Pure; nothing in a manifest is believed.

Four layouts are known, told apart layer by layer:

* one blob for each file, its path in ``org.opencontainers.image.title``, as ORAS writes it;
* the CNCF's ModelPack, its path in ``org.cncf.model.filepath``, raw or as a tar of the one file;
* the Ollama registry's: one GGUF, its template, parameters, system prompt and licences, all without names;
* Docker's model artifacts: one GGUF and its licences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from agent.errors import ModelError, RequestError

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
LARGEST_FILE = 1024**4
MOST_FILES = 4096
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
KNOWN_FORMS = "safetensors in Hugging Face layout, one blob for each file, or one GGUF"

_TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_ARCHIVES = re.compile(r"(tar|gzip|zstd)$")
_NAMED: dict[str, str] = {  # what has no title of its own; {} becomes -2, -3 ... where there are several
    "application/vnd.ollama.image.model": "model.gguf",
    "application/vnd.ollama.image.template": "ollama-template.txt",
    "application/vnd.ollama.image.system": "ollama-system.txt",
    "application/vnd.ollama.image.params": "ollama-params.json",
    "application/vnd.ollama.image.license": "LICENSE{}.txt",
    "application/vnd.docker.ai.gguf.v3": "model.gguf",
    "application/vnd.docker.ai.license": "LICENSE{}.txt",
}
_LEFT_OUT = ("application/vnd.ollama.image.messages", "application/vnd.ollama.image.projector")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a model, and the blob that it is. ``digest`` is sha256:hex, or git:hex for small files of the hub."""

    path: str  # in the model's folder, parts joined by /
    digest: str
    size: int  # bytes of the blob
    packed: bool = False  # the blob is a tar that holds the file
    remote: str = ""  # its path at the source, where that is another


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model at its source, resolved: what to fetch, and what to write down about it."""

    files: tuple[RemoteFile, ...]
    source: str  # for people: host/name:tag@digest
    digest: str  # of the manifest, or the commit


def files_of(manifest: dict[str, Any], reference: str) -> tuple[RemoteFile, ...]:
    """The files that a manifest names. Raises RequestError for forms we do not know, ModelError for nonsense."""
    kind = manifest.get("mediaType", MANIFESTS[0])
    layers = manifest.get("layers")
    if kind not in MANIFESTS or not isinstance(layers, list) or not layers:
        raise RequestError(
            f"{reference} is no model but {_shown(kind)}", hint=f"known are {KNOWN_FORMS}", param="model"
        )
    if len(layers) > MOST_FILES:
        raise ModelError(f"{reference} has {len(layers)} files, more than {MOST_FILES}")
    files: list[RemoteFile] = []
    for layer in layers:
        found = _file(layer if isinstance(layer, dict) else {}, reference, files)
        if found is not None:
            files.append(found)
    if not files:
        raise ModelError(f"{reference} has no files")
    check_together(files, reference)
    return tuple(files)


def check_together(files: Iterable[RemoteFile], reference: str) -> None:
    """Raises ModelError for files that cannot lie side by side, whatever the case of their names, or contradict."""
    sizes: dict[str, int] = {}
    paths: set[str] = set()
    folders: set[str] = set()
    for file in files:
        check_path(file.path, reference)
        path = file.path.casefold()
        if path in paths:
            raise ModelError(f"{reference} has {file.path} twice")
        paths.add(path)
        folders.update(str(folder) for folder in PurePosixPath(path).parents)
        if sizes.setdefault(file.digest, file.size) != file.size:
            raise ModelError(f"{reference}: {file.path} has two sizes, and should have one")
    if folders & paths:
        raise ModelError(f"{reference} has {min(folders & paths)} as a file and as a folder")


def check_path(path: str, reference: str) -> None:
    """Raises ModelError for a path that would leave the model's folder, or hide in it."""
    parts = path.split("/")
    if PurePosixPath(path).is_absolute() or not 0 < len(parts) <= 4 or not all(map(_is_file_name, parts)):
        raise ModelError(f"{reference} has a file that would lie outside the model: {_shown(path)}")


def blob_of(layer: dict[str, Any], what: str) -> tuple[str, int]:
    """Digest and size of a descriptor. Raises ModelError."""
    digest, size = layer.get("digest"), layer.get("size")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ModelError(f"{what} has no sha256 digest")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST_FILE:
        raise ModelError(f"{what} has an impossible size")
    return digest, size


def _file(layer: dict[str, Any], reference: str, others: Sequence[RemoteFile]) -> RemoteFile | None:
    kind, notes = str(layer.get("mediaType", "")), layer.get("annotations")
    if kind in _LEFT_OUT:
        return None
    if kind == "application/vnd.ollama.image.adapter":
        raise RequestError(
            f"{reference} is an adapter on top of another model",
            hint="pull a whole model, or an adapter as PEFT writes it",
            param="model",
        )
    if kind in _NAMED:
        before = sum(other.path.startswith("LICENSE") for other in others) if "{}" in _NAMED[kind] else 0
        path = _NAMED[kind].replace("{}", f"-{before + 1}" if before else "")
        return RemoteFile(path, *blob_of(layer, f"{reference}: {path}"))
    title = next((notes[key] for key in _TITLES if key in notes), None) if isinstance(notes, dict) else None
    packed = kind.startswith("application/vnd.cncf.model.") and kind.endswith(".tar")
    if not isinstance(title, str) or (_ARCHIVES.search(kind) and not packed):
        raise RequestError(
            f"{reference} has no file for each blob: {_shown(kind)}", hint=f"known are {KNOWN_FORMS}", param="model"
        )
    return RemoteFile(title, *blob_of(layer, f"{reference}: {title}"), packed)


def _is_file_name(part: str) -> bool:
    """No way up, nothing hidden (our own record is), nothing a terminal or another system would choke on."""
    return bool(part) and len(part.encode()) <= 200 and part.isprintable() and part[0] not in ".~" and "\\" not in part


def _shown(value: object) -> str:
    return repr(value)[:80]
