"""``thox chat``: a conversation in the terminal, through the device's own API.

Ctrl-C stops the answer, not the program; /exit or the end of the input leaves. Lines that are pasted at once are one
message, and so is a line that ends in a backslash with the next one. Where the input is no terminal, every line is one
message and only the answers are printed. A question in the command itself is the only one, with a model's name before
it or without.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from agent.cli_access import add_key_argument, inference_client
from agent.cli_print import complain
from agent.cli_waiting import stream_when_loaded
from agent.cli_words import Words, printable
from agent.client import Client, ClientError
from agent.cluster.documents.settings import effective
from agent.config import Config

_HELP = "/new starts over, /exit leaves, Ctrl-C stops an answer; a line that ends in \\ goes on in the next."


def arguments(parser: argparse.ArgumentParser) -> None:
    add_key_argument(parser)
    parser.add_argument("model", metavar="MODEL", nargs="?", help="which model answers (default: the device's)")
    parser.add_argument("question", metavar="QUESTION", nargs="*", help="ask this and leave, instead of a conversation")
    parser.add_argument("--system", metavar="TEXT", help="what the model should keep in mind throughout")


def call(options: argparse.Namespace, config: Config) -> int:
    model, words = options.model, options.question
    if model and " " in model:  # no name has a space in it: this is the question
        model, words = None, [model, *words]
    question = " ".join(words)
    model = model or effective(config).models.default
    conversation = _Conversation(inference_client(options, config), model, options.system)
    terminal = not question and sys.stdin.isatty()
    if terminal:  # a shell that starts programs in the background has them ignore Ctrl-C, and that is inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)
    console = Console(highlight=False, soft_wrap=True)
    if terminal:
        console.print(Text(f"{conversation.model} at {conversation.client.url}", style="dim"))
        _help(console)
    failed = False
    for line in [question] if question else _lines(terminal, config.state_dir / "chat.history"):
        if line == "/exit":
            break
        if line == "/new":
            conversation.forget()
        elif line.startswith("/"):
            _help(console)
        elif line:
            failed = not _answer(conversation, line, console)
    return 1 if failed and not terminal else 0


def _help(console: Console) -> None:
    console.print(Text(_HELP, style="dim"), soft_wrap=not console.is_terminal)


class _Conversation:
    def __init__(self, client: Client, model: str, system: str | None) -> None:
        self.client = client
        self.model = model
        self._start: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._start)

    def forget(self) -> None:
        self._messages = list(self._start)

    def ask(self, text: str) -> Generator[str, None, None]:
        """The pieces of the answer. What has arrived of it is remembered, even of one that was stopped."""
        question: dict[str, object] = {"role": "user", "content": text}
        body = {"model": self.model, "messages": [*self._messages, question]}
        parts: list[str] = []
        try:
            with contextlib.closing(stream_when_loaded(self.client, "/v1/chat/completions", body)) as events:
                for event in events:
                    for choice in event.get("choices", ()):
                        piece = choice["delta"].get("content")
                        if piece:
                            parts.append(piece)
                            yield piece
        finally:
            if parts:
                self._messages += [question, {"role": "assistant", "content": "".join(parts)}]


def _answer(conversation: _Conversation, line: str, console: Console) -> bool:
    words = Words(console.width) if console.is_terminal else None
    began = False

    def show(text: str) -> None:
        console.print(Text(text), end="")

    try:
        with contextlib.closing(conversation.ask(line)) as pieces:
            for piece in pieces:
                text, began = printable(piece), True
                show(words.feed(text) if words else text)
    except KeyboardInterrupt:
        show(words.flush() if words else "")
        console.print(Text(" (stopped)", style="dim"), end="")
    except ClientError as error:
        show(words.flush() if words else "")
        if began:
            console.print()
        complain(str(error), error.hint)
        return False
    else:
        show(words.flush() if words else "")
    console.print()
    return True


def _lines(terminal: bool, history: Path) -> Iterator[str]:
    if not terminal:
        for line in sys.stdin:
            yield line.strip()
        return
    import readline  # only now: importing it writes to some terminals

    with contextlib.suppress(OSError):  # none yet
        readline.read_history_file(history)
    readline.set_history_length(500)
    try:
        while True:
            try:
                text = input("> ")
                while text.endswith("\\"):
                    text = text[:-1] + "\n" + input("  ")
                yield text.strip()
            except KeyboardInterrupt:
                sys.stdout.write("\n")  # drop the line, stay in the conversation
            except EOFError:
                sys.stdout.write("\n")
                return
    finally:
        with contextlib.suppress(OSError):  # the state directory may be read-only for this user
            history.touch(mode=0o600)
            readline.write_history_file(history)
