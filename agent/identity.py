"""Who this device is: one UUID, made at its first start and kept in the state directory.

The stack chooses its leader by it where power does not decide, so it must survive restarts and updates.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from agent import private_file
from agent.config import ConfigError


def device_id(state_dir: Path) -> str:
    """The device's UUID. Raises ConfigError when the file holds something else."""
    file = state_dir / "device.id"
    if not file.exists():
        private_file.create(file, f"{uuid.uuid4()}\n".encode())
    text = file.read_text().strip()
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise ConfigError(
            f"{file} does not hold a UUID", "Restore it; without it the stack takes this for another device."
        ) from error
