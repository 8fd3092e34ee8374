"""A small client of the device's own API, for the command line."""

from __future__ import annotations

import http.client
import json
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

_NO_KEY = "`thox key create NAME` makes a key; give it as --key or THOX_API_KEY"


class ClientError(Exception):
    """The device did not answer, or answered with an error. ``status`` is None where nothing answered; ``loading`` says
    how far the model is that was asked for, where it is on its way."""

    def __init__(
        self, message: str, hint: str = "", status: int | None = None, loading: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status
        self.loading = loading


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

    def delete(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        return self._json("DELETE", path, body)

    def stream(self, path: str, body: Mapping[str, object]) -> Generator[dict[str, Any], None, None]:
        """The events of a streamed answer. Closing the iterator closes the connection, which ends the answer."""
        with closing(self._texts(path, {**body, "stream": True}, "text/event-stream")) as texts:
            for text in texts:
                if text == "data: [DONE]":
                    return
                if text.startswith("data: "):
                    yield _checked(json.loads(text.removeprefix("data: ")))

    def events(self, path: str) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """Name and data of each server-sent event, until the device ends the stream."""
        name = ""
        with closing(self._texts(path, None, "text/event-stream")) as texts:
            for text in texts:
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    yield name, json.loads(text.removeprefix("data: "))

    def lines(self, path: str, body: Mapping[str, object]) -> Generator[dict[str, Any], None, None]:
        """An answer as lines of JSON."""
        with closing(self._texts(path, body, "application/x-ndjson")) as texts:
            for text in texts:
                yield _checked(json.loads(text))

    def _texts(self, path: str, body: Mapping[str, object] | None, kind: str) -> Generator[str, None, None]:
        """Lines of an answer to a POST, or without a body to a GET."""
        connection, response = self._send("GET" if body is None else "POST", path, body, kind)
        try:
            for line in response:
                yield line.decode().strip()
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
        self, method: str, path: str, body: Mapping[str, object] | None, accept: str = ""
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self._timeout_s)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if accept:
            headers["Accept"] = accept
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


def _checked(event: dict[str, Any]) -> dict[str, Any]:
    """Raises ClientError for an error that came after the status line."""
    if "error" in event:
        raise _refused(int(event["error"].get("code", 500)), event)
    return event


def _refused(status: int, document: Mapping[str, Any]) -> ClientError:
    error = document.get("error") or {}
    hint = error.get("hint") or (_NO_KEY if status == 401 else "")
    loading = error.get("loading")
    return ClientError(
        str(error.get("message", f"HTTP {status}")), str(hint), status, loading if isinstance(loading, dict) else None
    )
