"""Runs a command inside the kernel of the hardware tests: root there, nobody special here.

The guest's root is this machine's own file system, read-only; the command finds the same Python, the same files and the
same working folder. What it may write is /run, /tmp and /dev/shm, in memory.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "tests/hil/kernel/config", ROOT / "tests/hil/kernel/plant_gpu.c")

_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t configfs none /sys/kernel/config
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir /run/out
mount -t hostfs -o {out} none /run/out
{python} {here}/guest_setup.py {kernel} {chips}
cd {cwd}
sh /run/out/command > /run/out/log 2>&1
echo $? > /run/out/status
echo o > /proc/sysrq-trigger
sleep 10
"""

MEMORY_MB = 320

# Addresses on the stand-in for an I2C bus: meters, a thermometer, a sink, and one that no driver knows.
CHIPS = (0x28, 0x40, 0x41, 0x44, 0x48, 0x55)


def built() -> Path | None:
    """Folder of the kernel that ``make hil`` built from what stands here now; None before."""
    key = hashlib.sha256(b"".join(file.read_bytes() for file in SOURCES)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thox" / "hil"
    found = [folder for folder in cache.glob(f"{key}-*") if (folder / "linux").exists()]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def run(kernel: Path, command: Sequence[str], timeout: float = 110.0) -> tuple[int, str]:
    """Exit status and output of ``command`` in the guest; when that does not even start, the console's last words."""
    with tempfile.TemporaryDirectory(prefix="thox-hil-") as folder:
        out = Path(folder)
        out.chmod(0o755)
        words: dict[str, object] = {"out": out, "kernel": kernel, "cwd": shlex.quote(str(Path.cwd()))}
        words |= {"python": sys.executable, "here": Path(__file__).parent}
        (out / "init").write_text(_INIT.format(chips=",".join(map(hex, CHIPS)), **words))
        (out / "init").chmod(0o755)

        exports = f"export PATH={shlex.quote(os.environ['PATH'])} HOME=/tmp PYTHONDONTWRITEBYTECODE=1\n"
        (out / "command").write_text(exports + shlex.join(command) + "\n")
        arguments = [
            f"mem={MEMORY_MB}M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={out}/init",
        ]
        arguments += ["con=null", "con0=null,fd:1", "quiet", "panic=1"]
        with (out / "console").open("wb") as console:
            guest = subprocess.Popen(
                [str(kernel / "linux"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"TMPDIR": _memory_folder()},
            )
            try:
                guest.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(guest.pid, 9)
                guest.wait()
        log = (out / "log").read_text(errors="replace") if (out / "log").exists() else ""
        if not (out / "status").exists():
            return 99, f"{log}\nthe guest ended early:\n{(out / 'console').read_text(errors='replace')[-2000:]}"
        return int((out / "status").read_text()), log


def _memory_folder() -> str:
    """Where the guest's memory lies, a file that may be executed from: in memory too, but for a container's."""
    shm = os.statvfs("/dev/shm")
    roomy = shm.f_bavail * shm.f_frsize >= MEMORY_MB << 20
    return "/dev/shm" if roomy and not shm.f_flag & os.ST_NOEXEC else tempfile.gettempdir()


if __name__ == "__main__":
    folder = built()
    if folder is None:
        sys.exit("the kernel is not built: make hil")
    status, output = run(folder, sys.argv[1:])
    print(output, end="")  # noqa: T201 (a command's output)
    sys.exit(status)
