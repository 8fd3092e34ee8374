"""A pytest plugin for the openai package's own tests: the key, a model to delete, and what no server can pass."""

from __future__ import annotations

import json
import os
import sys
import urllib.request

import pytest

KEY, BASE_URL = os.environ["SUITE_API_KEY"], os.environ["TEST_API_BASE_URL"]
DELETED = "ft:gpt-4o-mini:acemeco:suffix:abc123"

# The package asks for base64 of its own accord where a caller names no format, and decodes it afterwards. Before that,
# a strict client checks the answer against lists of numbers: it refuses the very string that it asked for.
STRICT_REFUSES_BASE64 = ("test_method_create", "test_raw_response_create", "test_streaming_response_create")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Their conftest.py has a key in its text; ours are random.
    vars(sys.modules["tests.conftest"])["api_key"] = KEY
    refused = pytest.mark.xfail(strict=True, reason="a strict client refuses the base64 that it asked for")
    for item in items:
        name, _, variant = item.name.partition("[")
        if "Embeddings" in item.nodeid and name in STRICT_REFUSES_BASE64 and not variant.startswith("loose"):
            item.add_marker(refused)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Their tests delete one model again and again: there has to be one."""
    if "delete" in item.name and "path_params" not in item.name:
        body = json.dumps({"source": "thox-nano", "destination": DELETED}).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{BASE_URL}/models/copy", body, headers), timeout=20):
            pass
