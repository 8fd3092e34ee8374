"""Opens the hardware of this device: the board's own drivers, or the simulated device where there is no such board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hal.base import Hardware, HardwareError
from hal.boards import linux_machine, recognise
from hal.sim import SimDevice


def open_hardware(mode: str = "auto", root: Path = Path("/"), load: Callable[[], float] = lambda: 0.0) -> Hardware:
    """The hardware for ``mode`` (``[hardware]`` of the configuration): ``auto`` or ``simulated``.

    The simulated device is an Orin NX 16 GB whatever the machine is, and says everywhere that it is simulated;
    ``load``, 0 to 1, is how busy it is. Raises HardwareError on a recognised board, for which this version has no
    drivers: a real device must never show made-up watts without its owner asking for them.
    """
    if mode not in ("auto", "simulated"):
        raise HardwareError(f"{mode!r} is no mode of the hardware", 'choose "auto" or "simulated"')
    board = recognise(root) if mode == "auto" else None
    if board is not None:
        raise HardwareError(
            f"this is a {board.name}, and this version has no drivers for it",
            'set mode = "simulated" under [hardware] to run with simulated sensors',
        )
    return SimDevice(load=load, machine=linux_machine(root)).hardware
