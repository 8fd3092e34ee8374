"""A conversation at a terminal, against a device whose answers never end."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_server import ROOT, Running, until


class Terminal:
    """A program at the other end of a pseudo-terminal."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._fd, there = pty.openpty()
        # setsid makes it the controlling terminal, which then turns Ctrl-C into SIGINT.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command], stdin=there, stdout=there, stderr=there, env=environ, cwd=ROOT
        )
        os.close(there)
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, text: str, seconds: float = 20.0) -> str:
        """What the program wrote up to and including ``text``."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._fd], [], [], 0.1)[0]:
                self._seen += os.read(self._fd, 65536)
        before, found, self._seen = self._seen.partition(text.encode())
        return (before + found).decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._fd)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as running:
        yield running


def test_ctrl_c_stops_the_answer_and_not_the_conversation(server: Running) -> None:
    terminal = Terminal(
        [sys.executable, "-m", "agent", "chat"], {**server.environ, "PATH": os.environ["PATH"], "TERM": "dumb"}
    )
    try:
        terminal.expect("> ")
        terminal.type("count\n")
        said = terminal.expect("tick[2J tick")
        assert "\x1b[2J" not in said, "what a model writes must not clear the screen"
        terminal.type("\x03")
        terminal.expect("(stopped)")
        until(lambda: "stream ended" in server.trace())
        terminal.expect("> ")
        terminal.type("\x03")  # at the prompt it drops the line
        terminal.expect("> ")
        terminal.type("again\n")
        terminal.expect("tick")
        terminal.type("\x03")
        terminal.expect("> ")
        terminal.type("one\\\n")  # one message of two lines
        terminal.type("two\n")
        terminal.expect("tick")
        terminal.type("\x03")
        terminal.expect("> ")
        terminal.type("/exit\n")
        assert terminal.process.wait(10) == 0
        assert "count" in (server.state_dir / "chat.history").read_text()
    finally:
        terminal.close()
