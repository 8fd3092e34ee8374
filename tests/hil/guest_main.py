"""Runs in the guest: builds the plant, starts the root helper, and lets pytest at the drivers.

The board that the drivers find is an Orin NX 16 GB: its device tree is a file, everything else the kernel's own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "hal"), str(HERE.parents[1])]

from plant import plant  # noqa: E402 (the path comes first)

from hal.power_ladder import Step, dumps  # noqa: E402

BOARD = Path("/run/board")
STEPS = (Step(10.0, 408_000_000), Step(15.0, 612_000_000), Step(20.0, 816_000_000), Step(25.0, 918_000_000), Step(40.0))
STACK = f"""
mode = "auto"
root = "{BOARD}"
hands = "guest_hands:GuestHands"

[wiring]
meter_label = "ina3221 0-0040#1"
tag_bus = ""
sink_bus = ""
supply_w = "65"
link = "lo"
"""


def prepare() -> None:
    (BOARD / "proc/device-tree").mkdir(parents=True)
    (BOARD / "proc/device-tree/compatible").write_bytes(b"nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0")
    for name in ("sys", "dev", "run"):
        (BOARD / name).symlink_to(f"/{name}")
    Path("/dev/thox-nfc0").symlink_to(plant().reader.path)
    Path("/run/stack.toml").write_text(STACK)
    Path("/run/ladder.json").write_text(dumps(STEPS))
    Path("/run/thox").mkdir()


def start_helper() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hal.power_helper", "--group", "root", "--gpu", "17000000.gpu"]
    helper = subprocess.Popen([*command, "--ladder", "/run/ladder.json"])
    until = time.monotonic() + 60
    while not Path("/run/thox/power.sock").exists():
        assert helper.poll() is None and time.monotonic() < until, "the power helper does not start"
        time.sleep(0.05)  # there is nothing to wait on before the socket is
    return helper


if __name__ == "__main__":
    prepare()
    helper = start_helper()
    # Only what these tests need of pytest: reading files is what takes time here.
    alone = ["--disable-plugin-autoload", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    status = pytest.main([*alone, "--confcutdir", str(HERE.parent / "hal"), *sys.argv[1:]])
    helper.terminate()
    helper.wait(30)
    plant().neighbours_link.close()
    sys.exit(status)
