"""GPIO lines by name, through the kernel's character devices: the stack's switches, its alert line, the load switch.

Levels here are logical: every line of the stack but the load switch is active low. Times are the kernel's own,
CLOCK_MONOTONIC, taken in the interrupt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import gpiod
from gpiod.line import Bias, Clock, Direction, Drive, Edge, Value

from hal import base
from hal.base import Face, HardwareError, MissingPartError

SETTLE_S = 0.005  # in which a line that was let go may still rise
DEBOUNCE = timedelta(milliseconds=50)  # a Hall switch chatters while a magnet slides into place
CONSUMER = "thox"  # what gpioinfo shows as the user of our lines


def find_line(name: str, dev: Path = Path("/dev")) -> tuple[str, int]:
    """The chip's device and the offset of the line of this name. Raises MissingPartError."""
    devices = sorted(str(path) for path in dev.glob("gpiochip*"))
    denied = False
    for device in devices:
        try:
            with gpiod.Chip(device) as chip:
                return device, chip.line_offset_from_id(name)
        except PermissionError:
            denied = True
        except OSError:
            continue  # a chip without that line
    hint = "the carrier's overlay names it (gpio-line-names); [hardware.wiring] may name another"
    if denied:
        hint = "not every GPIO chip may be opened: the udev rules give the stack's to the group thox"
    raise MissingPartError(f"no GPIO line is called {name} ({len(devices)} chips)", hint)


def request(name: str, settings: gpiod.LineSettings, dev: Path = Path("/dev")) -> gpiod.LineRequest:
    """The line, ours alone from now on. Raises MissingPartError, also when somebody else has it."""
    device, offset = find_line(name, dev)
    try:
        return gpiod.request_lines(device, consumer=CONSUMER, config={offset: settings})
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise MissingPartError(f"the GPIO line {name} is in use", "gpioinfo says by whom") from error
        raise MissingPartError(f"the GPIO line {name} cannot be had: {error.strerror}") from error


class GpioStackLines:
    """The Hall switches of both faces. A face whose line has no name has no switch: it is never closed."""

    def __init__(self, names: Mapping[Face, str], dev: Path = Path("/dev")) -> None:
        self._poll = select.poll()
        self._requests: dict[Face, gpiod.LineRequest] = {}
        self._edges: deque[base.Edge] = deque()
        self._lock = threading.Lock()
        settings = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=Edge.BOTH,
            bias=Bias.PULL_UP,
            active_low=True,
            debounce_period=DEBOUNCE,
            event_clock=Clock.MONOTONIC,
        )
        try:
            for face, name in names.items():
                if name:
                    self._requests[face] = request(name, settings, dev)
                    self._poll.register(self._requests[face].fd, select.POLLIN)
        except HardwareError:
            self.close()
            raise

    def closed(self) -> Mapping[Face, bool]:
        faces: dict[Face, bool] = {"top": False, "bottom": False}
        return faces | {face: _active(line, f"the switch of the {face}") for face, line in self._requests.items()}

    def wait(self, timeout: float) -> base.Edge | None:
        with self._lock:
            if not self._edges and self._poll.poll(max(0.0, timeout) * 1000):
                self._collect()
            return self._edges.popleft() if self._edges else None

    def close(self) -> None:
        for line in self._requests.values():
            line.release()
        self._requests.clear()

    def _collect(self) -> None:
        found: list[base.Edge] = []
        for face, line in self._requests.items():
            if line.wait_edge_events(timedelta(0)):
                for event in line.read_edge_events():
                    closed = event.event_type is gpiod.EdgeEvent.Type.RISING_EDGE  # to active: the magnet is there
                    found.append(base.Edge(face, closed, event.timestamp_ns / 1e9))
        self._edges.extend(sorted(found, key=lambda edge: edge.at))


class GpioInput:
    """An active-low line that is only watched, undebounced: the tag's field detection."""

    def __init__(self, name: str, dev: Path = Path("/dev")) -> None:
        self._name = name
        self._request = request(name, _watched(), dev)

    def active(self) -> bool:
        return _active(self._request, self._name)

    def wait(self, timeout: float) -> bool | None:
        """The level after its next change; None when the time is up."""
        return _next(self._request, timeout)

    def close(self) -> None:
        self._request.release()


class GpioAlertLine:
    """PWR_ALERT#: watched as an input, pulled as an open-drain output. While it is pulled here, it is raised for sure,
    so the line is not watched then."""

    def __init__(self, name: str, dev: Path = Path("/dev")) -> None:
        self._name = name
        self._request = request(name, _watched(), dev)
        self._offset = self._request.offsets[0]
        self._pulled = False
        self._let_go_at = 0.0
        self._level = _active(self._request, name)  # as far as ``wait`` has been told
        self._lock = threading.Lock()
        self._changes: deque[bool] = deque()
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)[::-1]

    def raised(self) -> bool:
        with self._lock:
            return self._pulled or _active(self._request, self._name)

    def wait(self, timeout: float) -> bool | None:
        ends = time.monotonic() + max(0.0, timeout)
        poll = select.poll()
        poll.register(self._request.fd, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            with self._lock:
                self._collect()
                if self._changes:
                    return self._changes.popleft()
            left = ends - time.monotonic()
            if left <= 0:
                return None
            poll.poll(left * 1000)

    def pull(self, pulled: bool) -> None:
        with self._lock:
            if pulled == self._pulled:
                return
            self._collect()
            try:
                self._request.reconfigure_lines({self._offset: _pulling() if pulled else _watched()})
            except OSError as error:
                raise HardwareError(f"{self._name} does not take {'a pull' if pulled else 'its release'}") from error
            self._pulled, self._let_go_at = pulled, time.monotonic()
            self._tell(pulled or _active(self._request, self._name))
            os.write(self._wake, b"!")

    def close(self) -> None:
        self._request.release()
        os.close(self._wake)
        os.close(self._woken)

    def _collect(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 64)
        while self._request.wait_edge_events(timedelta(0)):
            for event in self._request.read_edge_events():
                level = event.event_type is gpiod.EdgeEvent.Type.RISING_EDGE
                if level == self._level and event.timestamp_ns / 1e9 > self._let_go_at + SETTLE_S:
                    self._tell(not level)  # a pulse: over before the kernel looked which edge it was
                self._tell(level)

    def _tell(self, level: bool) -> None:
        if level != self._level:
            self._level = level
            self._changes.append(level)


class GpioLoadSwitch:
    """LOAD_EN, active high: off when it is taken, and off when it is given back."""

    def __init__(self, name: str, dev: Path = Path("/dev")) -> None:
        self._name = name
        settings = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.INACTIVE)
        self._request = request(name, settings, dev)
        self._offset = self._request.offsets[0]

    def enabled(self) -> bool:
        return _active(self._request, self._name)

    def enable(self, on: bool) -> None:
        try:
            self._request.set_value(self._offset, Value.ACTIVE if on else Value.INACTIVE)
        except OSError as error:
            raise HardwareError(f"{self._name} cannot be switched: {error.strerror}") from error

    def close(self) -> None:
        self.enable(False)
        self._request.release()


def _watched() -> gpiod.LineSettings:
    # These lines have a resistor on the carrier: through the whole stack, the processor's own would be too weak.
    return gpiod.LineSettings(
        direction=Direction.INPUT,
        edge_detection=Edge.BOTH,
        bias=Bias.AS_IS,
        active_low=True,
        event_clock=Clock.MONOTONIC,
    )


def _pulling() -> gpiod.LineSettings:
    return gpiod.LineSettings(
        direction=Direction.OUTPUT, drive=Drive.OPEN_DRAIN, active_low=True, output_value=Value.ACTIVE
    )


def _active(line: gpiod.LineRequest, name: str) -> bool:
    try:
        return bool(line.get_value(line.offsets[0]) is Value.ACTIVE)
    except OSError as error:
        raise MissingPartError(f"{name} cannot be read: {error.strerror}") from error


def _next(line: gpiod.LineRequest, timeout: float) -> bool | None:
    if not line.wait_edge_events(timedelta(seconds=max(0.0, timeout))):
        return None
    return bool(line.read_edge_events(1)[0].event_type is gpiod.EdgeEvent.Type.RISING_EDGE)
