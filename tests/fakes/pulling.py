"""What tests of pulls share: short patience, a model larger than one read, and a pull that is expected to fail."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from fake_models import write_checkpoint

from agent.errors import ThoxError
from agent.models.pull import Puller
from agent.models.pull_control import Limits

QUICK = Limits(connect_s=5.0, silence_s=5.0, backoff_s=0.01, tries=4, report_s=0.01, heartbeat_s=0.05, reserve_bytes=0)
WEIGHTS = "model.safetensors"


def write_model(folder: Path, values: int = 64 * 1024) -> Path:
    """A checkpoint whose weights are no repetition: bytes in a wrong place are found out."""
    write_checkpoint(folder)
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    data = struct.pack(f"<{values}I", *(number * 2654435761 % 2**32 for number in range(values)))
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + data)
    return folder


def refused(puller: Puller, name: str, kind: type[ThoxError]) -> ThoxError:
    """The error that a pull ends with."""
    with pytest.raises(kind) as caught:
        list(puller.pull(name))
    return caught.value


def same_files(copy: Path, source: Path) -> bool:
    """Whether every file of the source is in the copy, byte for byte."""
    files = [file for file in source.rglob("*") if file.is_file()]
    return bool(files) and all((copy / file.relative_to(source)).read_bytes() == file.read_bytes() for file in files)
