"""Models of the Hugging Face hub, or of a mirror that speaks its protocol.

The list of files comes from ``/api/models/<org/name>/revision/<revision>?blobs=true``, each file from
``/<org/name>/resolve/<commit>/<file>``, which leads on to another host for large ones. Large files (LFS) have their
sha256 in the list, small ones git's own digest; where a mirror's list has neither, the headers ``X-Linked-Etag`` and
``X-Linked-Size`` of the file do. Every file is asked for by commit, so that all of them are of one moment.

The hub's own client library is not used: it brings a cache of its own, a further HTTP client and telemetry.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from agent.errors import ModelError, NotFoundError, RequestError, UnavailableError
from agent.models.pull_control import Limits, Stop
from agent.models.pull_http import Http, Response, patiently
from agent.models.pull_hub_choice import choose, known_quantisations
from agent.models.pull_manifest import LARGEST_FILE, MOST_FILES, Artifact, RemoteFile, check_together
from agent.models.pull_name import HubName

LARGEST_LIST = 32 * 1024 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


class HubModel:
    """One model of the hub. Safe for the threads that fetch its files."""

    def __init__(self, http: Http, hub: str, name: HubName, stop: Stop, limits: Limits, *, token: str = "") -> None:
        """``hub`` is host[:port][/path]."""
        self._http, self._name, self._stop, self._limits = http, name, stop, limits
        self._base = http.base(hub.rstrip("/"))
        self._host = hub.partition("/")[0]
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._commit = ""

    def artifact(self) -> Artifact:
        """The files of the model. Raises NotFoundError, RequestError, ModelError, UnavailableError, Stopped."""
        wanted, listing = self._name.wanted, self._list(self._name.revision or "main")
        paths = [str(each.get("rfilename")) for each in _siblings(listing)]
        chosen = choose(paths, wanted)
        if not chosen and wanted and not self._name.revision:
            quantisations = known_quantisations(paths)
            try:  # what is neither a file nor a quantisation may be a branch or a tag
                listing = self._list(wanted)
            except NotFoundError as error:
                has = f"it has {', '.join(quantisations)}" if quantisations else "it has no GGUF files"
                raise NotFoundError(f"{self._name} is not on the hub", hint=has, param="model") from error
            paths = [str(each.get("rfilename")) for each in _siblings(listing)]
            chosen = choose(paths, "")
        if not chosen:
            raise RequestError(
                f"{self._name} has no files that a model can be made of",
                hint="known are safetensors with config.json and tokenizer.json, one GGUF, or PEFT's adapters",
                param="model",
            )
        commit = listing.get("sha")
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise ModelError(f"{self._host} names no commit for {self._name}")
        self._commit = commit
        files = []
        for each in _siblings(listing):
            path = each.get("rfilename")
            if isinstance(path, str) and path in chosen:
                files.append(self._described(each, path) or self._asked(path))
        check_together(files, str(self._name))
        return Artifact(tuple(files), f"hf.co/{self._name.repository}@{commit}", commit)

    def open(self, file: RemoteFile, offset: int) -> Response:
        """The file from this byte on, if the host knows ranges. Raises as ``artifact``, and BusyError."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self._get(self._address(file.remote or file.path), headers)
        etag = _digest(response.first.get("X-Linked-Etag", ""))
        if etag and etag != file.digest:
            response.close()
            raise ModelError(f"{self._name}: {file.path} is another file than the list says", hint="pull it again")
        return response

    def _list(self, revision: str) -> dict[str, Any]:
        url = f"/api/models/{self._name.repository}/revision/{quote(revision, safe='')}?blobs=true"

        def ask() -> bytes:
            with self._get(url, {}) as response:
                return response.body(LARGEST_LIST, self._stop)

        try:
            listing = json.loads(patiently(ask, self._stop, self._limits))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self._host} gave no list of {self._name}") from error
        if not isinstance(listing, dict) or len(_siblings(listing)) > MOST_FILES:
            raise ModelError(f"{self._host} gave no list of {self._name} that makes sense")
        return listing

    def _described(self, sibling: dict[str, Any], path: str) -> RemoteFile | None:
        """The file as the list has it; None where the list leaves out what has to be known."""
        lfs = sibling.get("lfs")
        if isinstance(lfs, dict):
            digest, size = _digest(str(lfs.get("sha256") or lfs.get("oid") or "")), lfs.get("size")
        else:
            digest, size = _digest(str(sibling.get("blobId") or "")), sibling.get("size")
        if not digest or isinstance(size, bool) or not isinstance(size, int):
            return None
        return _file(path, digest, size, self._name)

    def _asked(self, path: str) -> RemoteFile:
        """The file as its own headers have it."""

        def ask() -> RemoteFile:
            with self._get(self._address(path), {}, "HEAD") as response:
                etag = response.header("X-Linked-Etag") or response.header("ETag")
                size = response.header("X-Linked-Size") or response.header("Content-Length")
                digest = _digest(etag)
                if not digest or not size.isdecimal() or len(size) > 15:
                    raise ModelError(f"{self._host} tells no size or digest of {path}")
                return _file(path, digest, int(size), self._name)

        return patiently(ask, self._stop, self._limits)

    def _address(self, path: str) -> str:
        return f"/{self._name.repository}/resolve/{self._commit}/{quote(path)}"

    def _get(self, path: str, headers: dict[str, str], method: str = "GET") -> Response:
        response = self._http.get(self._base + path, self._stop, {**headers, **self._headers}, method=method)
        if response.status in (200, 206, 416) or (method == "HEAD" and 300 <= response.status < 400):
            return response
        code = response.header("X-Error-Code")
        response.close()
        if response.status in (401, 403):
            raise RequestError(
                f"{self._name} is gated" if code == "GatedRepo" else f"{self._name} is not there, or not for strangers",
                hint=f'accept its terms on {self._host}, and set "{self._host}" = "token" under [models.tokens]',
                param="model",
            )
        if response.status == 404:
            raise NotFoundError(f"{self._host} has no {self._name}", param="model")
        raise UnavailableError(f"{self._host} answered {response.status} for {self._name}", retry_after=30)


def _siblings(listing: dict[str, Any]) -> list[dict[str, Any]]:
    siblings = listing.get("siblings")
    return [each for each in siblings if isinstance(each, dict)] if isinstance(siblings, list) else []


def _digest(etag: str) -> str:
    """sha256:hex or git:hex of an entity tag or an object id; empty for others."""
    bare = etag.removeprefix("W/").strip('"')
    if re.fullmatch(r"[0-9a-f]{64}", bare):
        return f"sha256:{bare}"
    return f"git:{bare}" if re.fullmatch(r"[0-9a-f]{40}", bare) else ""


def _file(path: str, digest: str, size: int, name: HubName) -> RemoteFile:
    if not 0 <= size <= LARGEST_FILE:
        raise ModelError(f"{name}: {path} has an impossible size")
    # A model's GGUF lies at its root, whatever folder the repository sorts it into.
    here = path.rpartition("/")[2] if path.endswith(".gguf") else path
    return RemoteFile(here, digest, size, remote=path if here != path else "")
