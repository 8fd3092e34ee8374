"""The app of port 8080 over an engine that answers by a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_engine import ScriptedEngine
from inference_app import Api, open_api


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def api(engine: ScriptedEngine, tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path, engine) as opened:
        yield opened
