"""A client for one repository of an OCI registry (Distribution specification v2): manifests and blobs, read only.

HTTPS always, plain HTTP to this machine itself alone. Redirects are followed a few times, since registries keep blobs
elsewhere; the token never goes along to another host, and a redirect cannot lead from HTTPS to HTTP.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from agent.errors import ModelError, NotFoundError, RequestError, UnavailableError

TIMEOUT_S = 30.0  # of a connection that says nothing
LARGEST_MANIFEST = 4 * 1024 * 1024
CHUNK = 1024 * 1024
_MOST_HOPS = 5
_MOST_TRIES = 4  # of a blob whose connection breaks; each goes on where the last one ended

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Reference:
    """host[:port]/repository:tag."""

    host: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}"

    @staticmethod
    def parse(name: str, registry: str) -> Reference:
        """A name as people write it; ``registry`` is for names without a host. Raises RequestError."""
        host, slash, rest = name.partition("/")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            host, rest = registry, name
        if not host:
            raise RequestError(
                f"{name} names no registry, and this device has no default one",
                hint='write host/name, or set registry = "host" under [models] in the configuration',
                param="model",
            )
        repository, _, tag = rest.partition(":")
        if not _REPOSITORY.fullmatch(repository) or (tag and not _TAG.fullmatch(tag)):
            raise RequestError(
                f"{rest} is not a name that a registry can have",
                hint="lower-case letters, digits and . _ - in parts joined by /, then :tag",
                param="model",
            )
        return Reference(host, repository, tag or "latest")


class Repository:
    """One repository, over one connection at a time. Not for several threads."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._token = ""

    def manifest(self) -> tuple[dict[str, Any], str]:
        """The manifest and its digest. Raises NotFoundError, ModelError, UnavailableError."""
        with self._open(f"manifests/{self._reference.tag}", {"Accept": ", ".join(MANIFESTS)}) as response:
            data = _read(response, LARGEST_MANIFEST + 1)
        if len(data) > LARGEST_MANIFEST:
            raise ModelError(f"{self._reference}: the manifest is larger than {LARGEST_MANIFEST} bytes")
        try:
            manifest = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self._reference}: the manifest is not JSON") from error
        if not isinstance(manifest, dict):
            raise ModelError(f"{self._reference}: the manifest is not an object")
        return manifest, "sha256:" + hashlib.sha256(data).hexdigest()

    def blob(self, digest: str, size: int) -> Iterator[bytes]:
        """The bytes of a blob, ``size`` of them. The caller checks the digest. Raises UnavailableError, ModelError."""
        done = 0
        for attempt in range(_MOST_TRIES):
            headers = {"Range": f"bytes={done}-"} if done else {}
            try:
                with self._open(f"blobs/{digest}", headers) as response:
                    if done and response.status != 206:
                        _skip(response, done)  # the registry knows no ranges
                    while done < size:
                        data = response.read(min(CHUNK, size - done))
                        if not data:
                            break
                        done += len(data)
                        yield data
                    if done == size and response.read(1):
                        raise ModelError(f"{self._reference}: {digest[:19]} is longer than its manifest says")
            except (OSError, http.client.HTTPException) as error:
                if attempt + 1 == _MOST_TRIES:
                    raise _broken(self._reference.host, error) from error
            if done == size:
                return
        raise UnavailableError(
            f"{self._reference.host} ended {digest[:19]} after {done} of {size} bytes", retry_after=30
        )

    def _open(self, path: str, headers: dict[str, str]) -> _Exchange:
        """GET below the repository, with a token where the registry wants one."""
        host = self._reference.host
        base = f"{'http' if is_loopback(host) else 'https'}://{host}/v2/{self._reference.repository}/{path}"
        for _ in range(2):
            if self._token:
                headers = {**headers, "Authorization": f"Bearer {self._token}"}
            exchange = _get(base, headers)
            if exchange.status != 401 or self._token:
                break
            challenge = exchange.header("WWW-Authenticate")
            exchange.close()
            self._token = self._fetch_token(challenge)
        if exchange.status in (200, 206):
            return exchange
        exchange.close()
        if exchange.status == 404:
            raise NotFoundError(f"{host} has no {self._reference.repository}:{self._reference.tag}", param="model")
        if exchange.status in (401, 403):
            raise RequestError(f"{host} does not give {self._reference} to strangers", param="model")
        raise UnavailableError(f"{host} answered {exchange.status} for {self._reference}", retry_after=30)

    def _fetch_token(self, challenge: str) -> str:
        """An anonymous token, as the specification's token authentication has it."""
        fields = dict(_CHALLENGE.findall(challenge))
        realm = fields.get("realm", "")
        if not challenge.lower().startswith("bearer ") or not realm:
            raise RequestError(f"{self._reference.host} wants a login, which this version cannot do", param="model")
        query = {"scope": f"repository:{self._reference.repository}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        with _get(f"{realm}?{urlencode(query)}", {}) as response:
            data = _read(response, CHUNK)
        try:
            body = json.loads(data)
            token = body.get("token") or body.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise UnavailableError(f"{urlsplit(realm).hostname} gave no token", retry_after=30)
        return token


class _Exchange:
    """A response with the connection that it came over."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response
        self.status = response.status

    def read(self, count: int) -> bytes:
        return self._response.read(count)

    def header(self, name: str) -> str:
        return self._response.getheader(name) or ""

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_loopback(host: str) -> bool:
    """Whether host[:port] is this machine itself, by its literal name: a name service has no say in it."""
    bare = re.sub(r":\d*$", "", host) if host.startswith("[") or host.count(":") == 1 else host
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _get(url: str, headers: dict[str, str]) -> _Exchange:
    """GET with redirects. Raises UnavailableError when nobody answers, ModelError for a redirect that is not safe."""
    first = parts = _parts(url)
    for _ in range(_MOST_HOPS):
        plain = parts.scheme == "http" and is_loopback(parts.netloc) and is_loopback(first.netloc)
        if not parts.hostname or parts.username or not (plain or parts.scheme == "https"):
            raise ModelError(f"{first.netloc} leads to {parts.scheme}://{parts.netloc}, which is not safe")
        exchange = _exchange(parts.netloc, parts._replace(scheme="", netloc="", fragment="").geturl(), plain, headers)
        if exchange.status not in (301, 302, 303, 307, 308):
            return exchange
        to = exchange.header("Location")
        exchange.close()
        before, parts = parts, _parts(to, base=parts)
        if parts.netloc != before.netloc:
            headers = {name: value for name, value in headers.items() if name != "Authorization"}
    raise ModelError(f"{first.netloc} leads in circles")


def _parts(url: str, base: SplitResult | None = None) -> SplitResult:
    try:
        return urlsplit(url if base is None else urljoin(base.geturl(), url))
    except ValueError as error:  # brackets that hold no address
        raise ModelError(f"the registry leads to {url[:80]!r}, which is no address") from error


def _exchange(host: str, path: str, plain: bool, headers: dict[str, str]) -> _Exchange:
    connection: http.client.HTTPConnection
    try:
        if plain:
            connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(host, timeout=TIMEOUT_S, context=ssl.create_default_context())
    except (http.client.HTTPException, ValueError) as error:  # a port that is none
        raise _broken(host, error) from error
    try:
        connection.request("GET", path or "/", headers={"User-Agent": "thox-agent", **headers})
        return _Exchange(connection, connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a path that is none
        connection.close()
        raise _broken(host, error) from error


def _read(response: _Exchange, most: int) -> bytes:
    data = b""
    try:
        while len(data) < most and (more := response.read(most - len(data))):
            data += more
    except (OSError, http.client.HTTPException) as error:
        raise _broken("the registry", error) from error
    return data


def _skip(response: _Exchange, count: int) -> None:
    while count and (data := response.read(min(CHUNK, count))):
        count -= len(data)


def _broken(host: str, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"{host} cannot be reached: {error or type(error).__name__}",
        retry_after=30,
        hint="check the registry's name and the device's network",
    )
