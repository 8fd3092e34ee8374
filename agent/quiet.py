"""Nothing leaves the device that its owner did not send: silences the dependencies that phone home by default.

Import this before the runtime in question; importing it twice does no harm.

* ``import openvino`` sends an analytics event while the package openvino-telemetry is installed, and pip installs it.
* onnxruntime on Linux uploads usage data unless ORT_DISABLE_TELEMETRY is set before its import.
"""

from __future__ import annotations

import os
import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # makes its import fail, which openvino expects
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
