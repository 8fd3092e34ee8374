"""Fixtures of all tests: the real device."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from real_device import Device, StartDevice, start, stop

# torch, the oracle, waits for work without burning the processor that the engines under test compute on: its spinning
# threads made the tests of the decoder cost almost twice as much. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

collect_ignore = ["hil/guest"]  # for the kernel of the guest: tests/hil/test_real_kernel.py takes them there


@pytest.fixture(scope="session")
def start_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartDevice]:
    """Starts further devices, with a config.toml of the test's own; all are stopped at the end of the session.

    No rate limits unless the TOML sets them.
    """
    started: list[Device] = []

    def another(config_toml: str = "") -> Device:
        started.append(start(tmp_path_factory.mktemp("device"), config_toml))
        return started[-1]

    yield another
    failures = []
    for device in started:
        if device.process.poll() is None:
            try:
                stop(device)
            except AssertionError as error:
                failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="session")
def device(start_device: StartDevice) -> Device:
    """The device that tests share. Do not stop it, and leave its models as they are."""
    return start_device()
