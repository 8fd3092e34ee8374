"""One node, built from a Config: hardware, keys, models, cluster and the two apps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from agent.api.cluster import make_cluster_app
from agent.api.inference import make_inference_app
from agent.api.models import models_blueprint
from agent.auth import KeyRing
from agent.cluster.documents.names import SharedNames
from agent.cluster.documents.settings import KIND as SETTINGS
from agent.cluster.documents.settings import SharedSettings
from agent.cluster.service import ClusterService
from agent.config import Config, LimitsConfig, make_state_dir
from agent.engine.base import EngineStatus
from agent.identity import device_id
from agent.loader import Loader, packed_weights
from agent.models.checkpoint_check import check_loadable
from agent.models.disk import Disk
from agent.models.host import ModelHost
from agent.models.options import FOR_EVER
from agent.models.pull import Puller
from agent.models.store import ModelStore, builtin_models
from agent.ratelimit import RateLimiter
from agent.server import Wsgi
from agent.telemetry import Telemetry
from hal.open import open_hardware
from hal.world_wire import SOCKET


class Node:
    """Everything a device is while it runs. ``start`` returns at once; models load in the background."""

    def __init__(self, config: Config) -> None:
        """Opens the hardware and reads keys and models. Raises ConfigError, ThoxError or HardwareError."""
        self._config = config
        state_dir = make_state_dir(config)
        limiter, telemetry = RateLimiter(), Telemetry()
        store = ModelStore(state_dir, builtin_models(), config.models.aliases)
        loader = Loader(config, telemetry, store.find)
        self._host = ModelHost(
            store,
            loader,
            needed=loader.needed,
            keep_alive_s=config.models.keep_alive_s or FOR_EVER,
            auto_unload=config.models.auto_unload,
        )
        telemetry.watch(self._statuses)
        address = config.server.address(config.server.cluster_port)
        self._hardware = hardware = open_hardware(
            config.hardware.mode,
            load=self._load,
            world=Path(config.hardware.world) if config.hardware.world else None,
            module=config.hardware.module,
            wiring=config.hardware.wiring,
            serve_at=state_dir / SOCKET,
        )
        self._cluster = ClusterService(
            state_dir,
            device_id(state_dir),
            address,
            config.cluster.link_port,
            version("thox-agent"),
            hardware,
            self._host,
            store,
        )
        if config.cluster.mdns:
            self._cluster.announce(config.server)
        documents = self._cluster.stack.documents.store
        keys, store.names = KeyRing(state_dir, documents), SharedNames(documents)
        manifest = self._cluster.manifest
        self._cluster.stack.documents.tell_also(manifest.tell)
        self._puller = Puller(store, config.models, check=check_loadable)
        self._settings = SharedSettings(documents, config)
        self._follow_settings()
        documents.on_change(SETTINGS, self._follow_settings)
        disk = Disk(store, self._puller.blobs, packed_weights(config))
        disk.sweep_packed()
        management = [models_blueprint(self._host, store, self._puller, disk, manifest.nodes_with)]
        inference = make_inference_app(self._host, keys, limiter, telemetry, config, management, self._limits)
        cluster = make_cluster_app(
            self._cluster, self._host, keys, limiter, telemetry, config, management, self._limits
        )
        self.apps: Mapping[int, Wsgi] = {
            config.server.inference_port: inference.wsgi_app,
            config.server.cluster_port: cluster.wsgi_app,
        }
        self._closing = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Begin to load what ``models.preload`` names."""
        self._cluster.start()
        self._host.preload(self._config.models.preload)

    def close(self) -> None:
        """End every answer and free the models. The second call, from whichever thread, waits for the first."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._puller.close()
                self._cluster.close()
                self._host.close(wait_s=2.0)
                self._hardware.close()

    def _follow_settings(self) -> None:
        self._puller.registry = self._settings.now().models.registry

    def _limits(self) -> LimitsConfig:
        return self._settings.now().limits

    def _statuses(self) -> list[EngineStatus]:
        return [hosted.status for hosted in self._host.states() if hosted.status is not None]

    def _load(self) -> float:
        """How busy the node is, 0 to 1: the simulated device draws and heats by it."""
        statuses = [status for status in self._statuses() if status.slots]
        return max((status.running / status.slots for status in statuses), default=0.0)


def build(config: Config) -> Node:
    """A node that is not started yet."""
    return Node(config)
