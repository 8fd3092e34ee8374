"""What is said of the power contract, as JSON. A number that is not known is null; what is wrong stands in words."""

from __future__ import annotations

import time
from collections.abc import Sequence

from agent.cluster.power.contracts import Standing
from agent.cluster.power.wire import Book, Grant, Share

Object = dict[str, object]


def contract_object(grant: Grant) -> Object:
    promise = grant.promise
    return {
        "id": promise.id,
        "node_id": promise.node_id,
        "requested_w": promise.requested_w,
        "min_w": promise.min_w,
        "priority": promise.priority,
        "granted_w": grant.granted_w,
        "floor_w": grant.floor_w,
        "applied_w": grant.applied_w,
        "expires_at": round(time.time() + promise.left_s),
        "supply_w": grant.supply_w,
        "reason": grant.reason,
    }


def contracts_object(books: Sequence[Book], own: Standing, hardware: str) -> Object:
    """``own``: of the node that answers."""
    shares = [(book.node_id, share) for book in books for share in book.shares]
    return {
        "object": "list",
        "node": own.node_id,
        "data": [contract_object(grant) for book in books for grant in book.grants],
        "nodes": [_share_object(by, share) for by, share in shares],
        "measured_w": _sum([share.measured_w for _, share in shares]),
        "supply_w": _sum([book.supply_w for book in books]),
        "usable_w": _sum([book.usable_w for book in books]),
        "cap_w": own.cap_w,
        "floor_w": own.floor_w,
        "peak_w": own.peak_w,
        "hardware": hardware,
    }


def _share_object(shared_by: str, share: Share) -> Object:
    return {
        "node_id": share.node_id,
        "shared_by": shared_by,
        "planned_w": _rounded(share.planned_w),
        "counted_w": _rounded(share.counted_w),
        "measured_w": _rounded(share.measured_w),
        "applied_w": share.applied_w,
        "floor_w": share.floor_w,
        "peak_w": share.peak_w,
        "admitted": share.admitted,
        "silent": share.silent,
    }


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one of them is not known."""
    known = [value for value in values if value is not None]
    return _rounded(sum(known)) if known and len(known) == len(values) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
