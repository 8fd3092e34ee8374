"""Debian's mDNS on a host of a LAN of namespaces: another responder, and a resolver that nobody here wrote."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from lan import Host

NEEDED = ("avahi-daemon", "avahi-resolve", "avahi-browse", "dbus-daemon", "unshare", "nsenter")
WITHIN_S = 20.0
_CONFIG = """[server]
host-name={name}
use-ipv6={ipv6}
disallow-other-stacks=no
[publish]
publish-hinfo=no
publish-workstation=no
"""


def why_not() -> str:
    """What is missing; empty when nothing is."""
    missing = [each for each in NEEDED if shutil.which(each) is None]
    return f"{', '.join(missing)} not found: apt-get install avahi-daemon avahi-utils" if missing else ""


class Avahi:
    """Its daemon with a bus of its own, in a mount namespace with a /run of its own: this machine's are not touched."""

    def __init__(self, host: Host, name: str, folder: Path, *, ipv6: bool = True) -> None:
        self._host = host
        config, self._log, self._seen = (folder / f"{name}.{kind}" for kind in ("conf", "log", "seen"))
        self._browser: subprocess.Popen[bytes] | None = None
        config.write_text(_CONFIG.format(name=name, ipv6="yes" if ipv6 else "no"))
        own_run = "mount -t tmpfs none /run && mkdir /run/dbus /run/avahi-daemon && exec dbus-daemon"
        with host:
            self._bus = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", f"{own_run} --system --nofork --nopidfile"], stderr=subprocess.DEVNULL
            )
        self._inside = ["nsenter", "-t", str(self._bus.pid), "-m"]
        self._until(Path(f"/proc/{self._bus.pid}/root/run/dbus/system_bus_socket").exists)
        with host, self._log.open("w") as log:
            self._daemon = subprocess.Popen(
                [*self._inside, "avahi-daemon", "-f", str(config), "--no-drop-root", "--no-chroot", "--no-rlimits"],
                stderr=log,
            )
        self._until(lambda: "Server startup complete" in self.log)

    @property
    def log(self) -> str:
        """What the daemon said until now."""
        return self._log.read_text()

    def resolve(self, name: str, version: int = 4) -> str:
        """The name's address, as this host's programs would get it; empty where nobody says."""
        return self._run("avahi-resolve", f"-{version}", "-n", name).partition("\t")[2].strip()

    def browse(self, service: str) -> None:
        """Look for such services from now on; ``found`` says which there are."""
        with self._host, self._seen.open("w") as seen:
            self._browser = subprocess.Popen(
                [*self._inside, "stdbuf", "-oL", "avahi-browse", "-pr", service], stdout=seen
            )

    @property
    def found(self) -> dict[str, list[str]]:
        """By instance: host, address, port, then each string of its TXT record."""
        instances: dict[str, list[str]] = {}
        for row in (line.split(";") for line in self._seen.read_text().splitlines()):
            if row[0] == "=" and len(row) == 10:
                instances[row[3]] = [*row[6:9], *_strings(row[9])]
            elif row[0] == "-":
                instances.pop(row[3], None)
        return instances

    def close(self) -> None:
        """With its goodbye."""
        for process in (self._browser, self._daemon, self._bus):
            if process is not None:
                process.terminate()
                process.wait(WITHIN_S)

    def _run(self, *command: str) -> str:
        with self._host:
            done = subprocess.run([*self._inside, *command], capture_output=True, text=True, timeout=WITHIN_S)
        return done.stdout

    def _until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + WITHIN_S
        while not true():
            assert time.monotonic() < end and self._bus.poll() is None, self._log.read_text()
            time.sleep(0.01)


def _strings(field: str) -> Iterable[str]:
    return field.strip().strip('"').split('" "')
