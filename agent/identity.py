"""Who this device is: one UUID, made at its first start and kept in the state directory.

The stack chooses its leader by it where power does not decide, so it must survive restarts and updates.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from agent.config import ConfigError


def device_id(state_dir: Path) -> str:
    """The device's UUID. Raises ConfigError when the file holds something else."""
    file = state_dir / "device.id"
    fresh = state_dir / f"device.id.{os.getpid()}"
    if not file.exists():
        fresh.write_text(f"{uuid.uuid4()}\n")
        try:
            os.link(fresh, file)  # unlike a rename, it never replaces the id that another process made meanwhile
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    text = file.read_text().strip()
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise ConfigError(
            f"{file} does not hold a UUID", "Restore it; without it the stack takes this for another device."
        ) from error
