"""The real device: the process that `thox run` starts, on free loopback ports, with a state of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from free_ports import two_free_ports

ROOT = Path(__file__).parents[2]
THOX = (sys.executable, "-m", "agent")
START_S = 90.0
STOP_S = 20.0


@dataclass(frozen=True)
class Device:
    """A running device. ``inference`` and ``cluster`` are URLs without a path; ``key`` has every permission."""

    inference: str
    cluster: str
    key: str
    state_dir: Path
    process: subprocess.Popen[bytes]
    environ: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def thox(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a `thox` command against this device."""
        return subprocess.run(
            [*THOX, *arguments], env=self.environ, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60
        )

    def log(self) -> str:
        return (self.state_dir / "log").read_text()


StartDevice = Callable[..., Device]  # an optional config.toml to the running device


def start(state_dir: Path, config_toml: str) -> Device:
    inference, cluster = two_free_ports()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("THOX_")}
    environ |= {
        "THOX_STATE_DIR": str(state_dir),
        "THOX_INFERENCE_PORT": str(inference),
        "THOX_CLUSTER_PORT": str(cluster),
        "THOX_CLUSTER_LINK_PORT": "0",  # it stays alone
        "THOX_LIMITS_INFERENCE_PER_MINUTE": "0",
        "THOX_LIMITS_CLUSTER_PER_MINUTE": "0",
    }
    if config_toml:
        (state_dir / "config.toml").write_text(config_toml)
    for name in ("LIMITS_INFERENCE_PER_MINUTE", "LIMITS_CLUSTER_PER_MINUTE"):
        if name.removeprefix("LIMITS_").lower() in config_toml:  # the test wants limits of its own
            del environ[f"THOX_{name}"]
    with (state_dir / "log").open("wb") as log:
        process = subprocess.Popen([*THOX, "run"], env=environ, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(f"http://127.0.0.1:{inference}", process, state_dir)
        made = subprocess.run(
            [*THOX, "key", "create", "tests", "--permissions", "inference,models,cluster,power,admin", "--quiet"],
            env=environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except BaseException:
        process.kill()
        process.wait(10)
        raise
    key = made.stdout.removesuffix("\n")
    return Device(f"http://127.0.0.1:{inference}", f"http://127.0.0.1:{cluster}", key, state_dir, process, environ)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], state_dir: Path) -> None:
    deadline = time.monotonic() + START_S
    last = "nothing answered"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                return
        except urllib.error.HTTPError as error:
            with error:
                last = error.read().decode()
        except OSError as error:
            last = str(error)
        time.sleep(0.1)
    raise AssertionError(f"the device did not get healthy: {last}\n{(state_dir / 'log').read_text()}")


def stop(device: Device) -> None:
    device.process.send_signal(signal.SIGTERM)
    try:
        status = device.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        device.process.kill()
        device.process.wait(10)
        raise AssertionError(f"the device did not stop\n{device.log()}") from None
    assert status == 0, f"the device ended with status {status}\n{device.log()}"
    assert device.key not in device.log(), "a key is in the log"
