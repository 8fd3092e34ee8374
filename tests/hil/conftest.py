"""What stands in guest/ is for the kernel of the guest: test_real_kernel.py takes it there."""

from __future__ import annotations

collect_ignore = ["guest"]
