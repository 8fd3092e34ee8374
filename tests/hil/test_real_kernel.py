"""Every driver over a real kernel: /dev/gpiochip*, /dev/i2c-* and /sys of a guest whose kernel make hil built."""

from __future__ import annotations

import re
import sys

import pytest
from uml import built, run

INSIDE = ("tests/hil/guest", "tests/hal/test_contract.py")


@pytest.mark.timeout(900)
def test_the_contract_and_the_closed_loop_hold_over_a_real_kernel() -> None:
    kernel = built()
    if kernel is None:
        pytest.skip("no kernel for the hardware tests on this machine yet: make hil builds it")
    arguments = [*INSIDE, "--hardware", "/run/stack.toml", "-v", "--no-header", "--tb=short", "-rs"]
    status, output = run(kernel, [sys.executable, "tests/hil/guest_main.py", *arguments], timeout=840)
    print(output)  # noqa: T201 (make hil shows it)
    assert status == 0, output
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None and int(passed[1]) >= 50, output


def test_what_fails_in_the_guest_fails_here() -> None:
    kernel = built()
    if kernel is None:
        pytest.skip("no kernel for the hardware tests on this machine yet: make hil builds it")
    status, output = run(kernel, ["sh", "-c", "echo said; exit 7"], timeout=100)
    assert (status, output) == (7, "said\n")
