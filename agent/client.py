"""A small client of the device's own API, for the command line."""

from __future__ import annotations

import http.client
import json
from collections.abc import Generator, Mapping
from typing import Any


class ClientError(Exception):
    """The device did not answer, or answered with an error. ``status`` is None where nothing answered."""

    def __init__(self, message: str, hint: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


class Client:
    """Calls one port of a device."""

    def __init__(self, host: str, port: int, key: str | None = None, timeout_s: float = 60.0) -> None:
        # A server bound to every address is reached over the loopback one.
        self.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.port = port
        self._key = key
        self._timeout_s = timeout_s

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def get(self, path: str) -> dict[str, Any]:
        return self._json("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        return self._json("POST", path, body)

    def delete(self, path: str) -> dict[str, Any]:
        return self._json("DELETE", path, None)

    def stream(self, path: str, body: Mapping[str, object]) -> Generator[dict[str, Any], None, None]:
        """The events of a streamed answer. Closing the iterator closes the connection, which ends the answer."""
        connection, response = self._send("POST", path, {**body, "stream": True})
        try:
            for line in response:
                text = line.decode().strip()
                if text == "data: [DONE]":
                    return
                if text.startswith("data: "):
                    event = json.loads(text.removeprefix("data: "))
                    if "error" in event:
                        raise _refused(response.status, event)
                    yield event
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"The connection to {self.url} broke: {error}") from error
        finally:
            response.close()
            connection.close()

    def _json(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        connection, response = self._send(method, path, body)
        try:
            document: dict[str, Any] = json.loads(response.read())
            return document
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ClientError(f"{self.url}{path} did not answer with JSON: {error}") from error
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self._timeout_s)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status < 400:
                return connection, response
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ClientError(f"Nothing answers at {self.url}", "`thox run` starts the device.") from error
        connection.close()
        try:
            document = json.loads(text)
        except ValueError:
            document = {}
        raise _refused(response.status, document)


def _refused(status: int, document: Mapping[str, Any]) -> ClientError:
    error = document.get("error") or {}
    return ClientError(str(error.get("message", f"HTTP {status}")), str(error.get("hint") or ""), status)
