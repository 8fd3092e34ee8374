"""A client for one repository of an OCI registry (Distribution specification v2): manifests and blobs, read only.

Access as registries have it: none needed; an anonymous token from the realm that a 401 names; the same with the owner's
account; HTTP Basic; or a bearer token that the owner set. The owner's secret goes to the host it was set for and to the
realm that this very host names over TLS, to nobody else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from typing import Any
from urllib.parse import urlencode, urlsplit

from agent.errors import ModelError, NotFoundError, RequestError, UnavailableError
from agent.models.pull_control import Limits, Stop
from agent.models.pull_http import Http, Response, patiently
from agent.models.pull_manifest import MANIFESTS, Artifact, RemoteFile, blob_of, files_of
from agent.models.pull_name import Reference
from agent.models.pull_signature import MEDIA_TYPE, SIGNATURE_BYTES, SigningKey, tag_of

LARGEST_MANIFEST = 4 * 1024 * 1024
_LARGEST_TOKEN = 64 * 1024
_ENDPOINTS = {"docker.io": "registry-1.docker.io"}  # the one registry that lives elsewhere than it is called
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Repository:
    """One repository. Safe for the threads that fetch its blobs."""

    def __init__(
        self,
        http: Http,
        reference: Reference,
        stop: Stop,
        limits: Limits,
        *,
        secret: str = "",
        signing_key: SigningKey | None = None,
    ) -> None:
        """``secret`` is user:password, or a token."""
        self._http, self._reference, self._stop, self._limits = http, reference, stop, limits
        self._secret, self._signing_key = secret, signing_key
        host = _ENDPOINTS.get(reference.host, reference.host)
        self._base = f"{http.base(host)}/v2/{reference.repository}/"
        self._lock = threading.Lock()
        self._authorization = ""  # a token that the realm gave, once it did

    def artifact(self) -> Artifact:
        """What the manifest names. Raises NotFoundError, RequestError, ModelError, UnavailableError, Stopped."""
        data, digest = self._manifest(self._reference.version)
        if self._signing_key is not None:
            self._check_signature(self._signing_key, data, digest)
        source = str(self._reference)
        files = files_of(_object(data, source), source)
        return Artifact(files, source if self._reference.digest else f"{source}@{digest}", digest)

    def open(self, file: RemoteFile, offset: int) -> Response:
        """The blob from this byte on, if the registry knows ranges. Raises as ``artifact``, and BusyError."""
        return self._get(f"blobs/{file.digest}", {"Range": f"bytes={offset}-"} if offset else {})

    def _manifest(self, version: str) -> tuple[bytes, str]:
        """The bytes and their digest."""

        def ask() -> tuple[bytes, str]:
            with self._get(f"manifests/{version}", {"Accept": ", ".join(MANIFESTS)}) as response:
                return response.body(LARGEST_MANIFEST, self._stop), response.header("Docker-Content-Digest")

        data, told = patiently(ask, self._stop, self._limits)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        wanted = version if version.startswith("sha256:") else told
        if wanted.startswith("sha256:") and wanted != digest:
            raise ModelError(f"{self._reference}: the manifest did not arrive as its digest says", hint="pull it again")
        return data, digest

    def _check_signature(self, key: SigningKey, data: bytes, digest: str) -> None:
        tag = tag_of(digest)
        try:
            manifest = _object(self._manifest(tag)[0], tag)
        except NotFoundError as error:
            raise ModelError(
                f"{self._reference} is not signed, and this device takes only signed models",
                hint=f"its registry has no {tag}; see models.signing_key",
            ) from error
        layers = manifest.get("layers")
        layer = layers[0] if isinstance(layers, list) and len(layers) == 1 and isinstance(layers[0], dict) else {}
        blob, size = blob_of(layer, tag)
        if layer.get("mediaType") != MEDIA_TYPE or size != SIGNATURE_BYTES:
            raise ModelError(f"{tag} holds no ed25519 signature")

        def ask() -> bytes:
            with self.open(RemoteFile(tag, blob, size), 0) as response:
                return response.body(SIGNATURE_BYTES, self._stop)

        if not key.signed(data, patiently(ask, self._stop, self._limits)):
            raise ModelError(
                f"{self._reference} is not signed by this device's signing key",
                hint="models.signing_key is another one, or the model was changed on its way",
            )

    def _get(self, path: str, headers: dict[str, str]) -> Response:
        """GET below the repository, with a login where the registry wants one."""
        for again in (False, True):
            authorization = self._authorization or self._bearer()
            sent = {**headers, "Authorization": authorization} if authorization else headers
            response = self._http.get(self._base + path, self._stop, sent)
            if response.status != 401 or again:
                break
            challenge = response.header("WWW-Authenticate")
            response.close()
            self._log_in(challenge, authorization)
        if response.status in (200, 206, 416):
            return response
        response.close()
        host = self._reference.host
        if response.status == 404:
            asked = str(self._reference).removeprefix(f"{host}/")
            raise NotFoundError(
                f"{host} has no {asked}", hint="check the name and, behind the colon, the tag", param="model"
            )
        if response.status in (401, 403):
            raise RequestError(
                f"{host} does not give {self._reference} to {'this account' if self._secret else 'strangers'}",
                hint=f'set "{host}" = "user:password" or a token under [models.tokens] in the configuration',
                param="model",
            )
        raise UnavailableError(f"{host} answered {response.status} for {self._reference}", retry_after=30)

    def _bearer(self) -> str:
        return f"Bearer {self._secret}" if self._secret and ":" not in self._secret else ""

    def _log_in(self, challenge: str, refused: str) -> None:
        """Take what the challenge offers, unless another thread just did. Leaves a 401 to whoever asks again."""
        with self._lock:
            if self._authorization != refused and self._authorization:
                return
            kind, fields = challenge.partition(" ")[0].lower(), dict(_CHALLENGE.findall(challenge))
            account = "Basic " + base64.b64encode(self._secret.encode()).decode() if ":" in self._secret else ""
            if kind == "bearer" and fields.get("realm"):
                self._authorization = "Bearer " + self._fetch_token(fields, account)
            elif kind == "basic" and account:
                self._authorization = account

    def _fetch_token(self, fields: dict[str, str], account: str) -> str:
        """As the specification's token authentication has it: anonymous, or for the owner's account."""
        query = {"scope": f"repository:{self._reference.repository}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        url = f"{fields['realm']}{'&' if '?' in fields['realm'] else '?'}{urlencode(query)}"

        def ask() -> bytes:
            headers = {"Authorization": account} if account else {}
            with self._http.get(url, self._stop, headers, led_by=self._base) as response:
                return response.body(_LARGEST_TOKEN, self._stop) if response.status == 200 else b""

        data = patiently(ask, self._stop, self._limits)
        try:
            body = json.loads(data)
            token = body.get("token") or body.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            host = urlsplit(fields["realm"]).hostname
            if account:
                raise RequestError(f"{host} does not know this account", hint="see [models.tokens]", param="model")
            raise UnavailableError(f"{host} gave no token", retry_after=30)
        return token


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: the manifest is not JSON") from error
    if not isinstance(manifest, dict):
        raise ModelError(f"{what}: the manifest is not an object")
    return manifest
