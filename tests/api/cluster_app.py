"""The app of port 5381 with model management, over a simulated device whose parts and clock a test turns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fake_models import FakeLoader, write_checkpoint
from werkzeug.test import TestResponse

from agent.api.cluster import make_cluster_app
from agent.api.models import models_blueprint
from agent.auth import KeyRing
from agent.cluster.service import ClusterService
from agent.config import Config, LimitsConfig, ModelsConfig
from agent.models.disk import Disk
from agent.models.host import ModelHost
from agent.models.pull import Puller
from agent.models.store import ModelStore
from agent.ratelimit import RateLimiter
from agent.telemetry import Telemetry
from hal.sim import SimDevice

DEVICE_ID = "01234567-89ab-4def-8123-456789abcdef"


class Device:
    """One node with text models ``a`` and ``b``, an embedding model ``e``, and ``gpt-4o`` as another name of ``a``."""

    def __init__(self, state_dir: Path, registry: str = "") -> None:
        self.now, self.busy = 1000.0, 0.0
        builtin = {name: write_checkpoint(state_dir / f"shipped-{name}") for name in ("a", "b")}
        builtin["e"] = write_checkpoint(state_dir / "shipped-e", embedding=True)
        self.loader = FakeLoader()
        self.store = ModelStore(state_dir, builtin, {"gpt-4o": "a"})
        self.host = ModelHost(self.store, self.loader, quick_s=10.0)
        self.sim = SimDevice(lambda: self.now, lambda: self.busy)
        self.service = ClusterService(
            state_dir,
            DEVICE_ID,
            "127.0.0.1:5381",
            0,
            "0.1.0",
            self.sim.hardware,
            self.host,
            self.store,
            lambda: self.now,
        )
        (state_dir / "device.id").write_text(DEVICE_ID)
        self.keys = KeyRing(state_dir, self.service.stack.documents.store)
        self.key = self.keys.create("owner", ["inference", "models", "cluster", "power", "admin"])[1]
        config = Config(state_dir=state_dir, limits=LimitsConfig(cluster_per_minute=0))
        self.puller = Puller(self.store, ModelsConfig(registry=registry))
        self.disk = Disk(self.store, self.puller.blobs, state_dir / "cache")
        routes = models_blueprint(
            self.host, self.store, self.puller, self.disk, lambda model: ("node-1", "node-2") if model == "a" else ()
        )
        self.app = make_cluster_app(self.service, self.host, self.keys, RateLimiter(), Telemetry(), config, [routes])

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        data = None if body is None else json.dumps(body)
        kind = None if body is None else "application/json"
        return self.app.test_client().open(path, method=method, data=data, content_type=kind, headers=headers)

    def get(self, path: str) -> dict[str, Any]:
        return self._good(self.call("GET", path))

    def post(self, path: str, **body: object) -> dict[str, Any]:
        return self._good(self.call("POST", path, body))

    def refused(self, method: str, path: str, status: int, **body: object) -> dict[str, Any]:
        """The error of a call that must fail with this status."""
        response = self.call(method, path, body if method == "POST" else None)
        assert response.status_code == status, response.get_data(as_text=True)
        error: dict[str, Any] = response.get_json()["error"]
        assert error["code"] == status and error["message"] and error["type"]
        return error

    def key_for(self, *permissions: str) -> str:
        return self.keys.create("-".join(permissions), permissions)[1]

    def _good(self, response: TestResponse) -> dict[str, Any]:
        assert response.status_code == 200, response.get_data(as_text=True)
        answer: dict[str, Any] = response.get_json()
        return answer


@contextlib.contextmanager
def open_device(state_dir: Path, registry: str = "") -> Iterator[Device]:
    device = Device(state_dir, registry)
    try:
        yield device
    finally:
        device.loader.gate.set()
        device.puller.close()
        device.host.close()
        device.service.close()
