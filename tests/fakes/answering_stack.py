"""Modules of a World in this process, each with all that answers on port 5381 behind it: reports and events, too."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from fake_models import FakeLoader, write_checkpoint
from touching_stack import TouchingNode, TouchingStack

from agent.api import schema_cluster
from agent.api.render_cluster import cluster_object, hardware, nodes_object, topology_object
from agent.cluster.report.wire import encode
from agent.cluster.service import ClusterService
from agent.models.host import ModelHost
from agent.models.memory import available_bytes
from agent.models.store import ModelStore
from hal.boards import ORIN_NX_16
from hal.sim import sim_hardware
from hal.world_port import LocalPort


class AnsweringNode(TouchingNode):
    """One module with a model ``a``."""

    def start(self) -> None:
        self.speaking = threading.Event()
        self.hardware = sim_hardware(LocalPort(self.world, self.name), ORIN_NX_16)
        store = ModelStore(self.state_dir, self.shipped(), {})
        self.host = ModelHost(store, FakeLoader(), available=self.available)
        self.service = ClusterService(
            self.state_dir,
            self.device,
            f"{self.hardware.link.address()}:5381",
            self.link_port,
            "0.1.0",
            self.hardware,
            self.host,
            store,
        )
        self.stack = self.service.stack
        self.prepared()
        self.service.start()

    def shipped(self) -> dict[str, Path]:
        """Its models, by name."""
        return {"a": write_checkpoint(self.state_dir / "shipped-a")}

    def available(self) -> int:
        """Bytes of memory for models."""
        return available_bytes()

    def prepared(self) -> None:
        """The last moment before its service starts."""

    def stop(self) -> None:
        self.speaking.set()
        self.service.close()
        self.host.close()
        self.hardware.close()

    def hush(self) -> None:
        """No more answers to whoever asks for its report, until ``speak``; it is there in all else."""
        self.speaking = threading.Event()

        def wait(_node: str, _body: object) -> dict[str, Any]:
            assert self.speaking.wait(30)
            return {}

        self.stack.peers.serve("report", wait)

    def speak(self, **lies: object) -> None:
        """Its reports are as they should be, but for these fields."""
        self.stack.peers.serve("report", lambda *_asked: {**encode(self.service.report(), time.monotonic()), **lies})
        self.speaking.set()

    # --- what a client of this node reads

    def topology(self) -> dict[str, Any]:
        body = topology_object(self.service.cluster(), self.id, hardware(simulated=True))
        return _checked(body, schema_cluster.TOPOLOGY)

    def status(self) -> dict[str, Any]:
        return _checked(cluster_object(self.service.stack_report(), self.id), schema_cluster.CLUSTER)

    def members(self) -> dict[str, Any]:
        """By node id."""
        body = _checked(nodes_object(self.service.stack_report(), self.id), schema_cluster.NODES)
        assert body["node_count"] == len(body["nodes"]) and body["node"] == self.id
        return {node["id"]: node for node in body["nodes"]}


class AnsweringStack(TouchingStack):
    """``members`` are its nodes, typed as what they are."""

    module = AnsweringNode

    @property
    def members(self) -> list[AnsweringNode]:
        return [node for node in self.nodes if isinstance(node, AnsweringNode)]


@contextlib.contextmanager
def answering_stack(folder: Path, size: int) -> Iterator[AnsweringStack]:
    stack = AnsweringStack(folder, size)
    try:
        yield stack
    finally:
        stack.close()


def _checked(body: object, schema: object) -> dict[str, Any]:
    jsonschema.validate(body, schema)
    assert isinstance(body, dict)
    return body
