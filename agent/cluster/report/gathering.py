"""What the members of the stack say of themselves, asked of all at once and within a bound.

Whoever asks again within a second gets what the first one got. A member that does not answer, or not with a report, is
told with what was last known of it, how old that is, and why there is nothing newer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Final, Protocol

from agent.cluster.link.frames import Json
from agent.cluster.report.values import MemberReport, MemberStatus, NodeReport, StackReport
from agent.cluster.report.wire import ReportError, decode
from agent.cluster.state import MOST_NODES, Cluster, Node
from agent.errors import ThoxError

PURPOSE: Final = "report"
ANSWER_S: Final = 0.9  # that a member has to answer
GATHER_S: Final = 1.0  # for all of them
FRESH_S: Final = 1.0  # how long an answer, or that there is none, is believed


class Ask(Protocol):
    """Of ``Peers``."""

    def __call__(self, node: str, purpose: str, body: object, timeout_s: float) -> Json: ...


@dataclass(frozen=True, slots=True)
class _Told:
    """What came of asking one member."""

    report: NodeReport | None = None  # the last that was one
    report_at: float = 0.0
    status: MemberStatus = "silent"  # silent, or of one whose answer is no report, degraded
    reason: str = "it has not been asked yet"  # why the last question brought no report; empty: it did
    asked_at: float = float("-inf")


class Reports:
    """Thread-safe. One round of questions at a time, however many want to know."""

    def __init__(
        self,
        own: Callable[[], NodeReport],
        cluster: Callable[[], Cluster],
        silent_s: Callable[[], Mapping[str, float]],
        ask: Ask,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``own``: of this node. ``silent_s``: by node, seconds since it was last heard in any way."""
        self._own, self._cluster, self._silent_s, self._ask, self._clock = own, cluster, silent_s, ask, clock
        self._asking = threading.Lock()
        self._told: dict[str, _Told] = {}
        self._threads = ThreadPoolExecutor(MOST_NODES - 1, thread_name_prefix="report")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def stack(self) -> StackReport:
        """The whole stack now. Takes a second at most, and no time where this node is alone."""
        own, cluster = self._own(), self._cluster()
        others = [node for node in cluster.nodes if node.id != own.node.id]
        told = self._gather(others) if others else {}
        heard, now = self._silent_s(), self._clock()
        members = tuple(
            _own(own) if node.id == own.node.id else _member(node, told.get(node.id, _Told()), heard.get(node.id), now)
            for node in cluster.nodes
        )
        return StackReport(cluster, members)

    def _gather(self, nodes: Sequence[Node]) -> Mapping[str, _Told]:
        with self._asking:
            now = self._clock()
            self._told = {node.id: self._told.get(node.id, _Told()) for node in nodes}  # who left is forgotten
            asked = {}
            for node in nodes:
                if now - self._told[node.id].asked_at < FRESH_S:
                    continue
                try:
                    asked[self._threads.submit(self._one, node)] = node.id
                except RuntimeError:  # closed: nobody is asked any more
                    break
            done, late = wait(asked, GATHER_S)
            for each in done:
                self._told[asked[each]] = each.result()
            for each in late:
                name = asked[each]
                self._told[name] = self._without(name, "silent", "it did not answer in time")
            return dict(self._told)

    def _one(self, node: Node) -> _Told:
        try:
            answer = self._ask(node.id, PURPOSE, {}, ANSWER_S)
        except ThoxError as error:
            return self._without(node.id, "silent", error.message)
        now = self._clock()
        try:
            return _Told(decode(answer, node, now), now, "healthy", "", now)
        except ReportError as error:
            return self._without(node.id, "degraded", f"what it answers is no report: {error}")

    def _without(self, name: str, status: MemberStatus, reason: str) -> _Told:
        """No news: what was known stays."""
        return replace(self._told.get(name, _Told()), status=status, reason=reason, asked_at=self._clock())


def _own(report: NodeReport) -> MemberReport:
    status: MemberStatus = "healthy" if report.healthy else "degraded"
    return MemberReport(report.node, report, 0.0, 0.0, status, report.wrong)


def _member(node: Node, told: _Told, heard_s: float | None, now: float) -> MemberReport:
    """``heard_s``: how long ago, in any way but by a report."""
    report_age = None if told.report is None else max(0.0, now - told.report_at)
    ages = [each for each in (report_age, heard_s) if each is not None]
    status, reason = told.status, told.reason
    if not reason and told.report is not None and not told.report.healthy:
        status, reason = "degraded", told.report.wrong
    return MemberReport(node, told.report, report_age, min(ages, default=None), status, reason)
