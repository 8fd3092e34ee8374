"""``python -m agent.lab_agent PID``: the ``thox run`` of a lab, which ends when the lab, process PID, does.

Linux sends SIGTERM when the thread that started this process ends, however it ends; the lab starts agents from its main
thread alone. A process group of its own keeps the terminal's Ctrl-C away: the lab stops its agents itself. Being in the
lab's session, a group that was stopped is woken with SIGHUP by the kernel when the lab is gone, and ends, too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from agent.cli import main

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # it ended before the line above
        sys.exit(1)
    sys.exit(main(["run"]))
