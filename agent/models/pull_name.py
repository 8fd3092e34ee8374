"""What people write to have a model, and where that points. Pure: text in, values out.

::

    medical                             the default registry, tag latest
    reg.example:5000/org/medical:v2     a registry
    medical@sha256:<64 hex digits>      exactly these files
    hf.co/org/name                      the Hugging Face hub (or the mirror that ``models.hub`` names)
    hf.co/org/name:Q4_K_M               its GGUF file of this quantisation
    hf.co/org/name:name-q4_k_m.gguf     its file of this name
    hf.co/org/name@revision:Q4_K_M      a branch, a tag or a commit of it
    file:///path/to/folder              a folder or a GGUF file of the device itself
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from agent.errors import NotFoundError, RequestError

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"  # as the Distribution specification has it
_REPOSITORY = re.compile(f"{_PART}(?:/{_PART})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HUB_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB = re.compile(rf"(?P<repository>{_HUB_PART}/{_HUB_PART})(?:@(?P<revision>[^@:]+))?(?::(?P<wanted>[^@:]+))?")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_HUBS = ("hf.co/", "huggingface.co/")
_QUANTISATION = re.compile(r"(?:IQ|Q|TQ)\d\w*|BF16|F16|F32|MXFP4\w*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reference:
    """host[:port]/repository:tag, or @digest in place of the tag."""

    host: str
    repository: str
    tag: str = "latest"
    digest: str = ""  # sha256:...; where it stands, the tag says nothing

    @property
    def version(self) -> str:
        """What the registry is asked for."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of the hub. ``wanted`` is a quantisation, a file or, where neither fits, a revision."""

    repository: str  # org/name
    wanted: str = ""
    revision: str = ""

    def __str__(self) -> str:
        revision, wanted = self.revision and f"@{self.revision}", self.wanted and f":{self.wanted}"
        return f"hf.co/{self.repository}{revision}{wanted}"


def parse(name: str, registry: str) -> Reference | HubName:
    """A name as people write it. Raises RequestError.

    ``registry`` is host[:port][/prefix] for names without a host; the prefix is put before names of one part, so that
    ``registry.ollama.ai/library`` serves ``qwen3:0.6b``.
    """
    for hub in _HUBS:
        if name.startswith(hub):
            return _hub_name(name.removeprefix(hub))
    host, slash, rest = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, _, prefix = registry.partition("/")
        rest = f"{prefix}/{name}" if prefix and "/" not in name else name
    if not host:
        raise RequestError(
            f"{name} names no registry, and this device has no default one",
            hint="write host/name or hf.co/org/name, or set one: thox config set models.registry HOST --stack",
            param="model",
        )
    before, at, digest = rest.partition("@")
    repository, colon, tag = before.partition(":")
    good = _HOST.fullmatch(host) and _REPOSITORY.fullmatch(repository) and (not colon or _TAG.fullmatch(tag))
    if not good or (at and not _DIGEST.fullmatch(digest)):
        raise RequestError(
            f"{rest} is not a name that a registry can have",
            hint="lower-case letters, digits and . _ - in parts joined by /, then :tag or @sha256:digest",
            param="model",
        )
    return Reference(host, repository, tag or "latest", digest)


def spelling(name: str) -> str:
    """The same text for every way to write one name: with or without ``:latest``, hf.co or huggingface.co, q4_k_m or
    Q4_K_M."""
    for hub in _HUBS:
        if name.startswith(hub):
            rest, colon, wanted = name.removeprefix(hub).partition(":")
            return f"hf.co/{rest}{colon}{wanted.upper() if _QUANTISATION.fullmatch(wanted) else wanted}"
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def check_no_address(name: str) -> None:
    """Raises RequestError for an address copied from a browser: models have names, which work for requests, too."""
    scheme, separator, rest = name.partition("://")
    if separator:
        short = rest.strip("/") if _PATH.fullmatch(rest.strip("/")) else "hf.co/org/name or host/name:tag"
        raise RequestError(
            f"models are pulled by name, not by an address with {scheme[:20]!r}",
            hint=f"write {short[:300]}",
            param="model",
        )


def local_path(url: str) -> Path:
    """The folder or file that ``file:///path`` means. Raises NotFoundError where there is none."""
    path = Path(unquote(url.removeprefix("file://")))
    try:
        there = path.is_absolute() and (path.is_dir() or path.is_file())
    except ValueError:  # a NUL in the name
        there = False
    if not there:
        raise NotFoundError(f"there is no {str(path)[:200]!r}", hint="write file:///path/to/folder", param="model")
    return path


def _hub_name(rest: str) -> HubName:
    found = _HUB.fullmatch(rest)
    parts = [found["revision"] or "", found["wanted"] or ""] if found else []
    if found is None or any(part and not _PATH.fullmatch(part) for part in parts):
        raise RequestError(
            f"hf.co/{rest} is not a name that the hub can have",
            hint="write hf.co/org/name, hf.co/org/name:Q4_K_M or hf.co/org/name@revision",
            param="model",
        )
    return HubName(found["repository"], parts[1], parts[0])
