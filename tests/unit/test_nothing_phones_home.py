"""Nothing leaves the device that its owner did not send: start, load and answer try no connection of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import two_free_ports

ROOT = Path(__file__).parents[2]
FAKES = ROOT / "tests" / "fakes"
UNSHARE = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="this machine lets nobody make a network of their own")


def _tried(*command: str, quiet_ports: tuple[int, ...] = (1,), **variables: str) -> list[str]:
    """What the command tried to reach in a network where nothing is: "address:port", every one of them."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("THOX_", "ORT_"))}
    environ |= {"PYTHONPATH": str(ROOT), "QUIET_PORTS": ",".join(map(str, quiet_ports)), **variables}
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(FAKES / "lonely_network.py"), *command],
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["status"] == 0, done.stderr
    tried = report["tried"]
    assert isinstance(tried, list)
    return tried


def test_the_watcher_sees_a_connection_and_a_question_to_a_name_server() -> None:
    script = (
        "import socket\n"
        "for host in ('192.0.2.7', 'example.com'):\n"
        "    try: socket.create_connection((host, 443), 2)\n"
        "    except OSError: pass\n"
    )
    tried = _tried(sys.executable, "-c", script)
    assert "192.0.2.7:443" in tried and any(address.endswith(":53") for address in tried)


def test_a_whole_life_of_the_device_tries_no_connection_of_its_own(tmp_path: Path) -> None:
    inference, cluster = two_free_ports()
    tried = _tried(
        sys.executable,
        str(FAKES / "one_of_each.py"),
        quiet_ports=(inference, cluster),
        THOX_STATE_DIR=str(tmp_path),
        THOX_INFERENCE_PORT=str(inference),
        THOX_CLUSTER_PORT=str(cluster),
        THOX_CLUSTER_LINK_PORT="0",
    )
    assert tried == []
