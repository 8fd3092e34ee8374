"""A stack in text: modules as boxes, one upon the other, with what flows between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hal.base import Hardware, TagRecord, answer_of

WIDTH = 58  # and a supply beside it: within 80 columns


def box(lines: Sequence[str], beside: str = "") -> list[str]:
    """``beside`` stands to the right of the first line, on a cable."""
    wide = max(WIDTH, *(len(line) for line in lines))
    top, bottom = f"┌─{'─' * wide}─┐", f"└─{'─' * wide}─┘"
    body = [f"│ {line.ljust(wide)} │" for line in lines]
    if beside:
        body[0] += f"══ {beside}"
    return [top, *body, bottom]


def world_picture(status: Mapping[str, Any]) -> str:
    """Every stack of a simulated World, as its ``status`` tells them."""
    rows = ["Simulated: nothing of this is there."]
    contacts = {each["upper"]: each for each in status["contacts"]}
    cuts = [tuple(cut) for cut in status["cuts"]]
    for stack in status["stacks"]:
        for name in reversed(stack):
            rows += _module(name, status)
            contact = contacts.get(name)
            if contact is not None:
                rows.append(_contact(contact, cuts))
        rows.append("")
    link = status["link"]
    if any(link.values()):
        rows.append(
            f"link: {link['loss']:.0%} lost, {link['delay_s'] * 1000:g} ms late, up to {link['jitter_s'] * 1000:g} more"
        )
    touching = {(each["lower"], each["upper"]) for each in status["contacts"]}
    rows += [f"cut: {a} → {b}" for a, b in cuts if (a, b) not in touching and (b, a) not in touching]
    return "\n".join(rows).rstrip()


def stack_picture(hardware: Hardware) -> str:
    """What one module knows of its stack: itself, and who is on either face."""
    closed = answer_of(hardware.lines.closed) or {}
    rows: list[str] = []
    if closed.get("top"):
        rows += [*box(_neighbour(hardware, "top")), f"{'║':>31}"]
    title = f"this module: {hardware.board.name}" + (", simulated" if hardware.simulated else "")
    external = answer_of(hardware.supply.external)
    beside = f"supply {_watts(answer_of(lambda: hardware.supply.available().value))}" if external else ""
    rows += box(
        [title, f"{_watts(answer_of(lambda: hardware.power.total().value))} of {hardware.cap.peak_w:g} W"], beside
    )
    if closed.get("bottom"):
        rows += [f"{'║':>31}", *box(_neighbour(hardware, "bottom"))]
    if not closed:
        rows.append("whether something is stacked on it cannot be told")
    return "\n".join(rows)


def describe(record: TagRecord) -> list[str]:
    """What a tag says, for a person."""
    return [
        f"{record.device_id}, firmware {record.firmware}",
        f"{record.ram_bytes / 2**30:g} GB, {record.tops:g} TOPS, {record.floor_w:g} to {record.peak_w:g} W",
    ]


def _neighbour(hardware: Hardware, face: str) -> list[str]:
    reader = next((each for each in hardware.readers.values() if each.face == face), None)
    record = answer_of(reader.seen) if reader is not None else None
    if record is not None:
        return describe(record)
    return ["a neighbour" + ("" if reader is None else " whose tag has not been read")]


def _module(name: str, status: Mapping[str, Any]) -> list[str]:
    module, supply = status["modules"][name], status["supplies"].get(name)
    hottest = max(module["celsius"].values())
    battery = "no battery" if module["battery_percent"] is None else f"battery {module['battery_percent']:.0f} %"
    power = f"{module['watts']:.1f} W of {module['worst_w']:g}" if module["powered"] else "NO POWER"
    lines = [f"{name:<18} {power} · {hottest:.0f} °C · {battery}"]
    more = [
        f"load {module['load']:.0%}",
        f"air {module['ambient_c']:g} °C",
        "load switch " + ("on" if module["load_switch"] else "off"),
        "tag " + ("written" if module["tag"] else "empty"),
        *(["ALERT"] if module["alert"] else []),
    ]
    lines.append("  " + " · ".join(more))
    if module["faults"]:
        lines.append("  broken: " + ", ".join(module["faults"]))
    beside = ""
    if supply is not None:
        state = f"gives {supply['drawn_w']:.1f} W at {supply['volts']:.1f} V" if supply["on"] else "OVERLOADED, off"
        lines.append(f"  its supply {state}")
        beside = f"supply {supply['watts']:g} W"
    return box(lines, beside)


def _contact(contact: Mapping[str, Any], cuts: Sequence[tuple[str, ...]]) -> str:
    lower, upper = contact["lower"], contact["upper"]
    over = "  OVERLOADED" if contact["watts"] > contact["limit_w"] else ""
    lost = [word for word, cut in (("upwards", (lower, upper)), ("downwards", (upper, lower))) if cut in cuts]
    link = f", link cut {' and '.join(lost)}" if lost else ""
    return f"{'║':>31}  {contact['watts']:.1f} of {contact['limit_w']:g} W{over}{link}"


def _watts(value: float | None) -> str:
    return "? W" if value is None else f"{value:.1f} W"
