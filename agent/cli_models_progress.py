"""Pulls and loads, with a bar that says how far they are."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TaskID, TaskProgressColumn
from rich.progress import TimeRemainingColumn as Remaining
from rich.progress import TransferSpeedColumn as Speed

from agent.cli_print import complain
from agent.client import Client, ClientError

_LOOK_S = 1.0  # looking counts against the key's limit of requests a minute
_SHOWN = 40  # characters of a file's name
_SMALL = 16 * 1024 * 1024  # a file below this has no bar of its own: it is gone before it is read


def pull(client: Client, model: str, name: str | None, console: Console) -> str:
    """Pull, and show a bar for the whole and one for each large file. The model's name on the device.

    Who interrupts it only stops watching, as its last line says.
    """
    body = {"model": model, **({"name": name} if name else {})}
    here = model
    columns = ("{task.description}", BarColumn(), DownloadColumn(binary_units=True), Speed(), Remaining())
    try:
        with _bars(*columns, console=console) as progress:
            whole = progress.add_task(escape(model), total=None)
            bars: dict[str, TaskID] = {}
            for step in client.lines("/v1/models/pull", body):
                here = str(step["model"])
                progress.update(whole, completed=step["completed"], total=step["total"] or None)
                for blob in step["blobs"]:
                    _advance(progress, bars, blob)
    except KeyboardInterrupt:
        complain(f"the pull of {here} goes on", f"`thox models cancel {here}` ends it; another pull watches it again")
        raise
    return here


def _bars(*columns: str | ProgressColumn, console: Console) -> Progress:
    """Gone when it is done, and not drawn at all where nobody sees it move."""
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _advance(progress: Progress, bars: dict[str, TaskID], blob: Mapping[str, Any]) -> None:
    path, completed, total = blob["path"], blob["completed"], blob["total"]
    if completed >= total:
        if path in bars:
            progress.remove_task(bars.pop(path))
    elif total >= _SMALL:
        if path not in bars:
            bars[path] = progress.add_task(f"  {escape(path[-_SHOWN:])}", total=total)
        progress.update(bars[path], completed=completed)


def load(client: Client, path: str, body: Mapping[str, object], console: Console) -> dict[str, Any]:
    """Load, and show how far it is. Raises ClientError with what the load failed of."""
    answers: queue.SimpleQueue[dict[str, Any] | ClientError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(client.post("/v1/models/load", body))
        except ClientError as error:
            answers.put(error)

    threading.Thread(target=ask, name="load", daemon=True).start()  # daemon: Ctrl-C leaves, and the load goes on
    with _bars("{task.description}", BarColumn(), TaskProgressColumn(), console=console) as progress:
        task = progress.add_task("", total=1.0)
        while True:
            try:
                answer = answers.get(timeout=_LOOK_S)
            except queue.Empty:
                at = client.get(path).get("loading")
                if at:
                    progress.update(task, completed=at["progress"], description=at["stage"])
                continue
            if isinstance(answer, ClientError):
                raise answer
            return answer
