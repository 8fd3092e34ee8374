"""The Hugging Face hub's protocol, as far as a download sees it, over real HTTP.

Lists of files with LFS pointers; small files given at once; large ones by a redirect to a host for storage, with the
headers that tell beforehand what they are; gated repositories.
"""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from faulty_server import FaultyServer

_LARGE = (".safetensors", ".gguf")


class FakeStorage(FaultyServer):
    """Where large files lie. Its addresses are signed: it is given no authorization."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}

    def answer(self, call: BaseHTTPRequestHandler, path: str, headers: dict[str, str]) -> None:
        self.send_file(call, self.files[urlsplit(path).path.rsplit("/", 1)[1]], headers)


class FakeHub(FaultyServer):
    """``storage`` is another server. Repositories are put with their files, revision by revision."""

    def __init__(self, storage: FakeStorage) -> None:
        super().__init__()
        self.storage = storage
        self.revisions: dict[tuple[str, str], str] = {}  # (org/name, revision or commit) -> commit
        self.trees: dict[str, dict[str, bytes]] = {}  # commit -> files
        self.gated: set[str] = set()
        self.token = ""  # that opens gated ones
        self.blobs_known = True  # a mirror may list names alone
        self.wrong_id = ""  # the file whose object id in lists is another's
        self.other_etag = False  # files are not what the list says

    def put(self, repository: str, files: dict[str, bytes], revision: str = "main") -> str:
        """A commit; its id is returned."""
        told = json.dumps({path: hashlib.sha256(data).hexdigest() for path, data in files.items()})
        commit = hashlib.sha1(f"{repository} {revision} {told}".encode(), usedforsecurity=False).hexdigest()
        self.trees[commit] = files
        self.revisions[repository, revision] = self.revisions[repository, commit] = commit
        return commit

    def answer(self, call: BaseHTTPRequestHandler, path: str, headers: dict[str, str]) -> None:
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        listing = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if listing else parts[:2])
        commit = self.revisions.get((repository, parts[5] if listing else parts[3]))
        allowed = headers.get("authorization") == f"Bearer {self.token}"
        if repository in self.gated and not allowed and not listing:
            self.send(call, 401, b"{}", {"X-Error-Code": "GatedRepo"})
        elif not any(known == repository for known, _ in self.revisions):
            self.send(call, 401, b"{}", {"X-Error-Code": "RepoNotFound"})  # strangers do not learn what there is
        elif commit is None:
            self.send(call, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif listing:
            siblings = [self._sibling(name, data) for name, data in sorted(self.trees[commit].items())]
            self.send(call, 200, json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode())
        else:
            self._resolve(call, self.trees[commit], "/".join(parts[4:]), headers)

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        told: dict[str, object] = {"rfilename": name}
        if self.blobs_known:
            told |= {"size": len(data), "blobId": _git(b"another" if name == self.wrong_id else data)}
            if name.endswith(_LARGE):
                told["blobId"] = _git(b"the pointer's own")
                told["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return told

    def _resolve(
        self, call: BaseHTTPRequestHandler, tree: dict[str, bytes], name: str, headers: dict[str, str]
    ) -> None:
        data = tree[name]
        if not name.endswith(_LARGE):
            self.send_file(call, data, headers, {"ETag": f'"{_git(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        self.storage.files[digest] = data
        told = hashlib.sha256(b"another").hexdigest() if self.other_etag else digest
        address = f"http://{self.storage.host}/xet/{digest}?signature=abc"
        more = {"Location": address, "X-Linked-Etag": f'"{told}"', "X-Linked-Size": str(len(data))}
        self.send(call, 302, b"", more)


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
