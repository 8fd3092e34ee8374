"""Where the commands print, and what they say when something is wrong."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 100_000  # columns


def output() -> Console:
    """Standard output. Lines are folded at a terminal's edge; in a pipe or a file they stay whole, for grep and awk."""
    console = Console()
    return console if console.is_terminal else Console(width=_UNBOUNDED)


def print_table(table: Table, console: Console) -> None:
    """A table; in a pipe without the spaces that fill its last column."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def print_records(table: Table, console: Console) -> None:
    """A table; on a terminal that is too narrow for it, each row as a paragraph under its first cell."""
    if not console.is_terminal or Console(width=_UNBOUNDED).measure(table).maximum <= console.width:
        print_table(table, console)
        return
    name, *others = (list(column.cells) for column in table.columns)
    titles = [str(column.header) for column in table.columns[1:]]
    for row, title in enumerate(name):
        console.print(title, style="bold")
        record = Table.grid(padding=(0, 2, 0, 0))
        for head, cells in zip(titles, others, strict=True):
            record.add_row(Text(f"  {head}", style="dim"), cells[row])
        console.print(record)


def complain(message: str, hint: str = "") -> None:
    """An error and what to do about it, on standard error."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("thox: ", "bold red"), message))
    if hint:
        console.print(Text(f"      {hint}"))
