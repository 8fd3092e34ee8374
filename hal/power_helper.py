"""The one part that runs as root: a small server that takes steps of the power ladder for the agent, and nothing else.

    python -I -m hal.power_helper --socket /run/thox/power.sock --group thox

* It listens on a Unix socket that only root and the group may open, and asks the kernel who is calling.
* A request is one packet of JSON: {"do": "look"}, {"do": "apply", "watts": 25}, {"do": "feed", "ttl_s": 10}; the answer
  is {"steps_w": [the worst of each step], "worst_w": what stands now} or {"error": ...}.
* A dead man's switch: once fed, it must be fed again before its time is up, or the module drops to the floor. A file
  beside the socket remembers that, so a helper that is restarted meanwhile drops, too.
"""

from __future__ import annotations

import argparse
import grp
import json
import logging
import math
import os
import pwd
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from hal.base import HardwareError
from hal.boards import recognise, wiring
from hal.power_control import PowerControl
from hal.power_ladder import Ladder, from_modes, loads
from hal.power_modes import parse
from hal.sysfs import Sysfs

log = logging.getLogger("thox.power")

PACKET_BYTES = 512
LONGEST_TTL_S = 60.0
CLIENTS = 8
RETRY_S = 1.0  # after a floor that was not taken
TEND_S = 0.01  # while a power mode is being set, which brings caps of its own
LADDER = "/etc/thox/ladder.json"  # measured on this module
MODES = "/etc/nvpmodel.conf"


class PowerHelper:
    """Serves ``control`` at ``path``; ``allowed`` says whether a user may call. One thread; ``step`` is one turn."""

    def __init__(
        self,
        control: PowerControl,
        path: Path,
        allowed: Callable[[int, int], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control, self._allowed, self._clock = control, allowed, clock
        self._armed = path.with_name(path.name + ".armed")
        self._ends: float | None = None  # when the dead man's switch acts
        if self._armed.exists():
            self._ends = clock()  # an earlier helper was fed; who fed it may be gone
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._clients: list[socket.socket] = []
        umask = os.umask(0o117)  # 0660 from its first moment on
        try:
            self._server.bind(str(path))
        finally:
            os.umask(umask)
        self._server.listen(4 * CLIENTS)

    def step(self, timeout: float) -> None:
        """Serve what comes within ``timeout`` seconds, and look after the switch."""
        if self._ends is not None:
            timeout = max(0.0, min(timeout, self._ends - self._clock()))
        if self._control.switching:
            timeout = min(timeout, TEND_S)
        for ready in select.select([self._server, *self._clients], [], [], timeout)[0]:
            if ready is self._server:
                self._accept()
            else:
                self._serve(ready)
        if self._ends is not None and self._clock() >= self._ends:
            self._drop()
        self._control.tend()

    def close(self) -> None:
        for each in (self._server, *self._clients):
            each.close()
        self._control.close()

    def _drop(self) -> None:
        standing = self._control.apply(0.0)
        if standing.worst_w <= self._control.ladder.floor.worst_w:
            log.warning("not fed in time: dropped to %g W", standing.worst_w)
            self._ends = None
            self._armed.unlink(missing_ok=True)
        else:
            log.error("not fed in time, and the floor is not taken: %g W stand", standing.worst_w)
            self._ends = self._clock() + RETRY_S

    def _accept(self) -> None:
        try:
            client, _ = self._server.accept()
        except OSError:
            return  # gone before it was here
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, group = struct.unpack("3i", peer)
        if len(self._clients) >= CLIENTS or not self._allowed(user, group):
            log.warning("user %d was turned away", user)
            client.close()
            return
        client.setblocking(False)
        self._clients.append(client)

    def _serve(self, client: socket.socket) -> None:
        try:
            packet = client.recv(PACKET_BYTES)
            if packet:
                client.send(json.dumps(self._answer(packet)).encode())
                return
        except OSError:
            pass  # a client that is gone, or that does not read its answers
        self._clients.remove(client)
        client.close()

    def _answer(self, packet: bytes) -> dict[str, object]:
        try:
            request = json.loads(packet)
            action = request["do"]
            if action == "apply":
                self._control.apply(_figure(request["watts"], 1e9))
            elif action == "feed":
                self._ends = self._clock() + _figure(request["ttl_s"], LONGEST_TTL_S)
                self._armed.touch()
            elif action != "look":
                raise ValueError("nothing that is done here")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return {"error": f"not understood: {type(error).__name__}"}
        steps = [step.worst_w for step in self._control.ladder.steps]
        return {"steps_w": steps, "worst_w": self._control.standing().worst_w}


def _figure(value: object, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no figure")
    if not 0 <= value <= most:
        raise ValueError("out of range")
    return float(value)


def members_of(group: str) -> Callable[[int, int], bool]:
    """Root, and whoever is in ``group`` now. Raises HardwareError when there is no such group."""
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise HardwareError(f"there is no group {group}", f"groupadd --system {group}") from error

    def allowed(user: int, primary: int) -> bool:
        if user == 0 or primary == number:
            return True
        try:
            return number in os.getgrouplist(pwd.getpwuid(user).pw_name, primary)
        except KeyError:
            return False

    return allowed


def this_ladder(sysfs: Sysfs, board: str, file: str = LADDER) -> Ladder:
    """The ladder that was measured on this module, else one of its power modes. Raises HardwareError."""
    measured = sysfs.text_or(file)
    if measured:
        return loads(measured)
    modes = sysfs.text_or(MODES)
    if not modes:
        raise HardwareError(f"neither {file} nor {MODES} is there", "install nvidia-l4t-nvpmodel, or write a ladder")
    return from_modes(board, parse(modes).live(sysfs))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hal.power_helper", description="Takes power steps, as root.")
    parser.add_argument("--socket", type=Path, default=Path("/run/thox/power.sock"))
    parser.add_argument("--group", default="thox", help="whose members may ask")
    parser.add_argument("--gpu", help="the GPU's name in /sys/class/devfreq, where the board table is wrong")
    parser.add_argument("--ladder", default=LADDER, help="what was measured on this module (default: %(default)s)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sysfs, board = Sysfs(), recognise()
    try:
        gpu = options.gpu if options.gpu is not None else wiring(board).gpu if board else ""
        control = PowerControl(sysfs, this_ladder(sysfs, board.name if board else "", options.ladder), gpu)
        helper = PowerHelper(control, options.socket, members_of(options.group))
        os.chown(options.socket, 0, grp.getgrnam(options.group).gr_gid)
    except (HardwareError, OSError) as error:
        hint = error.hint if isinstance(error, HardwareError) else "it must run as root, and its folder must exist"
        parser.exit(1, f"{error} ({hint})\n")
    log.info("serving %s, %g to %g W", options.socket, control.ladder.floor.worst_w, control.ladder.top.worst_w)
    try:
        while True:
            helper.step(RETRY_S)
    except KeyboardInterrupt:
        helper.close()


if __name__ == "__main__":
    main()
