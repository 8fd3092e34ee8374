"""NVIDIA's table of power modes, /etc/nvpmodel.conf: what each mode caps. IDs differ from module to module, so the file
itself is read, never remembered.

The file: ``< PARAM TYPE=FILE|CLOCK NAME=x >`` sections name attributes of sysfs (``ARG path``; an argument with _KNEXT
is the name under newer kernels); ``< POWER_MODEL ID=n NAME=x >`` sections set them (``x ARG value``).
Units: Hz for the GPU, kHz for processors; -1 is no cap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hal.base import HardwareError
from hal.sysfs import Sysfs

_SECTION = re.compile(r"<\s*(\w+)\s+(.*?)\s*>$")
_CORES = "CPU_ONLINE"
_GATES = re.compile(r"(CPU_ONLINE|\w+_POWER_GATING)$")  # what only a reboot changes


@dataclass(frozen=True, slots=True)
class PowerMode:
    """One mode. ``gpu_hz`` and ``cpu_khz`` are None where it sets no cap; ``gates`` says which cores and GPU parts it
    powers, by parameter and argument."""

    id: int
    name: str
    gpu_hz: int | None = None
    cpu_khz: int | None = None
    gates: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def budget_w(self) -> float | None:
        """The watts that its name promises, as ``25W`` or ``MODE_30W``; None for a MAXN."""
        found = re.search(r"(\d+)W", self.name)
        return float(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class ModeTable:
    """All modes, and the attributes behind the gates."""

    modes: tuple[PowerMode, ...]
    paths: Mapping[tuple[str, str], tuple[str, ...]]  # names of one attribute, the newest kernel's first
    default: int | None

    def live(self, sysfs: Sysfs) -> tuple[PowerMode, ...]:
        """The modes that can be switched to without a reboot: those that power what is powered now, as sysfs says."""
        return tuple(mode for mode in self.modes if all(self._stands(sysfs, *gate) for gate in mode.gates.items()))

    def _stands(self, sysfs: Sysfs, gate: tuple[str, str], wanted: str) -> bool:
        for path in self.paths.get(gate, ()):
            now = sysfs.text_or(path)
            if now:
                return now == wanted
        # Core 0 of most kernels has no switch: it is always on. Of a gate that nothing shows nothing is known.
        return gate == (_CORES, "CORE_0") or gate[0] != _CORES or wanted == "0"


def parse(text: str) -> ModeTable:
    """Raises HardwareError for a file that is no such table."""
    modes: list[PowerMode] = []
    settings: list[list[tuple[str, str, str]]] = []
    paths: dict[tuple[str, str], list[str]] = {}
    default: int | None = None
    kind, name = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        section = _SECTION.match(" ".join(words))
        if section:
            kind = section[1]
            fields = dict(word.partition("=")[::2] for word in section[2].split())
            name = fields.get("NAME", "")
            if kind == "POWER_MODEL":
                modes.append(PowerMode(_number(fields.get("ID", ""), number), name))
                settings.append([])
            elif kind == "PM_CONFIG":
                default = _number(fields.get("DEFAULT", ""), number)
        elif kind == "PARAM" and len(words) == 2:
            newer = words[0].endswith("_KNEXT")
            known = paths.setdefault((name, words[0].removesuffix("_KNEXT")), [])
            known.insert(0 if newer else len(known), words[1])
        elif kind == "POWER_MODEL" and len(words) == 3:
            settings[-1].append((words[0], words[1], words[2]))
    if not modes:
        raise HardwareError("nvpmodel.conf has no power mode", "reinstall nvidia-l4t-nvpmodel")
    filled = tuple(_filled(mode, of) for mode, of in zip(modes, settings, strict=True))
    return ModeTable(filled, {key: tuple(names) for key, names in paths.items()}, default)


def _filled(mode: PowerMode, settings: list[tuple[str, str, str]]) -> PowerMode:
    gpu: list[int] = []
    cpu: list[int] = []
    gates: dict[tuple[str, str], str] = {}
    for parameter, argument, value in settings:
        if _GATES.match(parameter):
            gates[parameter, argument] = value
        elif argument == "MAX_FREQ" and value.isdecimal() and int(value) > 0:  # -1 and 0 are no cap
            if parameter == "GPU":
                gpu.append(int(value))
            elif parameter.startswith("CPU_"):
                cpu.append(int(value))
    return PowerMode(mode.id, mode.name, min(gpu, default=None), min(cpu, default=None), gates)


def _number(text: str, line: int) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise HardwareError(f"nvpmodel.conf, line {line}: {text!r} is no number") from error
