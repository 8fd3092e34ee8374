"""Bringing models onto the device: from an OCI registry, from the Hugging Face hub, or from the device itself.

Nothing that comes is believed: sizes and digests are checked while the bytes stream into the blob store, and they
become a model in one step once all of them are there and are one. Until then the model of this name stays as it was.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from agent.config import ModelsConfig
from agent.errors import ModelError, NoRoomError, NotFoundError, RequestError, UnavailableError
from agent.models.checkpoint import RECORD, StoredModel, inspect
from agent.models.checkpoint_check import check_architecture
from agent.models.checkpoint_files import holds_adapter
from agent.models.pull_blobs import BlobStore
from agent.models.pull_control import Limits, Stop
from agent.models.pull_download import Downloads, disk_error
from agent.models.pull_http import Http, Response
from agent.models.pull_hub import HubModel
from agent.models.pull_job import BlobProgress, Progress, PullJob
from agent.models.pull_local import default_name, local_files, take_in
from agent.models.pull_manifest import KNOWN_FORMS, Artifact, RemoteFile
from agent.models.pull_name import HubName, check_no_address, local_path, parse, spelling
from agent.models.pull_registry import Repository
from agent.models.pull_signature import SigningKey
from agent.models.pull_unpack import unpack
from agent.models.store import ModelStore, check_name

__all__ = ["BlobProgress", "Limits", "Progress", "Puller"]

_JOIN_S = 2.0  # at the end of the process: a read that was broken off ends at once


class _Source(Protocol):
    def artifact(self) -> Artifact: ...
    def open(self, file: RemoteFile, offset: int) -> Response: ...


class Puller:
    """Fills the store. Safe to call from many threads.

    ``blobs`` are what the models share; sweep it after models were removed.
    """

    def __init__(
        self,
        store: ModelStore,
        settings: ModelsConfig | None = None,
        limits: Limits | None = None,
        check: Callable[[StoredModel], None] = lambda model: None,
    ) -> None:
        """``check`` raises ModelError for a model, whole by its files, that this device could not load.

        Raises ConfigError for a certificate file, a proxy or a signing key that cannot be used.
        """
        self._store = store
        self._check = check
        self._settings = settings or ModelsConfig()
        self._limits = limits or Limits()
        self.registry = self._settings.registry  # for names without a host; the stack may set another meanwhile
        self._http = Http(self._settings, self._limits)
        self._signing_key = SigningKey(self._settings.signing_key) if self._settings.signing_key else None
        self.blobs = BlobStore(store.folder.parent / "blobs")
        self._lock = threading.Lock()
        self._jobs: dict[str, PullJob] = {}

    def pull(self, name: str) -> Iterator[Progress]:
        """Download a model under its own name, or join the pull of it that runs. The pull begins with the call.

        Closing the iterator ends the listening, not the pull. Raises RequestError (a name that is none, or of a kind
        that cannot be had); the iterator raises that, too, and NotFoundError, NoRoomError, UnavailableError (the source
        does not answer, or the pull was cancelled) and ModelError (what came is broken).
        """
        check_no_address(name)
        name = self.named(check_name(name))
        target = parse(name, self.registry)
        if self._signing_key is not None and isinstance(target, HubName):
            raise RequestError(
                "the hub has no signed models, and this device takes only signed ones",
                hint="pull it from a registry that signs, or clear models.signing_key",
                param="model",
            )
        return self._run(name, str(target), self._download)

    def copy(self, url: str, name: str | None = None) -> Iterator[Progress]:
        """Take in a folder or a GGUF file of this device, given as ``file:///path``; weights are linked if possible.

        Only for those who may read the device's files anyway: the caller checks that.
        """
        source = local_path(url)
        name = check_name(default_name(source) if name is None else name, "name")
        return self._run(name, source.as_uri(), lambda job: self._take_in(job, source))

    def named(self, name: str) -> str:
        """The name that a pull of this one goes by: that of the pull or the model that is here in another spelling."""
        with self._lock:
            running = next((other for other in self._jobs if spelling(other) == spelling(name)), None)
        return running or self._store.spelt(name)

    def running(self) -> dict[str, Progress]:
        """The pulls on their way, by name."""
        with self._lock:
            jobs = list(self._jobs.values())
        return {job.name: job.progress() for job in jobs}

    def cancel(self, name: str) -> None:
        """End a pull; what came so far stays for the next one. Raises NotFoundError where none of this name runs."""
        with self._lock:
            called = next((other for other in self._jobs if spelling(other) == spelling(name)), name)
            job = self._jobs.pop(called, None)
        if job is None:
            raise NotFoundError(
                f"no pull of {name!r} is running", hint="GET /v1/models lists what is here", param="model"
            )
        job.cancel()

    def close(self) -> None:
        """End every pull, and wait a moment for it."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.join(_JOIN_S)
        self._http.close()

    def _run(self, name: str, source: str, work: Callable[[PullJob], None]) -> Iterator[Progress]:
        with self._lock:
            job = self._jobs.get(name)
            if job is None:
                job = self._jobs[name] = PullJob(name, source, self._limits)
                job.start(work, self._forget)
        if job.source != source:
            raise UnavailableError(f"{name} is on its way already, from {job.source}", retry_after=10)
        return job.steps()

    def _forget(self, job: PullJob) -> None:
        with self._lock:
            if self._jobs.get(job.name) is job:
                del self._jobs[job.name]

    def _download(self, job: PullJob) -> None:
        with self._store.incoming(job.name) as folder:
            source = self._source(job.name, job.stop)
            artifact = source.artifact()
            files = artifact.files
            with self.blobs.hold({file.digest for file in files}):
                self._check_room(self.blobs.missing_bytes(files) + sum(file.size for file in files if file.packed))
                job.begin("downloading", {file.path: (file.digest, file.size) for file in files})
                same: dict[str, list[str]] = {}
                for file in files:
                    same.setdefault(file.digest, []).append(file.path)

                def told(file: RemoteFile, done: int) -> None:
                    for path in same[file.digest]:
                        job.tell(path, done)

                downloads = Downloads(source.open, told, self.blobs, job.stop, self._limits)
                paths = {file.path for file in files}
                config = next((file for file in files if file.path == "config.json" and not file.packed), None)
                if config is not None and not holds_adapter(paths):  # small, and says whether the rest is worth it
                    downloads.fetch(config)
                    try:
                        check_architecture(self.blobs.path(config.digest), paths)
                    except ModelError as error:
                        raise _unusable(job.name, error.message, error.hint) from error
                downloads.fetch_all(files)
                job.check()
                for file in files:
                    self._put(file, folder / file.path, job.stop)
            record = {"source": artifact.source, "digest": artifact.digest, "created": int(time.time())}
            (folder / RECORD).write_text(json.dumps(record))
            self._check_usable(job.name, folder)
            job.stop.check()

    def _source(self, name: str, stop: Stop) -> _Source:
        target, settings = parse(name, self.registry), self._settings
        if isinstance(target, HubName):
            host = settings.hub.partition("/")[0]
            token = settings.tokens.get(host) or (settings.tokens.get("hf.co", "") if host == "huggingface.co" else "")
            return HubModel(self._http, settings.hub, target, stop, self._limits, token=token)
        secret = settings.tokens.get(target.host, "")
        return Repository(self._http, target, stop, self._limits, secret=secret, signing_key=self._signing_key)

    def _put(self, file: RemoteFile, target: Path, stop: Stop) -> None:
        try:
            if file.packed:
                unpack(self.blobs.path(file.digest), file.path, target, stop.check)
            else:
                self.blobs.give(file.digest, target)
        except OSError as error:
            raise disk_error(file.path, error) from error

    def _take_in(self, job: PullJob, source: Path) -> None:
        files = local_files(source)
        with self._store.incoming(job.name) as folder:
            try:
                sizes = {path: file.stat().st_size for path, file in files.items()}
                self._check_room(sum(sizes.values()))
                job.begin("copying", {path: ("", size) for path, size in sizes.items()})
                for path, file in files.items():
                    take_in(file, folder / path, lambda done, path=path: job.tell(path, done))  # type: ignore[misc]
            except OSError as error:
                raise disk_error(str(source), error) from error
            job.check()
            self._check_usable(job.name, folder)
            job.stop.check()

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._store.folder).free - self._limits.reserve_bytes
        if needed > free:
            raise NoRoomError(
                f"the model takes {needed >> 20} MiB and the disk has {max(0, free) >> 20} MiB for it, "
                f"besides {self._limits.reserve_bytes >> 20} MiB that stay free",
                hint="delete a model first: thox models usage shows what takes the room, thox models prune frees some",
                needed_bytes=needed,
                available_bytes=max(0, free),
            )

    def _check_usable(self, name: str, folder: Path) -> None:
        model = inspect(name, folder, builtin=False)
        if model.broken:
            raise _unusable(name, model.broken, None if model.kind == "adapter" else f"known are {KNOWN_FORMS}")
        try:
            self._check(model)
        except ModelError as error:
            raise _unusable(name, error.message, error.hint) from error


def _unusable(name: str, reason: str, hint: str | None = None) -> RequestError:
    """What was asked for came as it is, and is nothing for this device: no fault of the server, and no reason to ask
    again."""
    return RequestError(f"{name} cannot be used: {reason}", hint=hint, param="model")
