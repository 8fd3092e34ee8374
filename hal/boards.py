"""Which board this is: facts by the names in its device tree. Data, and the few lines that look it up.

Names of modules: NVIDIA's part numbers, as the mainline device trees spell them (``nvidia,p3767-0000``). ``tops`` are
NVIDIA's own figures: int8 with sparsity up to Orin, FP4 with sparsity for Thor, so they compare within a family only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hal.base import BoardFacts, Face, HardwareError

GIB = 1024**3

ORIN_NX_16 = BoardFacts("NVIDIA Jetson Orin NX 16GB", 16 * GIB, 100.0, 8)

BOARDS: dict[str, BoardFacts] = {
    "nvidia,p3767-0000": ORIN_NX_16,
    "nvidia,p3767-0001": BoardFacts("NVIDIA Jetson Orin NX 8GB", 8 * GIB, 70.0, 6),
    "nvidia,p3767-0003": BoardFacts("NVIDIA Jetson Orin Nano 8GB", 8 * GIB, 40.0, 6),
    "nvidia,p3767-0004": BoardFacts("NVIDIA Jetson Orin Nano 4GB", 4 * GIB, 20.0, 6),
    "nvidia,p3767-0005": BoardFacts("NVIDIA Jetson Orin Nano 8GB", 8 * GIB, 40.0, 6),
    "nvidia,p3701-0000": BoardFacts("NVIDIA Jetson AGX Orin 32GB", 32 * GIB, 275.0, 12),
    "nvidia,p3701-0004": BoardFacts("NVIDIA Jetson AGX Orin 32GB", 32 * GIB, 200.0, 8),
    "nvidia,p3701-0005": BoardFacts("NVIDIA Jetson AGX Orin 64GB", 64 * GIB, 275.0, 12),
    "nvidia,p3701-0008": BoardFacts("NVIDIA Jetson AGX Orin Industrial 64GB", 64 * GIB, 248.0, 12),
    "nvidia,p3834-0008": BoardFacts("NVIDIA Jetson AGX Thor", 128 * GIB, 2070.0, 14),
}


@dataclass(frozen=True, slots=True)
class BoardWiring:
    """Where a carrier has the parts of the stack, under names that no change of kernel renumbers.

    GPIO lines by the ``gpio-line-names`` of the carrier's overlay; I2C buses by their controller's device in
    /sys/bus/platform; sensors by the names and labels that their kernel drivers give. Any of it can be overridden, by
    ``[hardware.wiring]`` of the agent's configuration.
    """

    stack_top: str = "STACK_DET_TOP"  # AH3362-class Hall switches: closed is low
    stack_bottom: str = "STACK_DET_BOTTOM"
    field_detect: str = "NFC_FD"  # of the own tag: low while a reader's field is there
    alert: str = "PWR_ALERT#"
    load_enable: str = "LOAD_EN"
    reader: str = "/dev/thox-nfc0"  # a udev symlink to the reader's serial port
    reader_face: Face = "top"
    tag_bus: str = ""  # e.g. c250000.i2c
    tag_address: int = 0x55  # NT3H2111
    tag_face: Face = "bottom"
    sink_bus: str = ""
    sink_address: int = 0x28  # STUSB4500
    supply_w: float = 0.0  # of a supply that cannot say itself what it gives, behind a barrel jack; 0: there is none
    meter: str = "ina3221"  # hwmon name of the meter with the total
    meter_label: str = "VDD_IN"  # of the channel that is the total; empty: the sum of all channels
    gpu: str = ""  # the GPU's platform device, whose devfreq is the cap
    link: str = "thox0"  # network interface of the link between modules


# The expansion header of the developer kits carries tag and sink: pins 3 and 5.
_P3767 = BoardWiring(tag_bus="c250000.i2c", sink_bus="c250000.i2c", gpu="17000000.gpu")
_P3701 = BoardWiring(tag_bus="31e0000.i2c", sink_bus="31e0000.i2c", gpu="17000000.gpu", meter_label="")
_P3834 = BoardWiring(meter="ina238", meter_label="", gpu="gpu-gpc-0")
_UNWIRED = BoardWiring(
    stack_top="",
    stack_bottom="",
    field_detect="",
    alert="",
    load_enable="",
    reader="",
    meter="",
    meter_label="",
    link="",
)


def wiring(facts: BoardFacts) -> BoardWiring:
    """Of the carrier for this board. A machine that is no Jetson has none of the parts unless it is told where."""
    for words, its in (("Orin NX", _P3767), ("Orin Nano", _P3767), ("AGX Orin", _P3701), ("Thor", _P3834)):
        if words in facts.name:
            return its
    return _UNWIRED


def rewired(its: BoardWiring, names: Mapping[str, str]) -> BoardWiring:
    """``its`` with what an owner says instead. Raises HardwareError for a part that no wiring has."""
    known = {each.name for each in fields(BoardWiring)}
    changes: dict[str, str | int | float] = {}
    for name, text in names.items():
        if name not in known:
            raise HardwareError(f"{name!r} is nothing that is wired", f"known are {', '.join(sorted(known))}")
        if name.endswith("_address"):
            try:
                changes[name] = int(text, 0)
            except ValueError as error:
                raise HardwareError(f"{name} = {text!r} is no I2C address", "write it as 0x55") from error
        elif name == "supply_w":
            try:
                changes[name] = float(text)
            except ValueError as error:
                raise HardwareError(f"supply_w = {text!r} is no power", "write it in watts, as 65") from error
        elif name.endswith("_face") and text not in ("top", "bottom"):
            raise HardwareError(f"{name} = {text!r} is no face", "it is top or bottom")
        else:
            changes[name] = text
    return replace(its, **changes)  # type: ignore[arg-type]


# A carrier that names its module in words only, or a module number that is newer than this table: the family's largest.
FAMILIES: tuple[tuple[str, BoardFacts], ...] = (
    ("orin nx", ORIN_NX_16),
    ("orin nano", BOARDS["nvidia,p3767-0003"]),
    ("agx orin", BOARDS["nvidia,p3701-0005"]),
    ("thor", BOARDS["nvidia,p3834-0008"]),
)


def recognise(root: Path = Path("/")) -> BoardFacts | None:
    """The Jetson this runs on; None on any other machine. ``root`` stands for / so that a copied tree serves, too."""
    tree = root / "proc" / "device-tree"
    for name in _strings(tree / "compatible"):
        # A carrier and its module share one string: nvidia,p3768-0000+p3767-0000.
        for part in name.removeprefix("nvidia,").split("+"):
            facts = BOARDS.get(f"nvidia,{part}")
            if facts is not None and name.startswith("nvidia,"):
                return facts
    model = " ".join(_strings(tree / "model")).lower()
    if "jetson" in model:
        for words, facts in FAMILIES:
            if words in model:
                return facts
    return None


def linux_machine(root: Path = Path("/")) -> BoardFacts:
    """Facts of a machine that is no Jetson, from /proc: its memory and cores, and no accelerator that we know of."""
    model = " ".join(_strings(root / "proc" / "device-tree" / "model"))
    return BoardFacts(model or "Linux machine", _memory(root), 0.0, _cores(root))


def _strings(file: Path) -> list[str]:
    """The NUL-separated strings of a device tree's property; none where there is no such file."""
    try:
        raw = file.read_bytes()
    except OSError:
        return []
    return [part.decode("ascii", "replace") for part in raw.split(b"\0") if part]


def _memory(root: Path) -> int:
    for line in _lines(root / "proc" / "meminfo"):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _cores(root: Path) -> int:
    return max(1, sum(line.startswith("processor") for line in _lines(root / "proc" / "cpuinfo")))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
