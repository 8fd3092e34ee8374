"""``thox``: run a device, look at it, talk to it, and keep its keys and models.

Each command has a file of its own, imported when it is called for: making a key must not wait for an inference runtime.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

from agent.cli_print import complain
from agent.client import ClientError
from agent.config import ConfigError, load
from agent.errors import ThoxError

COMMANDS = {
    "run": "start this device and serve both ports; with a model's name, talk to it",
    "find": "the Thox devices of this network",
    "status": "what a running device is doing",
    "chat": "talk to a model in the terminal",
    "key": "create, list and revoke API keys",
    "models": "list, show, pull, load, unload, copy and remove models",
    "trust": "whom this device trusts: list, forget, lock",
    "plan": "how the stack would carry a model: which layers on which node",
    "power": "who may draw how many watts of the stack's supply, and contracts for more",
    "hw": "the hardware of this device: what is there, what it says, what is missing",
    "sim": "hands for the simulated stack of a running device",
    "lab": "a stack of several devices on this machine, to be pulled apart by thox sim",
    "config": "every setting, its value and where that came from",
}

SHORT = {  # as Ollama's users type them
    "list": ("models", "list"),
    "ls": ("models", "list"),
    "pull": ("models", "pull"),
    "load": ("models", "load"),
    "unload": ("models", "unload"),
    "stop": ("models", "unload"),
    "ps": ("models", "ps"),
    "show": ("models", "show"),
    "cp": ("models", "copy"),
    "rm": ("models", "remove"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit status: 0 done, 1 it failed, 2 it was called wrongly."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in SHORT:
        arguments[:1] = SHORT[arguments[0]]
    elif arguments[:1] == ["run"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        arguments[:1] = ("chat",)
    parser = argparse.ArgumentParser(
        prog="thox",
        description="Thox agent: a language model device on your own network.",
        epilog="For short: " + ", ".join(f"{short} = {' '.join(words)}" for short, words in SHORT.items()) + ".",
    )
    parser.add_argument("--version", action="version", version=importlib.metadata.version("thox-agent"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), "")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"agent.cli_{name}")
            module.arguments(command)
            command.set_defaults(call=module.call)
    if not arguments:
        parser.exit(2, parser.format_help())  # to standard error
    options = parser.parse_args(arguments)
    try:
        return int(options.call(options, load()))
    except (ConfigError, ClientError, ThoxError) as error:
        complain(str(error), error.hint or "")
        return 1
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a file of another user
        complain(": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
        return 1
    except KeyboardInterrupt:
        return 130
