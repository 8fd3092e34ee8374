"""What model management says, as JSON."""

from __future__ import annotations

from agent.api.render import Object
from agent.models.checkpoint import StoredModel
from agent.models.details import Details
from agent.models.disk import Usage
from agent.models.lease import HostedModel
from agent.models.memory import Memory
from agent.models.pull import Progress


def model_object(name: str, model: StoredModel, hosted: HostedModel) -> Object:
    """OpenAI's four fields and ours. ``name`` is the one that was asked for, ``root`` the model's own."""
    status = hosted.status
    shown: Object = {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "thox" if model.builtin else "local",
        "kind": model.kind,
        "state": "broken" if model.broken else hosted.state,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "format": model.format,
        "quantisation": model.quantisation,
        "bytes": model.bytes,
        "context_length": model.context_length if status is None else status.context_length,
        "modified": model.modified,
        "digest": model.short,
        "source": model.source,
        "root": model.name,
    }
    if model.base:
        shown["base"] = model.base
    if model.broken or hosted.error:
        shown["error"] = model.broken or hosted.error
    return {**shown, **_hosted(hosted)}


def details_object(details: Details, needed: Memory | None, free: int, path: str | None) -> Object:
    """What one model's own page adds. ``needed``: what a load as the configuration has it would take."""
    shown: Object = {
        "licence": details.licence,
        "template": details.template,
        "sampling": dict(details.sampling),
    }
    if needed is not None:
        shown["needed"] = {**needed.to_json(), "available_bytes": max(0, free)}
    if path is not None:
        shown["path"] = path
    return shown


def state_object(hosted: HostedModel) -> Object:
    shown: Object = {"model": hosted.name, "state": hosted.state, "seconds": round(hosted.seconds, 3)}
    if hosted.status is not None:
        shown["context_length"] = hosted.status.context_length
        shown["slots"] = hosted.status.slots
    return {**shown, **_hosted(hosted)}


def progress_object(progress: Progress) -> Object:
    """One step of a pull, with the files that moved since the step before."""
    return {
        "status": progress.status,
        "completed": progress.completed,
        "total": progress.total,
        "blobs": [
            {"path": blob.path, "digest": blob.digest, "completed": blob.completed, "total": blob.total}
            for blob in progress.blobs
        ],
    }


def usage_object(usage: Usage) -> Object:
    return {
        "models": [
            {"model": one.name, "bytes": one.files, "shared_bytes": one.shared, "packed_bytes": one.packed}
            for one in usage.models
        ],
        "models_bytes": usage.files,
        "packed_bytes": usage.packed,
        "unused_bytes": usage.blobs,
        "partial_bytes": usage.partial,
        "free_bytes": usage.free,
        "disk_bytes": usage.total,
    }


def _hosted(hosted: HostedModel) -> Object:
    """What is only to be said of a model that is in memory, or on its way."""
    shown: Object = {}
    if hosted.loading is not None:
        shown["loading"] = hosted.loading.to_json()
    if hosted.memory is not None:
        shown["memory"] = hosted.memory.to_json()
        shown["answering"] = hosted.leases
        shown["expires_in_s"] = None if hosted.expires_s is None else round(hosted.expires_s, 1)
    return shown
