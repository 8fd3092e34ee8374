"""Trees of /sys, /proc and /etc as the boards have them, as far as the drivers look: built, not copied.

From the mainline device trees, the kernel's documentation and published tables of power modes; no board was here.
"""

from __future__ import annotations

from pathlib import Path

from hal.base import BoardFacts
from hal.boards import BOARDS

ORIN_NX = "nvidia,p3767-0000"
ORIN_NANO = "nvidia,p3767-0005"
AGX_ORIN = "nvidia,p3701-0005"
THOR = "nvidia,p3834-0008"
JETSONS = (ORIN_NX, ORIN_NANO, AGX_ORIN, THOR)

NO_CAP = -1
# Modes: id, name, GPU Hz, CPU kHz, cores.
MODES = {
    ORIN_NX: (
        (0, "MAXN_SUPER", NO_CAP, NO_CAP, 8),
        (1, "10W", 306_000_000, 1_190_400, 4),
        (2, "15W", 408_000_000, 1_190_400, 4),
        (3, "25W", 408_000_000, 1_497_600, 8),
        (4, "40W", 1_173_000_000, 1_497_600, 8),
    ),
    ORIN_NANO: (
        (0, "15W", 612_000_000, 1_497_600, 6),
        (1, "25W", 918_000_000, 1_344_000, 6),
        (2, "MAXN_SUPER", NO_CAP, NO_CAP, 6),
        (3, "7W", 408_000_000, 960_000, 4),
    ),
    AGX_ORIN: (
        (0, "MAXN", NO_CAP, NO_CAP, 12),
        (1, "MODE_15W", 408_000_000, 1_113_600, 4),
        (2, "MODE_30W", 612_000_000, 1_728_000, 8),
        (3, "MODE_50W", 816_000_000, 1_497_600, 12),
    ),
    THOR: (
        (0, "MAXN", NO_CAP, NO_CAP, 14),
        (1, "120W", 1_386_000_000, 2_601_000, 14),
        (2, "90W", 1_020_000_000, 2_100_000, 14),
        (3, "70W", 750_000_000, 1_500_000, 14),
    ),
}
GPU = {ORIN_NX: "17000000.gpu", ORIN_NANO: "17000000.gpu", AGX_ORIN: "17000000.ga10b", THOR: "gpu-gpc-0"}
GPU_HZ = (306_000_000, 408_000_000, 612_000_000, 816_000_000, 918_000_000, 1_173_000_000)
CPU_KHZ = (729_600, 1_190_400, 1_497_600, 1_984_000)
PER_POLICY = 4  # cores of one cluster


class BoardTree:
    """A tree under ``root``, and hands that write into it what hardware would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/class/hwmon").mkdir(parents=True)
        (root / "sys/class/thermal").mkdir()

    def put(self, name: str, value: object) -> Path:
        file = self.root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        return file

    def text(self, name: str) -> str:
        return (self.root / name.lstrip("/")).read_text().strip()

    def chip(self, driver: str, place: str, **attributes: object) -> str:
        """A hwmon chip; returns its folder."""
        number = len(list((self.root / "sys/class/hwmon").iterdir()))
        folder = f"sys/class/hwmon/hwmon{number}"
        device = self.root / "sys/devices" / place
        device.mkdir(parents=True, exist_ok=True)
        self.put(f"{folder}/name", driver)
        (self.root / folder / "device").symlink_to(device)
        for attribute, value in attributes.items():
            self.put(f"{folder}/{attribute}", value)
        return folder

    def ina3221(self, place: str, **rails: tuple[int, int]) -> str:
        """Three channels, each of (mV, mA)."""
        attributes: dict[str, object] = {}
        for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
            attributes[f"in{channel}_label"] = label
            attributes[f"in{channel}_enable"] = 1
            attributes[f"in{channel}_input"] = millivolts
            attributes[f"curr{channel}_input"] = milliamperes
        return self.chip("ina3221", place, **attributes)

    def zone(self, kind: str, millidegrees: object) -> str:
        number = len(list((self.root / "sys/class/thermal").iterdir()))
        folder = f"sys/class/thermal/thermal_zone{number}"
        self.put(f"{folder}/type", kind)
        self.put(f"{folder}/temp", millidegrees)
        return folder

    def psy(self, name: str, **attributes: object) -> str:
        folder = f"sys/class/power_supply/{name}"
        for attribute, value in attributes.items():
            self.put(f"{folder}/{attribute}", value)
        return folder

    def gpu(self, name: str) -> str:
        folder = f"sys/class/devfreq/{name}"
        self.put(f"{folder}/available_frequencies", " ".join(map(str, GPU_HZ)))
        self.put(f"{folder}/min_freq", GPU_HZ[0])
        self.put(f"{folder}/max_freq", GPU_HZ[-1])
        return folder

    def cpus(self, cores: int) -> None:
        for core in range(0, cores, PER_POLICY):
            folder = f"sys/devices/system/cpu/cpufreq/policy{core}"
            for attribute, value in (("min", CPU_KHZ[0]), ("max", CPU_KHZ[-1])):
                self.put(f"{folder}/cpuinfo_{attribute}_freq", value)
                self.put(f"{folder}/scaling_{attribute}_freq", value)
        for core in range(1, cores):
            self.put(f"sys/devices/system/cpu/cpu{core}/online", 1)


def jetson(root: Path, part: str) -> tuple[BoardTree, BoardFacts]:
    """The tree of the module with this part number."""
    tree, facts = BoardTree(root), BOARDS[part]
    names = f"nvidia,carrier+{part.removeprefix('nvidia,')}\0{part}\0"
    tree.put("proc/device-tree/compatible", "").write_bytes(names.encode())
    tree.put("etc/nvpmodel.conf", nvpmodel_conf(part))
    tree.gpu(GPU[part])
    tree.cpus(facts.cores)
    for kind in ("cpu-thermal", "gpu-thermal", "soc0-thermal", "soc1-thermal", "tj-thermal"):
        tree.zone(kind, 41_500)
    if part in (ORIN_NX, ORIN_NANO):
        tree.ina3221("1-0040", VDD_IN=(5_040, 1_800), VDD_CPU_GPU_CV=(5_032, 600), VDD_SOC=(5_032, 500))
    elif part == AGX_ORIN:
        tree.ina3221("1-0040", VDD_GPU_SOC=(19_000, 300), VDD_CPU_CV=(19_000, 100), VIN_SYS_5V0=(5_000, 900))
        tree.ina3221("1-0041", NC=(0, 0), VDDQ_VDD2_1V8AO=(5_000, 300))
    else:
        tree.ina3221("2-0040", VDD_GPU=(19_000, 900), VDD_CPU_SOC_MSS=(19_000, 700), VIN_SYS_5V0=(5_000, 1_200))
        tree.chip("ina238", "2-0044", power1_input=43_000_000, in1_input=19_000, curr1_input=2_263)
    return tree, facts


def nvpmodel_conf(part: str) -> str:
    """In NVIDIA's format, with names of attributes of two ages of kernels."""
    cores = max(mode[4] for mode in MODES[part])
    lines = ["# nvpmodel configuration", "", "< PARAM TYPE=FILE NAME=CPU_ONLINE >"]
    lines += [f"CORE_{core} /sys/devices/system/cpu/cpu{core}/online" for core in range(cores)]
    lines += ["", "< PARAM TYPE=FILE NAME=TPC_POWER_GATING >", "TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask"]
    lines += ["", "< PARAM TYPE=CLOCK NAME=GPU >"]
    lines += ["MAX_FREQ /sys/devices/17000000.ga10b/devfreq/17000000.ga10b/max_freq"]
    lines += ["MAX_FREQ_KNEXT /sys/class/devfreq/17000000.gpu/max_freq", "", "### POWER_MODEL DEFINITIONS ###", ""]
    for number, name, gpu, cpu, online in MODES[part]:
        lines.append(f"< POWER_MODEL ID={number} NAME={name} >")
        lines += [f"CPU_ONLINE CORE_{core} {int(core < online)}" for core in range(cores)]
        lines += [f"TPC_POWER_GATING TPC_PG_MASK {0 if online == cores else 240}"]
        for policy in range(cores // PER_POLICY):
            lines += [f"CPU_A78_{policy} MIN_FREQ 729600", f"CPU_A78_{policy} MAX_FREQ {cpu}"]
        lines += ["GPU MIN_FREQ 0", f"GPU MAX_FREQ {gpu}", "EMC MAX_FREQ 0  # bytes of a comment", ""]
    return "\n".join([*lines, "< PM_CONFIG DEFAULT=0 >", "< FAN_CONFIG DEFAULT=quiet >", ""])
