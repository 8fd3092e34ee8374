"""The udev rules, as udev itself applies them to devices of this kernel: what the group gets, and what it does not."""

from __future__ import annotations

import grp
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from plant import plant

from hal.boards import BOARDS, wiring

RULES = Path(__file__).parents[3] / "udev/90-thox.rules"
LATE = RULES.with_name("99-thox-reader.rules")
HERE = Path("/run/udev/rules.d/90-thox.rules")
I2C, TTY = Path("/dev/i2c-0"), Path("/dev/tty0")
READER = Path("/dev/thox-nfc0")
LINE = re.compile(r"90-thox\.rules:\d+,? (.*)")

pytestmark = pytest.mark.skipif(shutil.which("udevadm") is None, reason="udevadm is not installed: apt install udev")


@pytest.fixture(scope="module", autouse=True)
def group() -> None:
    """The group, in a list of groups that is the guest's alone."""
    Path("/run/group").write_text(Path("/etc/group").read_text() + "thox:x:4242:\n")
    subprocess.run(["mount", "--bind", "/run/group", "/etc/group"], check=True)
    assert grp.getgrnam("thox").gr_gid == 4242


@pytest.fixture(autouse=True)
def rules() -> Iterator[str]:
    text = RULES.read_text()
    HERE.parent.mkdir(parents=True, exist_ok=True)
    HERE.write_text(text)
    yield text
    for device in (I2C, TTY):
        device.chmod(0o600)
    READER.unlink(missing_ok=True)  # udev has made its own of it
    READER.symlink_to(plant().reader.path)


def plugged(device: str) -> tuple[list[str], str]:
    """What our rules did when the device came, and all that udev says of the device."""
    done = subprocess.run(["udevadm", "test", "--action=add", device], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return LINE.findall(done.stderr), done.stdout


def test_gpio_chips_are_the_groups() -> None:
    chip = Path(plant().wires.device)
    done, _ = plugged(f"/sys/bus/gpio/devices/{chip.name}")
    assert done == ["GROUP 4242", "MODE 0660"]
    assert (chip.stat().st_gid, chip.stat().st_mode & 0o777) == (4242, 0o660)


def test_a_bus_that_is_not_named_stays_roots() -> None:
    done, _ = plugged("/sys/class/i2c-dev/i2c-0")
    assert done == [] and I2C.stat().st_gid == 0


def test_a_named_bus_is_the_groups(rules: str) -> None:
    HERE.write_text(rules.replace("c250000.i2c", "i2c-0"))  # a controller's name is looked for in all that is above
    assert plugged("/sys/class/i2c-dev/i2c-0")[0] == ["GROUP 4242", "MODE 0660"]
    assert I2C.stat().st_gid == 4242


def test_every_bus_that_the_board_table_names_has_its_rule(rules: str) -> None:
    for facts in BOARDS.values():
        for bus in {wiring(facts).tag_bus, wiring(facts).sink_bus} - {""}:
            assert f'SUBSYSTEM=="i2c-dev", KERNELS=="{bus}"' in rules


def test_the_readers_port_gets_its_name_and_a_unit_and_is_left_alone_by_modem_managers(rules: str) -> None:
    assert plugged("/sys/class/tty/tty0")[0] == []
    HERE.write_text(rules.replace("3100000.serial", "tty0"))
    done, said = plugged("/sys/class/tty/tty0")
    assert "LINK 'thox-nfc0'" in done and "GROUP 4242" in done
    assert "ID_MM_DEVICE_IGNORE=1" in said and re.search(r"TAGS=.*:systemd:", said)


def test_a_serial_adapter_that_is_the_reader_holds_no_bytes_back(rules: str) -> None:
    """The attribute is another here: no USB adapter is in the guest."""
    stands = Path("/sys/class/tty/tty0/power/control")
    late = LATE.read_text()
    assert 'TEST=="device/latency_timer", ATTR{device/latency_timer}="1"' in late
    late = late.replace("device/latency_timer", "power/control").replace('="1"', '="on"')
    (HERE.parent / LATE.name).write_text(late)
    try:
        stands.write_text("auto")
        plugged("/sys/class/tty/tty0")  # a port that is not the reader's
        assert stands.read_text() == "auto\n"
        HERE.write_text(rules.replace("3100000.serial", "tty0"))
        plugged("/sys/class/tty/tty0")
        assert stands.read_text() == "on\n"
    finally:
        (HERE.parent / LATE.name).unlink()


def test_a_rule_with_a_mistake_would_be_noticed(rules: str) -> None:
    HERE.write_text(rules + 'SUBSYSTEM=="gpio", GRUOP="thox"\n')
    done, _ = plugged(f"/sys/bus/gpio/devices/{Path(plant().wires.device).name}")
    assert done != ["GROUP 4242", "MODE 0660"]
