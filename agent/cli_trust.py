"""``thox trust``: whom this device trusts. Works on the state directory, so the device may run or not; it sees a change
at once, and tells the rest of the stack."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli_print import output, print_table
from agent.cluster.trust.service import TrustService
from agent.config import Config, make_state_dir
from agent.identity import device_id

_HELP = {
    "list": "the members of the stack, and the devices that were forgotten (the default)",
    "forget": "trust a device no more: its links end, and a touch does not bring it back",
    "allow": "let a device that was forgotten enter by touch again",
    "lock": "let no newcomer enter by touch",
    "unlock": "let newcomers enter by touch",
    "leave": "begin a stack of this device's own; the others trust it until they forget it",
}
_NAMED = ("forget", "allow")


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, text in _HELP.items():
        action = actions.add_parser(name, help=text)
        if name in _NAMED:
            action.add_argument("device", metavar="DEVICE", help="its id or fingerprint, or the beginning of one")


def call(options: argparse.Namespace, config: Config) -> int:
    state_dir = make_state_dir(config)
    trust, console = TrustService(state_dir, device_id(state_dir)), output()
    action = options.action or "list"
    if action == "list":
        _list(trust, console)
    elif action == "forget":
        console.print(Text(f"{trust.forget(options.device).device_id} is forgotten."))
    elif action == "allow":
        console.print(Text(f"{trust.allow(options.device).device_id} may enter by touch again."))
    elif action == "leave":
        trust.leave()
        console.print(Text("This device is alone in a new stack. Forget it on one of the old stack's devices."))
    else:
        trust.lock(action == "lock")
        said = "locked: no newcomer enters by touch" if action == "lock" else "unlocked: who touches it enters"
        console.print(Text(f"The stack is {said}."))
    return 0


def _list(trust: TrustService, console: Console) -> None:
    roster = trust.roster()
    lock = "locked: no newcomer enters by touch" if roster.locked else "unlocked: who touches it enters"
    console.print(Text(f"Stack {roster.stack}, {lock}."))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("device", "fingerprint", "trust", "said by"):
        table.add_column(title, overflow="fold")
    found = sorted(roster.entries.items(), key=lambda item: (item[1].standing != "member", item[1].identity.device_id))
    for fingerprint, entry in found:
        own = " (this device)" if fingerprint == trust.fingerprint else ""
        known = entry.identity.device_id
        table.add_row(*map(Text, (known + own, fingerprint[:16], entry.standing, entry.by[:8])))
    print_table(table, console)
