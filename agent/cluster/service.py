"""What stands behind port 5381: this node, its stack, and what every member says of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.cluster.client_address import ClientAddress
from agent.cluster.documents.manifest import ModelManifest
from agent.cluster.mdns.service import Mdns
from agent.cluster.plans import Plans
from agent.cluster.power.contracts import PowerContracts
from agent.cluster.power.service import PowerService
from agent.cluster.power.wire import Grant
from agent.cluster.report.event_hub import EventHub
from agent.cluster.report.gathering import PURPOSE as REPORT
from agent.cluster.report.gathering import Reports
from agent.cluster.report.own import OwnReport
from agent.cluster.report.values import NodeReport, StackReport
from agent.cluster.report.wire import encode
from agent.cluster.stack import StackService
from agent.cluster.state import Cluster, node_id
from agent.config import ServerConfig
from agent.models.host import ModelHost
from agent.models.store import ModelStore
from hal.base import Hardware


class ClusterService:
    """Answers for port 5381. ``device_id`` is the device's UUID, ``address`` where its cluster port listens."""

    def __init__(
        self,
        state_dir: Path,
        device_id: str,
        address: str,
        link_port: int,
        version: str,
        hardware: Hardware,
        host: ModelHost,
        store: ModelStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node_id, self._version = node_id(device_id), version
        self._hardware = hardware
        self._mdns: Mdns | None = None
        told = ClientAddress(address, hardware.link)
        self._own = OwnReport(self.node_id, told, version, hardware, host, store, self._grants, self._faults, clock)
        self.stack = stack = StackService(state_dir, device_id, self._own.facts, hardware, version, link_port)
        self.power = PowerService(state_dir, self.node_id, hardware, stack.cluster, stack.peers, clock)
        self.contracts = PowerContracts(self.power)
        stack.membership.listen(lambda _cluster: self.power.wake())
        self._reports = Reports(self.report, stack.cluster, stack.membership.silent_s, stack.peers.ask)
        self.events = EventHub(self._reports.stack, stack.cluster, stack.membership.listen)
        self.manifest = ModelManifest(stack.documents.store, device_id, store.models)
        self.plans = Plans(
            self.node_id,
            stack.cluster,
            stack.membership.admits,
            self._reports.stack,
            stack.peers,
            host,
            store,
            self.manifest.models_of,
        )
        stack.peers.serve(REPORT, lambda _node, _body: encode(self.report(), clock()))

    def announce(self, server: ServerConfig) -> None:
        """Tell the LAN, from ``start`` to ``close``, what is served there and who leads. Before ``start``."""
        self._mdns = Mdns(self.node_id, self._version, server, self.cluster(), simulated=self.simulated)
        self.stack.membership.listen(self._mdns.update)

    def start(self) -> None:
        self.stack.start()
        self.power.start()
        self.events.start()
        if self._mdns is not None:
            self._mdns.start()

    def close(self) -> None:
        if self._mdns is not None:
            self._mdns.close()
        self.events.close()
        self._reports.close()
        self.power.close()
        self.stack.close()

    @property
    def simulated(self) -> bool:
        """Whether this node's hardware is."""
        return self._hardware.simulated

    def cluster(self) -> Cluster:
        """The stack as this node knows it."""
        return self.stack.cluster()

    def report(self) -> NodeReport:
        """This node in detail."""
        return self._own.report()

    def stack_report(self) -> StackReport:
        """Every member in detail, each asked for it. Takes a second at most."""
        return self._reports.stack()

    def _grants(self) -> tuple[Grant, ...]:
        return self.contracts.book().grants

    def _faults(self) -> Mapping[str, str]:
        """What is wrong with what this node does; empty where nothing is. Each is a check of its report."""
        return {
            "power_cap": self.power.fault,
            "power_alert": self.power.alert,
            "power_contract": self.power.trouble,
            "membership": self.stack.fault,
            "documents": self.stack.documents.fault,
            "mdns": self._mdns.fault if self._mdns is not None else "",
        }
