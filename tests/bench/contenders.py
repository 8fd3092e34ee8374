"""The servers that are measured, each a real process on loopback: ours as it ships, and llama.cpp's with its flags."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

THREADS = 2
SLOTS = 16
CONTEXT = 4096


@dataclass(frozen=True)
class Endpoint:
    """Where a server answers, under which key and model name; ``resident_mb`` of its processes at that moment."""

    url: str
    key: str
    model: str
    pids: tuple[int, ...]

    def resident_mb(self) -> int:
        total = 0
        for pid in self.pids:
            status = Path(f"/proc/{pid}/status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
        return total // 1024


@dataclass(frozen=True)
class Thox:
    """This project: ``thox run`` with the checkpoint in its model store."""

    name: str
    state: Path
    model: str
    quantisation: str = "int4"

    @contextlib.contextmanager
    def running(self) -> Iterator[Endpoint]:
        inference, cluster = _free_port(), _free_port()
        (self.state / "config.toml").write_text(
            f'[models]\ndefault = "{self.model}"\npreload = ["{self.model}"]\n'
            f"[engine]\nthreads = {THREADS}\nslots = {SLOTS}\ncontext_length = {CONTEXT}\n"
            f'quantisation = "{self.quantisation}"\n'
            "speculation = false\n"  # the greedy text of random weights repeats itself, which would flatter us
            "[limits]\ninference_per_minute = 0\n"
        )
        environment = {
            **os.environ,
            "THOX_STATE_DIR": str(self.state),
            "THOX_INFERENCE_PORT": str(inference),
            "THOX_CLUSTER_PORT": str(cluster),
            "THOX_CLUSTER_LINK_PORT": "0",
        }
        thox = str(Path(sys.executable).parent / "thox")
        with _process([thox, "run"], environment) as process:
            url = f"http://127.0.0.1:{inference}"
            _wait(f"{url}/health", process)
            made = subprocess.run(
                [thox, "key", "create", f"bench-{process.pid}", "--permissions", "inference,models,cluster", "--quiet"],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            yield Endpoint(url, made.stdout.strip(), self.model, _family(process.pid))


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp's own server: a ``llama-server`` of your build, or else the one inside the xllamacpp package."""

    name: str
    gguf: Path
    flash_attention: bool
    repack: bool
    binary: Path | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Endpoint]:
        port = _free_port()
        if self.binary is None:
            command = [sys.executable, "-m", "tests.bench.xllamacpp_server", str(self.gguf), str(port)]
            command += ["--flash-attention"] * self.flash_attention + ["--no-repack"] * (not self.repack)
        else:
            command = [str(self.binary), "-m", str(self.gguf), "--host", "127.0.0.1", "--port", str(port)]
            command += ["-t", str(THREADS), "-tb", str(THREADS), "-np", str(SLOTS), "-c", str(CONTEXT * 4), "-kvu"]
            command += ["-fa", "on" if self.flash_attention else "off", "--no-webui"]
            command += ["--no-repack"] * (not self.repack)
        with _process(command, dict(os.environ)) as process:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/health", process)
            yield Endpoint(url, "none", self.gguf.stem, _family(process.pid))


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    log = Path(os.environ.get("BENCH_LOG", os.devnull))
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=20)


def _wait(url: str, process: subprocess.Popen[bytes], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}; set BENCH_LOG to a file to see why")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=10, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not get well in {seconds:.0f} s")


def _family(pid: int) -> tuple[int, ...]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (pid, *(member for child in children for member in _family(int(child))))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
