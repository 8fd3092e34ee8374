"""Imports only go down. A file may import its own floor or a lower one, and a third-party name has one home."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The first prefix that matches best decides; docs/ARCHITECTURE.md draws the same picture.
FLOORS: dict[str, int] = {
    "hal.base": -2,
    "hal": -1,
    "agent.errors": 0,
    "agent.config": 0,
    "agent.log": 0,
    "agent.quiet": 0,
    "agent.private_file": 0,
    "agent.engine.base": 1,
    "agent.cluster.fields": 1,
    "agent.cluster.state": 1,
    "agent.nano": 2,
    "agent.engine": 2,
    "agent.cluster.documents": 2,
    "agent.cluster.documents.manifest": 4,
    "agent.cluster.documents.names": 4,
    "agent.cluster.documents.service": 4,
    "agent.cluster.documents.settings": 4,
    "agent.cluster.documents.store": 4,
    "agent.cluster.mdns.claim": 2,
    "agent.cluster.mdns.records": 2,
    "agent.cluster.mdns.responder": 2,
    "agent.cluster.membership": 2,
    "agent.cluster.membership.service": 4,
    "agent.cluster.placement": 2,
    "agent.cluster.power": 2,
    "agent.cluster.power.alert": 4,
    "agent.cluster.power.contracts": 4,
    "agent.cluster.power.service": 4,
    "agent.cluster.report.changes": 2,
    "agent.engine.batched": 3,
    "agent.engine.answer": 3,
    "agent.engine.staged": 3,
    "agent.engine.openvino": 3,
    "agent.engine.onnx": 3,
    "agent.engine.encoder": 3,
    "agent.models.adapter": 3,
    "agent.models.checkpoint": 3,
    "agent.models.options": 3,
    "agent.models.parts": 3,
    "agent.models.spec": 3,
    "agent.models.memory": 3,
    "agent.models.store": 3,
    "agent.models.pull": 3,  # and pull_*
    "agent.auth": 4,
    "agent.identity": 3,
    "agent.ratelimit": 3,
    "agent.models": 4,
    "agent.cluster": 4,
    "agent.telemetry": 4,
    "agent.api": 5,
    "agent.loader": 6,
    "agent.node": 6,
    "agent.server": 6,
    "agent.cli": 6,
    "agent.lab": 6,
    "agent.client": 6,
    "agent.__main__": 6,
}

HOMES: dict[str, tuple[str, ...]] = {
    "flask": ("agent.api",),
    "werkzeug": ("agent.api",),
    "gunicorn": ("agent.server",),
    "openvino": ("agent.engine.openvino",),
    "onnxruntime": ("agent.engine.onnx",),
    "onnx": ("agent.engine.onnx",),
    "torch": ("agent.nano.train",),
    "transformers": ("agent.nano.train",),
    "llguidance": ("agent.engine.grammar",),
    "tokenizers": ("agent.engine.tokenizer", "agent.nano"),
    "jinja2": ("agent.engine.chat",),
    "gguf": ("agent.engine.gguf",),
    "safetensors": ("agent.engine.weights", "agent.nano.train"),
    "prometheus_client": ("agent.telemetry",),
    "rich": ("agent.cli",),
    "urllib3": ("agent.models.pull_http",),
    "cryptography": ("agent.models.pull_signature", "agent.cluster.trust"),
    "zeroconf": ("agent.cluster.mdns",),
    "ifaddr": ("agent.cluster.mdns.networks",),
    "smbus2": ("hal.i2c",),
    "nfc": ("hal.nfc",),
    "ndef": ("hal.tag_record",),
    "gpiod": ("hal.gpio",),
    "jtop": ("hal.jetson_stats",),
}


def _within(module: str, prefix: str) -> bool:
    """``agent.engine.openvino_ops`` counts as part of ``agent.engine.openvino``: a room may have several files."""
    return module == prefix or module.startswith((prefix + ".", prefix + "_"))


def _floor(module: str) -> int:
    hits = [(len(prefix), floor) for prefix, floor in FLOORS.items() if _within(module, prefix)]
    assert hits, f"{module} has no floor: give it one, here and in docs/ARCHITECTURE.md"
    return max(hits)[1]


def _sources() -> list[tuple[str, Path]]:
    files = [path for top in ("agent", "hal") for path in sorted((ROOT / top).rglob("*.py"))]
    return [(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), p) for p in files]


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative imports hide the floor"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize(("module", "path"), _sources(), ids=lambda v: v if isinstance(v, str) else "")
def test_imports_go_down_and_third_parties_stay_at_home(module: str, path: Path) -> None:
    if path.name == "__init__.py" and module != "agent.nano.corpus":
        assert not _imports(path), "a package file names its purpose and imports nothing"
        return
    for name in _imports(path):
        top = name.split(".")[0]
        if top in ("agent", "hal"):
            assert _floor(name) <= _floor(module), f"{module} imports upwards: {name}"
            assert not (module.startswith("hal") and top == "agent"), f"{module} must not know the agent"
            if name.startswith("hal.") and not name.startswith("hal.base") and module.startswith("agent"):
                assert _floor(module) == 6, f"only the node may know the driver {name}"
        elif top in HOMES:
            assert any(_within(module, home) for home in HOMES[top]), f"{top} is not for {module}"
