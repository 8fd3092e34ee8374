"""A small OCI registry over real HTTP: manifests, blobs, ranges, tokens, redirects, and every way to misbehave."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from faulty_server import FaultyServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class FakeRegistry(FaultyServer):
    """``manifests`` are by repository:tag or repository@digest, ``blobs`` by digest."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.token = ""  # wanted from every client
        self.expires_at = 0  # from this request on the token is another one
        self.tokens_for = ""  # user:password that gets one; empty: everybody
        self.account = ""  # user:password, wanted as HTTP Basic
        self.realm = ""  # of tokens, where it is another
        self.redirect = ""  # of blobs: where to
        self.digest_header = ""  # told with every manifest

    def add(self, name: str, folder: Path, title: str = "org.opencontainers.image.title") -> dict[str, Any]:
        """Publish a folder; the manifest is returned, and may be changed and put again."""
        layers = []
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                layers.append(self.layer(file.relative_to(folder).as_posix(), file.read_bytes(), title))
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": layers}
        self.put(name, manifest)
        return manifest

    def layer(self, path: str, data: bytes, title: str = "org.opencontainers.image.title") -> dict[str, Any]:
        kind = "application/vnd.oci.image.layer.v1.raw"
        return {**self.blob(kind, data), "annotations": {title: path}}

    def blob(self, kind: str, data: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def put(self, name: str, manifest: object) -> str:
        """Publish a manifest under a tag and its digest, which is returned."""
        data = json.dumps(manifest).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[name] = self.manifests[f"{name.rpartition(':')[0]}@{digest}"] = data
        return digest

    def answer(self, call: BaseHTTPRequestHandler, path: str, headers: dict[str, str]) -> None:
        sent = headers.get("authorization", "")
        if path.startswith("/token"):
            good = not self.tokens_for or sent == _basic(self.tokens_for)
            self.send(call, 200 if good else 401, json.dumps({"token": self.token} if good else {}).encode())
        elif path.startswith("/elsewhere/"):
            self.send_file(call, self.blobs[path.rsplit("/", 1)[1]], headers)
        elif self.token and sent != f"Bearer {self.token}":
            realm = self.realm or f"http://{self.host}/token"
            self.send(call, 401, b"{}", {"WWW-Authenticate": f'Bearer realm="{realm}",service="here"'})
        elif 0 < self.expires_at <= len(self.requests):
            self.expires_at, self.token = 0, self.token + "x"
            self.send(call, 401, b"{}", {"WWW-Authenticate": f'Bearer realm="http://{self.host}/token"'})
        elif self.account and sent != _basic(self.account):
            self.send(call, 401, b"{}", {"WWW-Authenticate": 'Basic realm="here"'})
        elif "/manifests/" in path:
            repository, version = path.removeprefix("/v2/").split("/manifests/")
            mark = "@" if version.startswith("sha256:") else ":"
            data = self.manifests.get(f"{repository}{mark}{version}")
            told = {"Docker-Content-Digest": self.digest_header} if self.digest_header else {}
            self.send(call, 404 if data is None else 200, data or b"{}", told)
        elif self.redirect:
            self.send(call, 307, b"", {"Location": self.redirect + path.rsplit("/", 1)[1]})
        elif path.rsplit("/", 1)[1] in self.blobs:
            self.send_file(call, self.blobs[path.rsplit("/", 1)[1]], headers)
        else:
            self.send(call, 404, b"{}")


def _basic(account: str) -> str:
    return "Basic " + base64.b64encode(account.encode()).decode()
