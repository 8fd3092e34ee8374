"""What the commands say to a person when something is wrong."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def complain(message: str, hint: str = "") -> None:
    """An error and what to do about it, on standard error."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("thox: ", "bold red"), message))
    if hint:
        console.print(Text(f"      {hint}"))
