"""Where the commands print, and what they say when something is wrong."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

_UNBOUNDED = 100_000  # columns


def output() -> Console:
    """Standard output. Lines are folded at a terminal's edge; in a pipe or a file they stay whole, for grep and awk."""
    console = Console()
    return console if console.is_terminal else Console(width=_UNBOUNDED)


def complain(message: str, hint: str = "") -> None:
    """An error and what to do about it, on standard error."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("thox: ", "bold red"), message))
    if hint:
        console.print(Text(f"      {hint}"))
