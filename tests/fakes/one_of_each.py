"""A short life of a device: start, load both models, one chat answer, one embedding, stop. Ports come from THOX_*."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from agent.auth import PERMISSIONS, KeyRing
from agent.client import Client, ClientError
from agent.config import load, make_state_dir


def main() -> int:
    config = load()
    key = KeyRing(make_state_dir(config)).create("scenario", PERMISSIONS)[1]
    inference = Client(config.server.bind, config.server.inference_port, key)
    cluster = Client(config.server.bind, config.server.cluster_port, key)
    process = subprocess.Popen([sys.executable, "-m", "agent", "run"])
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None and time.monotonic() < deadline, "the device did not get healthy"
            try:
                inference.get("/health")
                break
            except ClientError:
                time.sleep(0.2)
        question = {"role": "user", "content": "Hello!"}
        asked = {"model": config.models.default, "messages": [question], "max_tokens": 8}
        inference.post("/v1/chat/completions", asked)
        inference.post("/v1/models/load", {"model": "all-minilm-l6-v2"})
        inference.post("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "Hello!"})
        cluster.get("/v1/cluster")
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(20)
    return status


if __name__ == "__main__":
    sys.exit(main())
