"""Questions to a model that is still on its way into memory: asked again until it is there."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from agent.cli_access import LONGEST_LOAD_S
from agent.client import Client, ClientError

_ASK_AGAIN_S = 1.0  # each question counts against the key's limit of requests a minute


def stream_when_loaded(
    client: Client, path: str, body: Mapping[str, object], console: Console | None = None
) -> Generator[dict[str, Any], None, None]:
    """The events of a streamed answer. Raises ClientError as ``Client.stream``, for a load that takes too long, too.

    ``console`` shows how far the load is, where somebody watches it: standard error unless given.
    """
    watched, deadline = console or Console(stderr=True), time.monotonic() + LONGEST_LOAD_S
    while True:
        try:
            yield from client.stream(path, body)
            return
        except ClientError as error:
            if error.loading is None or time.monotonic() > deadline:
                raise
            stage, progress = error.loading["stage"], error.loading["progress"]
        with watched.status(Text(f"{body['model']} is being loaded ({progress:.0%}, {stage})", style="dim")):
            time.sleep(_ASK_AGAIN_S)
