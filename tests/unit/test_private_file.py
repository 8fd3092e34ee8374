"""A lock that another process holds is waited for, and not without end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import private_file
from agent.errors import UnavailableError

_HOLD = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has the lock until a line comes."""
    line = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        yield other
        other.kill()


def test_a_lock_that_is_kept_is_given_up_with_a_word_that_names_it(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(UnavailableError, match="holds lock"), private_file.locked(tmp_path / "lock", patience_s=0.05):
        pytest.fail("two have it")


def test_a_lock_that_is_let_go_is_had_by_one_at_a_time(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    inside: list[str] = []

    def enter(name: str) -> None:
        with private_file.locked(tmp_path / "lock", patience_s=30.0):
            inside.append(name)
            inside.append(name)

    threads = [threading.Thread(target=enter, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    assert not inside
    holder.communicate("go\n", timeout=30)
    for thread in threads:
        thread.join(30)
    assert inside in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
