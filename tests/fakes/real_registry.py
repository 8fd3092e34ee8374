"""The registry that everybody runs (CNCF Distribution, Debian's docker-registry), as a process of the test's own."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pytest
from free_ports import two_free_ports
from private_ca import PrivateCa

_BINARY = "docker-registry"
_START_S = 20.0


class RealRegistry:
    """A context manager. ``account`` and ``bcrypt``: who may use it, and the hash of the password."""

    def __init__(self, folder: Path, ca: PrivateCa | None = None, account: str = "", bcrypt: str = "") -> None:
        binary = shutil.which(_BINARY)
        if binary is None and os.environ.get("CI"):
            pytest.fail(f"{_BINARY} is missing: apt-get install {_BINARY}")
        if binary is None:
            pytest.skip(f"{_BINARY} is not installed: apt-get install {_BINARY}")
        self.port = two_free_ports()[0]
        self.host = f"127.0.0.1:{self.port}"
        self._account = account
        self._tls = ssl.create_default_context(cafile=str(ca.ca_file)) if ca else None
        folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        }
        tls = {"tls": {"certificate": str(ca.certificate), "key": str(ca.key)}} if ca else {}
        settings["http"] = {"addr": self.host, **tls}
        if account:
            (folder / "htpasswd").write_text(f"{account.partition(':')[0]}:{bcrypt}\n")
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
        self._log = folder / "log"
        self._command = (binary, "serve", str(folder / "config.yml"))

    def __enter__(self) -> RealRegistry:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                status = self._ask("GET", "/v2/")[0]
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.02)
            else:
                assert status == 200
                return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(10)

    def push(self, repository: str, tag: str, files: dict[str, bytes], kinds: dict[str, str] | None = None) -> str:
        """Publish files by their names, as ORAS does; the manifest's digest."""
        layers = []
        for name, data in files.items():
            kind = (kinds or {}).get(name, "application/octet-stream")
            blob = self.blob(repository, data, kind)
            layers.append(blob if kinds and name in kinds else {**blob, "annotations": _title(name)})
        return self.manifest(repository, tag, layers)

    def blob(self, repository: str, data: bytes, kind: str = "application/octet-stream") -> dict[str, object]:
        """Upload a blob; its descriptor."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        status, headers, _ = self._ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert status == 202
        location = headers["location"].partition(self.host)[2] or headers["location"]
        status, _, body = self._ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", data)
        assert status == 201, body
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def manifest(self, repository: str, tag: str, layers: list[dict[str, object]]) -> str:
        """Publish a manifest; its digest, as the registry tells it."""
        kind = "application/vnd.oci.image.manifest.v1+json"
        config = self.blob(repository, b"{}", "application/vnd.oci.image.config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
        data = json.dumps(manifest).encode()
        status, headers, body = self._ask("PUT", f"/v2/{repository}/manifests/{tag}", data, kind)
        assert status == 201, body
        return headers["docker-content-digest"]

    def manifest_bytes(self, repository: str, digest: str) -> bytes:
        status, _, body = self._ask("GET", f"/v2/{repository}/manifests/{digest}")
        assert status == 200
        return body

    def _ask(
        self, method: str, path: str, data: bytes | None = None, kind: str = "application/octet-stream"
    ) -> tuple[int, dict[str, str], bytes]:
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self.host, timeout=10, context=self._tls)
        else:
            connection = http.client.HTTPConnection(self.host, timeout=10)
        headers = {"Content-Type": kind, "Accept": "application/vnd.oci.image.manifest.v1+json"}
        if self._account:
            headers["Authorization"] = "Basic " + base64.b64encode(self._account.encode()).decode()
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()


def _title(name: str) -> dict[str, str]:
    return {"org.opencontainers.image.title": name}
