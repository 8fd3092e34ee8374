"""A helper that misbehaves: whatever it says or does, its owner gets an error in bounded time and memory."""

from __future__ import annotations

import os
import sys
import time

import pytest

from hal.nfc_process import HelperError, HelperProcess
from hal.nfc_reader import NfcReader

DEADLINE = 60.0


def helper(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", script]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('hello')", "no JSON"),
        ("print('[' * 9000)", "no JSON"),
        ("print('[1, 2]')", "no event"),
        ("print('{\"event\": 7}')", "no event"),
        ("import sys\nwhile True: sys.stdout.write('x' * 1000)", "no end"),
        ("raise SystemExit(3)", "ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
    ],
)
def test_what_is_no_event_is_an_error_with_its_reason(script: str, reason: str) -> None:
    with HelperProcess(helper(script)) as process, pytest.raises(HelperError, match=reason):
        process.event(DEADLINE)


def test_silence_is_no_event_and_the_process_is_dead_afterwards() -> None:
    with HelperProcess(helper("import time; time.sleep(1000)")) as process:
        assert process.event(0.05) is None
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_helper_that_keeps_failing_is_a_fault_that_says_why_and_closing_does_not_wait_for_it() -> None:
    reader = NfcReader("top", helper("raise SystemExit(3)"))
    end = time.monotonic() + DEADLINE
    while reader.state().state != "fault":
        assert time.monotonic() < end, str(reader.state())
        time.sleep(0.02)
    assert "status 3" in reader.state().detail
    assert reader.seen() is None
    reader.close()
    assert reader.helper_pid is None


def test_a_program_that_is_not_there_is_a_fault() -> None:
    reader = NfcReader("top", ["/nonexistent/helper"])
    end = time.monotonic() + DEADLINE
    while reader.state().state != "fault":
        assert time.monotonic() < end, str(reader.state())
        time.sleep(0.02)
    reader.close()


@pytest.mark.parametrize("ndef", ['"zz"', "7", '"' + "00" * 900 + '"', "null"])
def test_a_tag_event_with_wrong_content_is_a_refused_tag_and_no_neighbour(ndef: str) -> None:
    script = (
        f'print(\'{{"event": "ready"}}\\n{{"event": "tag", "uid": "04", "ndef": {ndef}}}\', flush=True)\n'
        "import time; time.sleep(1000)"
    )
    reader = NfcReader("top", helper(script))
    end = time.monotonic() + DEADLINE
    while "refused" not in reader.state().detail:
        assert time.monotonic() < end, str(reader.state())
        time.sleep(0.02)
    assert reader.state().state == "fault"
    assert reader.seen() is None
    reader.close()
