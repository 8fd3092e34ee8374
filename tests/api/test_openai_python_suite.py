"""The tests that the openai package ships in its own source, run against the real device.

Their models are further names of ours, given in the device's configuration. The source is that of the very version in
pyproject.toml; pip fetches it once into .cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import openai
import pytest
from real_device import StartDevice

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache"
TESTS = ("chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py")
ALIASES = """
[models.aliases]
"gpt-6-astra" = "thox-nano"
"gpt-3.5-turbo-instruct" = "thox-nano"
"text-embedding-3-small" = "all-minilm-l6-v2"
"""
REFUSED_BY_STRICT_CLIENTS = 9  # sdk_suite_plugin.py says why


@pytest.fixture(scope="module")
def source() -> Path:
    """The unpacked source of the installed openai package."""
    name = f"openai-{openai.__version__}"
    if not (CACHE / name / "tests").is_dir():
        archive = CACHE / f"{name}.tar.gz"
        if not archive.is_file():
            CACHE.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*command, "--dest", str(CACHE), name.replace("-", "==")], check=True, timeout=100)
        with tarfile.open(archive) as tar:
            tar.extractall(CACHE, filter="data")
    return CACHE / name


@pytest.mark.timeout(300)
def test_the_openai_packages_own_tests_pass_against_the_device(
    start_device: StartDevice, source: Path, tmp_path: Path
) -> None:
    device = start_device(ALIASES)
    report = tmp_path / "report.xml"
    # No plugins but the two that these tests are written for.
    options = ["-o", "addopts=", "-p", "pytest_asyncio.plugin", "-p", "sdk_suite_plugin", "-p", "no:cacheprovider"]
    options += ["-q", "--tb=short", "--show-capture=no", f"--junitxml={report}", "-k", "create or Models"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/api_resources/{name}" for name in TESTS)],
        cwd=source,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(Path(__file__).parent),
            "TEST_API_BASE_URL": f"{device.inference}/v1",
            "SUITE_API_KEY": device.key,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{device.log()[-4000:]}"
    cases = ElementTree.parse(report).getroot().iter("testcase")
    results = Counter(case[0].tag if len(case) else "passed" for case in cases)
    assert results == {"passed": 155 - REFUSED_BY_STRICT_CLIENTS, "skipped": REFUSED_BY_STRICT_CLIENTS}
