"""``thox sim``: hands for the simulated stack of a running node: stack, unplug, heat, break, and look."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agent.cli_picture import world_picture
from agent.cli_print import complain
from agent.config import Config
from agent.lab import lab_socket
from hal.base import HardwareError
from hal.world_client import WorldClient
from hal.world_state import BATTERY_WH, FAULTS, SUPPLY_W
from hal.world_wire import SOCKET

_OURS = ("command", "call", "hand", "json", "lab")  # of the options, those that no hand takes


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lab", action="store_true", help="the stack of thox lab, also where a node of its own runs")
    hands = parser.add_subparsers(dest="hand", required=True, metavar="HAND")

    def hand(name: str, text: str) -> argparse.ArgumentParser:
        return hands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")

    def module(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", metavar="MODULE", help="which one (default: hardware.module)")

    status = hand("status", "a picture of every stack")
    status.add_argument("--json", action="store_true", help="everything, for programs")
    add = hand("add", "put a further module on the table")
    add.add_argument("name", metavar="MODULE")
    add.add_argument("--battery", type=float, default=BATTERY_WH, dest="battery_wh", metavar="WH", help="0: none")
    add.add_argument("--address", default="", help="of its end of the link (default: 127.0.0.2, .3 ...)")
    hand("remove", "take a module away").add_argument("name", metavar="MODULE")
    stack = hand("stack", "put a module on another")
    stack.add_argument("upper", nargs="?", metavar="MODULE", help="which one (default: a new one)")
    stack.add_argument("--on", dest="lower", metavar="MODULE", help="default: the highest of this node's stack")
    unstack = hand("unstack", "lift a module, and what stands on it, off the one below")
    unstack.add_argument("name", nargs="?", metavar="MODULE", help="default: the highest of this node's stack")
    plug = hand("plug", "plug a supply into a module")
    plug.add_argument("--watts", type=float, default=SUPPLY_W)
    module(plug)
    module(hand("unplug", "pull it out again"))
    hand("contact", "how many watts each contact between modules carries").add_argument("watts", type=float)
    heat = hand("heat", "the temperature of the air around")
    heat.add_argument("celsius", type=float)
    heat.add_argument("name", nargs="?", metavar="MODULE", help="around this one alone (default: all)")
    load = hand("load", "how busy a module is, 0 to 1, whatever its agent does")
    load.add_argument("share", type=lambda text: None if text == "own" else float(text), metavar="SHARE|own")
    module(load)
    drain = hand("drain", "the charge of a module's battery")
    drain.add_argument("percent", type=float)
    module(drain)
    known = "; ".join(f"{fault}: {text}" for fault, text in FAULTS.items()).replace("%", "%%")
    for name, text in (("fail", "break a part"), ("mend", "mend it (all: everything)")):
        broken = hand(name, text)
        broken.add_argument("fault", choices=[*FAULTS, "all"] if name == "mend" else list(FAULTS), metavar="PART")
        broken.epilog = known
        module(broken)
    for name, text in (("cut", "lose the datagrams from one module to another"), ("join", "end such a cut")):
        way = hand(name, text)
        way.add_argument("source", metavar="FROM")
        way.add_argument("target", metavar="TO")
    link = hand("link", "how datagrams between modules fare")
    for option, dest, text in (
        ("--loss", "loss", "share that is lost, 0 to 1"),
        ("--delay", "delay_s", "seconds that each is late"),
        ("--jitter", "jitter_s", "seconds that it may be later still"),
    ):
        link.add_argument(option, dest=dest, type=float, default=0.0, help=text)


def call(options: argparse.Namespace, config: Config) -> int:
    given = {name: value for name, value in vars(options).items() if name not in _OURS}
    try:
        world = _world(config, options.lab)
    except HardwareError as error:
        complain(str(error), "`thox sim` moves the simulated stack of a running node or lab: thox run, thox lab")
        return 1
    try:
        if options.hand != "status":
            _use(world, options.hand, given, config.hardware.module)
        status = world.hand("status")
    except HardwareError as error:
        complain(str(error), error.hint)
        return 1
    finally:
        world.close()
    if options.hand == "status" and options.json:
        Console(soft_wrap=True).print_json(json.dumps(status))
    else:
        Console(soft_wrap=True, highlight=False).print(Text(world_picture(status)))
    return 0


def world_socket(config: Config) -> Path:
    """Where the World of this node is served: by the node itself, or by whoever ``hardware.world`` names."""
    return Path(config.hardware.world) if config.hardware.world else config.state_dir / SOCKET


def _world(config: Config, lab: bool) -> WorldClient:
    """This node's; without one, that of the lab. Raises HardwareError."""
    own, of_lab = world_socket(config), lab_socket(config.state_dir)
    if lab:
        return WorldClient(of_lab)
    try:
        return WorldClient(own)
    except HardwareError:
        if config.hardware.world or not of_lab.exists():
            raise
    return WorldClient(of_lab)


def _use(world: WorldClient, hand: str, given: dict[str, Any], own: str) -> None:
    if hand in ("stack", "unstack"):
        status = world.hand("status")
        mine = next((stack for stack in status["stacks"] if own in stack), None)
        if mine is None:
            raise HardwareError(f"there is no module {own!r}", "set hardware.module, or name the modules")
        if hand == "stack":
            given = {"lower": given["lower"] or mine[-1], "upper": given["upper"] or _new(world, status)}
        else:
            given = {"name": given["name"] or mine[-1]}
    elif hand != "heat" and "name" in given:
        given["name"] = given["name"] or own
    world.hand(hand, **given)


def _new(world: WorldClient, status: dict[str, Any]) -> str:
    number = next(each for each in range(1, 100) if f"module-{each}" not in status["modules"])
    world.hand("add", name=f"module-{number}")
    return f"module-{number}"
