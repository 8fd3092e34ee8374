"""The NFC reader of one face: keeps its helper process running and turns what it says into sightings of a neighbour."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from hal.base import Face, MissingPartError, PartState, Sighting, TagRecord
from hal.nfc_process import END_S, HelperError, HelperProcess, helper_command
from hal.tag_record import MAX_NDEF_BYTES, TagRecordError, decode

OPEN_S = 20.0  # start of an interpreter and opening of the chip, on a busy machine
LISTEN_S = 0.5  # how long closing may have to wait, and a record that is over may stay
SILENT_S = 4.0  # it says ten beats a second; reading the longest tag takes under a second
HOLD_S = 3.0  # what was last read counts that long while the tag is torn, or the helper restarts
STEADY_S = 60.0  # a helper that ran so long starts with a clean record
BACKOFF_S = (0.2, 30.0)
SEVERAL = 3  # failures in a row, from which on it is a fault
MAX_SIGHTINGS = 64  # not yet waited for; older ones are dropped


class NfcReader:
    """A TagReader behind a helper process. ``close`` it; nobody else ends its thread.

    A tag that leaves the field is gone at once. One that cannot be read right now, because its owner is writing it or
    because our helper is being restarted, keeps its last record for HOLD_S: a stack must not fall apart over that.
    """

    def __init__(self, face: Face, command: Sequence[str]) -> None:
        self._face: Face = face
        self._command = command
        self._part = f"nfc-reader-{face}"
        self._changed = threading.Condition()
        self._sightings: deque[Sighting] = deque(maxlen=MAX_SIGHTINGS)
        self._record: TagRecord | None = None
        self._uid: object = None
        self._hold_until: float | None = None  # when the record stops to count, unless it is read again
        self._doubt = ""  # why the tag in the field is not believed
        self._state = PartState(self._part, "restarting", "the helper starts")
        self._pid: int | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"nfc {face}", daemon=True)
        self._thread.start()

    @property
    def face(self) -> Face:
        return self._face

    @property
    def helper_pid(self) -> int | None:
        """The process that has the reader now."""
        return self._pid

    def seen(self) -> TagRecord | None:
        with self._changed:
            return self._record

    def wait(self, timeout: float) -> Sighting | None:
        with self._changed:
            self._changed.wait_for(lambda: self._sightings, timeout)
            return self._sightings.popleft() if self._sightings else None

    def state(self) -> PartState:
        with self._changed:
            if self._state.state == "ok" and self._doubt and self._record is None:
                return PartState(self._part, "fault", f"the neighbour's tag is refused: {self._doubt}")
            return self._state

    def close(self) -> None:
        self._closing.set()
        self._thread.join(LISTEN_S + 2 * END_S)

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                with HelperProcess(self._command) as helper:
                    self._pid = helper.pid
                    self._serve(helper)
            except Exception as error:  # noqa: BLE001 whatever it was, the reader comes back, and says so meanwhile
                failures = 1 if time.monotonic() - started > STEADY_S else failures + 1
                self._broken(error, failures)
            self._pid = None
            self._pause(min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(failures, 16)))

    def _serve(self, helper: HelperProcess) -> None:
        """Until somebody closes the reader. Raises HelperError when the helper is no good any more."""
        patience, heard = OPEN_S, time.monotonic()
        while not self._closing.is_set():
            said = helper.event(LISTEN_S)
            self._expire()
            if said is None:
                if time.monotonic() - heard >= patience:
                    raise HelperError(f"the helper was silent for {patience:g} s")
                continue
            heard = time.monotonic()
            if said["event"] == "fault":
                raise HelperError(str(said.get("reason"))[:200], "missing" if said.get("missing") else "fault")
            if said["event"] == "ready":
                patience = SILENT_S
                self._say(PartState(self._part, "ok"))
            elif said["event"] == "tag":
                self._read(said)
            elif said["event"] == "gone":
                self._see(None)

    def _read(self, said: Mapping[str, object]) -> None:
        uid, ndef = said.get("uid"), said.get("ndef")
        if uid != self._uid:
            self._see(None)  # another tag: what the last one said is over
            self._uid = uid
        try:
            if not isinstance(ndef, str) or len(ndef) > 2 * MAX_NDEF_BYTES:
                raise TagRecordError("too long for a node's tag")
            self._see(decode(bytes.fromhex(ndef)))
        except (TagRecordError, ValueError) as error:
            self._doubt = str(error)[:200]
            self._hold()

    def _see(self, record: TagRecord | None) -> None:
        with self._changed:
            self._hold_until, self._doubt = None, ""
            if record is None:
                self._uid = None
            if record != self._record:
                self._record = record
                self._sightings.append(Sighting(record, time.monotonic()))
                self._changed.notify_all()

    def _hold(self) -> None:
        """The record, if there is one, counts for HOLD_S more, and not again from here when doubts go on."""
        if self._record is not None and self._hold_until is None:
            self._hold_until = time.monotonic() + HOLD_S

    def _expire(self) -> None:
        if self._hold_until is not None and time.monotonic() >= self._hold_until:
            uid, doubt = self._uid, self._doubt
            self._see(None)
            self._uid, self._doubt = uid, doubt

    def _say(self, state: PartState) -> None:
        with self._changed:
            self._state = state

    def _broken(self, error: Exception, failures: int) -> None:
        state = error.state if isinstance(error, HelperError) else "fault"
        if state == "restarting" and failures >= SEVERAL:
            state = "fault"
        self._say(PartState(self._part, state, f"{error}; failure {failures} in a row, trying again"))
        self._hold()

    def _pause(self, seconds: float) -> None:
        """Wait, but let what was last read go when its time is over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            held = left if self._hold_until is None else max(0.0, self._hold_until - time.monotonic())
            if self._closing.wait(min(left, held)):
                return
            self._expire()


def open_reader(face: Face, device: str) -> NfcReader:
    """The PN532 behind a device file such as /dev/thox-nfc0, which looks out of ``face``. Raises MissingPartError."""
    if importlib.util.find_spec("nfc") is None:
        raise MissingPartError("nfcpy is not installed", "pip install 'thox-agent[hardware]'")
    return NfcReader(face, helper_command(device))
