"""thox trust: on the state directory of a device, running or not."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from agent.cli import main
from agent.cluster.trust.service import TrustService
from agent.identity import device_id


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "state"


def said(capfd: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["trust", *arguments]) == status
    out, err = capfd.readouterr()
    return out if status == 0 else err


def test_a_running_device_sees_at_once_what_the_command_says(
    state_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "(this device)" in said(capfd) and "unlocked" in said(capfd, "list")
    running = TrustService(state_dir, device_id(state_dir))
    (tmp_path / "other").mkdir()
    other = TrustService(tmp_path / "other", str(uuid.uuid4())).identity.known
    running.admit(other)
    listed = said(capfd, "list")
    assert other.device_id in listed and other.fingerprint[:16] in listed and listed.count("member") == 2

    assert other.device_id in said(capfd, "forget", other.device_id[:13])
    assert running.roster().standing(other.fingerprint) == "forgotten" and "forgotten" in said(capfd)
    assert "may enter" in said(capfd, "allow", other.fingerprint)
    assert running.roster().standing(other.fingerprint) == "allowed"

    assert "locked: no newcomer" in said(capfd, "lock")
    assert running.roster().locked
    assert "unlocked" in said(capfd, "unlock")
    assert not running.roster().locked
    before = running.roster().stack
    assert "new stack" in said(capfd, "leave")
    assert running.roster().stack != before and len(running.roster().entries) == 1


def test_whom_it_does_not_know_it_cannot_forget_nor_itself(state_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "No devices begin with 'abc'" in said(capfd, "forget", "abc", status=1)
    own = device_id(state_dir)
    assert "That is this device itself" in said(capfd, "forget", own, status=1)
    assert "No devices" in said(capfd, "allow", own, status=1)
