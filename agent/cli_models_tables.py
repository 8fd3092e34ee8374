"""Models as tables: the list, those in memory, one in detail, and what they take on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli_print import print_table

Shown = Mapping[str, Any]
_SAYS_NOTHING = "-"
_GAP = 2  # characters between two columns
_FOLDED = {"kind": 10}  # columns that may be folded, down to so many characters


def list_models(models: Iterable[Shown], console: Console) -> None:
    rows = [
        (
            model["id"] if model["id"] == model["root"] else f"{model['id']} -> {model['root']}",
            _kind(model),
            model["state"],
            count(model["parameters"]),
            model["quantisation"],
            size(model["bytes"]),
            model["context_length"] or _SAYS_NOTHING,
        )
        for model in models
    ]
    titles = ("model", "kind", "state", "parameters", "weights", "size", "context")
    _print(titles, rows, console, first_to_go=("context", "parameters", "weights", "kind", "size"))


def show_loaded(models: Iterable[Shown], console: Console) -> None:
    rows = [
        (
            model["id"],
            _state(model),
            _taken(model),
            model["memory"]["quantisation"] if "memory" in model else _SAYS_NOTHING,
            model["context_length"],
            model.get("answering", 0),
            _until(model),
        )
        for model in models
        if model["state"] in ("loaded", "loading") and model["id"] == model["root"]
    ]
    if rows:
        titles = ("model", "state", "memory", "weights", "context", "answering", "unloaded")
        _print(titles, rows, console, first_to_go=("weights", "context", "answering", "unloaded"))
    else:
        console.print("No model is in memory.")


def show_model(model: Shown, console: Console) -> None:
    said = {
        "model": model["id"] if model["id"] == model["root"] else f"{model['id']}, another name of {model['root']}",
        "state": _state(model) + (f": {model['error']}" if "error" in model else ""),
        "kind": _kind(model),
        "architecture": model["architecture"],
        "parameters": count(model["parameters"]),
        "weights": f"{model['quantisation']} ({model['format']})" if model["format"] else "",
        "context": f"{model['context_length']} tokens" if model["context_length"] else "",
        "size": size(model["bytes"]),
        "licence": model["licence"],
        "sampling": ", ".join(f"{name} {value}" for name, value in model["sampling"].items()),
        "source": model["source"],
        "digest": model["digest"],
        "folder": model.get("path", ""),
    }
    for what, needed in (("takes", model.get("memory")), ("a load takes", model.get("needed"))):
        if needed:
            kept = {"weights": needed["quantisation"], "cache": needed["cache_type"], "workspace": ""}
            parts = ", ".join(f"{kind} {part} {size(needed[f'{part}_bytes'])}".lstrip() for part, kind in kept.items())
            free = f"; {size(needed['available_bytes'])} are free" if "available_bytes" in needed else ""
            said[what] = f"{size(needed['needed_bytes'])} of memory ({parts}){free}"
    _print((), [(name, value or _SAYS_NOTHING) for name, value in said.items()], console)
    if model["template"]:
        console.print("\nchat template")
        console.print(Text(model["template"].rstrip()), soft_wrap=True)  # to be copied as it is


def show_usage(usage: Shown, console: Console) -> None:
    rows = [
        (one["model"], size(one["bytes"]), size(one["shared_bytes"]), size(one["packed_bytes"]))
        for one in usage["models"]
    ]
    _print(("model", "files", "of that shared", "packed weights"), rows, console, first_to_go=("of that shared",))
    console.print()
    totals = {
        "models": usage["models_bytes"],
        "packed weights": usage["packed_bytes"],
        "blobs that no model needs": usage["unused_bytes"],
        "pulls that were cut": usage["partial_bytes"],
        "free on the disk": usage["free_bytes"],
    }
    _print((), [(name, size(value)) for name, value in totals.items()], console)


def size(value: int) -> str:
    """Bytes, for people: 1.3 GiB."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def count(value: int) -> str:
    """How many, for people: 1.2 B."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return str(value)


def _kind(model: Shown) -> str:
    return f"{model['kind']} of {model['base']}" if "base" in model else str(model["kind"])


def _state(model: Shown) -> str:
    loading = model.get("loading")
    return f"{model['state']} ({loading['progress']:.0%}, {loading['stage']})" if loading else str(model["state"])


def _taken(model: Shown) -> str:
    if "memory" in model:
        return size(model["memory"]["needed_bytes"])
    return "with its base" if model["kind"] == "adapter" else _SAYS_NOTHING


def _until(model: Shown) -> str:
    if "memory" not in model:
        return _taken(model)
    seconds = model["expires_in_s"]
    return "never by itself" if seconds is None else "soon" if seconds < 60 else f"in {seconds / 60:.0f} min"


def _print(
    titles: Sequence[str], rows: Iterable[Sequence[object]], console: Console, first_to_go: Sequence[str] = ()
) -> None:
    """A table. Where it is wider than the terminal, the columns ``first_to_go`` are left out one by one: names stay
    whole, to be copied."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    shown = list(range(len(titles or ("", ""))))
    for title in first_to_go:
        if _width(titles, cells, shown) <= console.width:
            break
        shown.remove(titles.index(title))
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(titles))
    for index in shown:
        title = titles[index] if titles else ""
        whole = bool(titles) and title not in _FOLDED and _width(titles, cells, shown) <= console.width
        table.add_column(title, overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*(Text(row[index]) for index in shown))
    print_table(table, console)


def _width(titles: Sequence[str], cells: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    """Characters in a line of the table, with what may be folded as narrow as it may be."""
    widths = [max((len(row[index]) for row in cells), default=0) for index in shown]
    named = [titles[index] if titles else "" for index in shown]
    fitted = (max(len(name), min(width, _FOLDED.get(name, width))) for name, width in zip(named, widths, strict=True))
    return sum(fitted) + _GAP * (len(shown) - 1)
