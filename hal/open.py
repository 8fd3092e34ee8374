"""Opens the hardware of this device: the board's own drivers, or a simulated module where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from hal.base import BoardFacts, Hardware, HardwareError
from hal.boards import BoardWiring, linux_machine, recognise, rewired
from hal.boards import wiring as wiring_of
from hal.link import UdpStackLink
from hal.sim import MODULE, SimDevice, sim_hardware
from hal.sysfs import Sysfs
from hal.world_client import WorldClient
from hal.world_host import WorldHost

MODES = ("auto", "simulated", "real")


def open_hardware(
    mode: str = "auto",
    root: Path = Path("/"),
    load: Callable[[], float] | None = None,
    world: Path | None = None,
    module: str = "",
    serve_at: Path | None = None,
    wiring: Mapping[str, str] = MappingProxyType({}),
) -> Hardware:
    """The hardware for ``mode`` (``[hardware]`` of the configuration). Close it in the end.

    ``real``: this machine's own, whatever it is; ``auto``: that on a board that is recognised, else ``simulated``.

    ``world``: the socket of a World that is served elsewhere; this is its module ``module`` then, whatever the mode.
    Otherwise a simulated device is alone in a World of its own, an Orin NX 16 GB on a 65 W supply, and ``serve_at`` is
    the socket where hands can reach that. ``load``, 0 to 1: how busy the device is, where the caller keeps it busy.
    ``wiring``: names of BoardWiring where this carrier differs from the board table. A ``link`` named there is the real
    one also of a module of a World elsewhere: several machines, or network namespaces, with one simulated stack.

    Raises HardwareError where a part of a real machine does not answer: it must never show made-up watts without its
    owner asking for them.
    """
    if mode not in MODES:
        raise HardwareError(f"{mode!r} is no mode of the hardware", f"choose one of {', '.join(MODES)}")
    board, machine = recognise(root), linux_machine(root)
    its = board or machine
    wires = rewired(wiring_of(its), wiring)  # a name that nothing has is a mistake wherever it is made
    if world is not None:
        return _of_world(WorldClient(world, module or MODULE, load), its, wiring.get("link", ""), root)
    if mode == "real" or (mode == "auto" and board is not None):
        return _real(its, wires, root)
    device = SimDevice(load=load, machine=machine)
    if serve_at is None:
        return device.hardware
    host = WorldHost(device.world, serve_at)

    def close() -> None:
        host.close()
        device.hardware.close()

    return replace(device.hardware, close=close)


def _of_world(port: WorldClient, its: BoardFacts, link: str, root: Path) -> Hardware:
    hardware = sim_hardware(port, its)
    if not link:
        return hardware
    try:
        real = UdpStackLink(link, Sysfs(root))
    except HardwareError:
        port.close()
        raise

    def close() -> None:
        real.close()
        port.close()

    return replace(hardware, link=real, close=close)


def _real(facts: BoardFacts, wires: BoardWiring, root: Path) -> Hardware:
    try:
        from hal.jetson import open_board  # here: its libraries are for devices alone
    except ImportError as error:
        raise HardwareError(
            f"this is a {facts.name}, and {error.name} for its drivers is not installed",
            "pip install 'thox-agent[hardware]'",
        ) from error
    try:
        return open_board(facts, wires, Sysfs(root))
    except HardwareError as error:
        raise type(error)(
            f"{facts.name}: {error}",
            f'{error.hint + "; " if error.hint else ""}mode = "simulated" under [hardware] runs without it',
        ) from error
