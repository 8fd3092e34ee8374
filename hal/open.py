"""Opens the hardware of this device: the board's own drivers, or a simulated module where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from hal.base import Hardware, HardwareError
from hal.boards import BoardWiring, linux_machine, recognise, rewired
from hal.sim import MODULE, SimDevice, sim_hardware
from hal.world_client import WorldClient
from hal.world_host import WorldHost


def open_hardware(
    mode: str = "auto",
    root: Path = Path("/"),
    load: Callable[[], float] | None = None,
    world: Path | None = None,
    module: str = "",
    serve_at: Path | None = None,
    wiring: Mapping[str, str] = MappingProxyType({}),
) -> Hardware:
    """The hardware for ``mode`` (``[hardware]`` of the configuration): ``auto`` or ``simulated``. Close it in the end.

    ``world``: the socket of a World that is served elsewhere; this is its module ``module`` then, whatever the mode.
    Otherwise a simulated device is alone in a World of its own, an Orin NX 16 GB on a 65 W supply, and ``serve_at`` is
    the socket where hands can reach that. ``load``, 0 to 1: how busy the device is, where the caller keeps it busy.
    ``wiring``: names of BoardWiring where this carrier differs from the board table.

    Raises HardwareError on a recognised board, for which this version has no drivers: a real device must never show
    made-up watts without its owner asking for them.
    """
    if mode not in ("auto", "simulated"):
        raise HardwareError(f"{mode!r} is no mode of the hardware", 'choose "auto" or "simulated"')
    machine = linux_machine(root)
    rewired(BoardWiring(), wiring)  # a name that nothing has is a mistake wherever it is made
    if world is not None:
        return sim_hardware(WorldClient(world, module or MODULE, load), recognise(root) or machine)
    board = recognise(root) if mode == "auto" else None
    if board is not None:
        raise HardwareError(
            f"this is a {board.name}, and this version has no drivers for it",
            'set mode = "simulated" under [hardware] to run with simulated sensors',
        )
    device = SimDevice(load=load, machine=machine)
    if serve_at is None:
        return device.hardware
    host = WorldHost(device.world, serve_at)

    def close() -> None:
        host.close()
        device.hardware.close()

    return replace(device.hardware, close=close)
