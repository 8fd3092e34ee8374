"""``thox lab``: several devices on this machine, stacked in one simulated World, until Ctrl-C."""

from __future__ import annotations

import argparse
import select
import signal
import sys
from types import FrameType

from rich.console import Console
from rich.text import Text

from agent.cli_lab_watch import Clusters, Logs
from agent.cli_print import complain
from agent.config import Config, make_state_dir
from agent.lab import FEWEST, FOLDER, MOST, Lab, LabAgent, loopback_lab
from hal.base import HardwareError

START_S = 90.0
_LOOK_S = 1.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", type=int, nargs="?", default=4, metavar="N", help=f"{FEWEST} to {MOST} (default: 4)")
    parser.add_argument("--apart", action="store_true", help="each on the table by itself; thox sim stack joins them")
    parser.add_argument(
        "--models", default="", metavar="A,B", help="what each loads at its start (default: when asked)"
    )
    parser.add_argument("--restart", action="store_true", help="start again what ends by itself, as a service would")
    parser.add_argument("-v", "--verbose", action="store_true", help="what the agents log")


def call(options: argparse.Namespace, config: Config) -> int:
    make_state_dir(config)
    console = Console(highlight=False, soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # the first, too: who starts it in the background has it ignored
        signal.signal(number, _interrupted)
    try:
        lab = loopback_lab(config, options.count, {"models.preload": options.models}, options.apart)
    except HardwareError as error:
        complain(str(error), "one lab a state folder: end the other one, or set THOX_STATE_DIR")
        return 1
    logs = Logs(lab.agents.values())
    try:
        lab.start()
        console.print(Text(f"{options.count} devices start; simulated: nothing of their hardware is there."))
        missing = lab.wait(START_S)
        if missing:
            _complain_of(missing)
            return 1
        _greet(lab, config, console)
        _watch(lab, options, logs, console)
    except KeyboardInterrupt:
        console.print(Text("\nThe lab ends."))
    finally:
        lab.close()
    return 0


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch(lab: Lab, options: argparse.Namespace, logs: Logs, console: Console) -> None:
    """Until Ctrl-C: who ends, which clusters there are, and what the agents log."""
    clusters, ended = Clusters(lab), set[str]()
    while True:
        asked = _enter_pressed(_LOOK_S)
        for agent in lab.agents.values():
            if agent.ended and agent.module not in ended:
                ended.add(agent.module)
                again = "" if options.restart or not sys.stdin.isatty() else "; Enter starts it again"
                console.print(Text(f"{agent.module} ended ({agent.ended}){again}", style="red"))
            if agent.ended and (asked or options.restart):
                agent.start()
                ended.discard(agent.module)
                console.print(Text(f"{agent.module} starts again, pid {agent.pid}"))
        for line in clusters.news():
            console.print(Text(line))
        if options.verbose:
            for module, line in logs.news():
                console.print(Text.assemble((f"{module} ", "dim"), line))


def _enter_pressed(seconds: float) -> bool:
    """Waits so long at the most."""
    if not sys.stdin.isatty():
        select.select([], [], [], seconds)
        return False
    if not select.select([sys.stdin], [], [], seconds)[0]:
        return False
    return bool(sys.stdin.readline())


def _complain_of(missing: list[LabAgent]) -> None:
    for agent in missing:
        why = f"ended ({agent.ended})" if agent.ended else f"does not answer after {START_S:.0f} s"
        complain(f"{agent.module} {why}", f"its log: {agent.log}")
        for line in agent.log.read_text().splitlines()[-5:]:
            complain(f"  {line}")


def _greet(lab: Lab, config: Config, console: Console) -> None:
    server, agents = config.server, list(lab.agents.values())
    for agent in reversed(agents):
        console.print(
            Text.assemble(
                (f"  {agent.module:<10}", "bold"),
                f"{agent.node}  pid {agent.pid}  http://{agent.address}:{server.inference_port} (OpenAI's API) and "
                f":{server.cluster_port} (cluster)",
            )
        )
    console.print(Text(f"  {'state':<10}{config.state_dir / FOLDER}, with a folder and a log for each"))
    keys = [(agent.module, agent.owner_key) for agent in agents if agent.owner_key]
    if keys:
        console.print(Text("\nThe owners' API keys, shown this once; each holds on every device of its stack:\n"))
        for module, key in keys:
            console.print(Text.assemble((f"  {module:<10}", "dim"), (key, "bold")))
    first, last = agents[0], agents[-1]
    key = first.owner_key or "$KEY"
    console.print(Text("\nTry, in another terminal:\n"))
    for line in (
        f"thox sim {'stack module-2 --on module-1' if len(lab.world.state.stacks) > 1 else f'unstack {last.module}'}",
        "thox sim status",
        f"kill -9 -- -{first.pid}          # its power fails; -STOP freezes it, -CONT thaws it",
        f"curl http://{last.address}:{server.cluster_port}/v1/topology -H 'Authorization: Bearer "
        f"{last.owner_key or '$KEY'}'",
        f"THOX_API_KEY={key} THOX_BIND={first.address} thox chat",
        *(() if keys else (f"THOX_STATE_DIR={first.state_dir} thox key create NAME   # keys were shown once",)),
    ):
        console.print(Text(f"  {line}"))
    console.print(Text("\nCtrl-C ends the lab. What it sees:\n"))
