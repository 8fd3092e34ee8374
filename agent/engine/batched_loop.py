"""The engine's thread: admit, plan, compute, choose, tell; again and again.

The life of a request: (1) ``submit`` puts it into the inbox, (2) its choices join the line, (3) each is admitted to a
slot when its turn comes and its pages are free, (4) its prompt is computed in chunks between the others' steps, (5) a
token is chosen after each forward pass, (6) its text goes to the answer's queue, (7) it ends: a stop, the length, a
client that left, an error, (8) the slot is free for the next. Out of pages, the youngest goes back from (5) to (2).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.engine.base import Chunk, Delta, Floats, Meter, Runner
from agent.engine.batched_guesses import Guesses
from agent.engine.batched_intake import Job
from agent.engine.scheduler import Line, Pace, share
from agent.engine.sequence import TokenSequence
from agent.errors import EngineError, OverloadedError, RequestError, ThoxError, UnavailableError

log = logging.getLogger(__name__)

IDLE_S = 1.0  # how long an idle engine sleeps at most
JOIN_S = 10.0  # how long ``close`` waits for a forward pass to come back


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine was doing after its latest step."""

    running: int = 0
    pages: int = 0
    pages_used: int = 0
    last_token_at: float | None = None


class StepLoop:
    """Owns the runner, the slots and the line. ``submit`` and ``close`` are for any thread, the rest for its own."""

    def __init__(
        self,
        name: str,
        runner: Runner,
        meter: Meter,
        *,
        waiting: int,
        prefill_tokens: int,
        guesses: Guesses | None = None,
    ) -> None:
        self._name = name
        self._runner = runner
        self._meter = meter
        self._guesses = guesses
        self._bound = waiting
        self._prefill_tokens = prefill_tokens
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        # Shared, under the condition's lock.
        self._changed = threading.Condition()
        self._inbox: list[Job] = []
        self._unstarted = 0  # requests without a slot so far, those in the inbox aside
        self._spare = runner.slots  # slots that nobody waits for
        self._pace = Pace()
        self._closing: ThoxError | None = None
        # The thread's own.
        self._live: list[Job] = []  # requests that are not over; ``close`` reads it, too
        self._jobs: dict[TokenSequence, Job] = {}  # of every sequence that is not over
        self._line: Line[TokenSequence] = Line(runner.slots)
        self._free = deque(range(runner.slots))
        self._running: list[TokenSequence] = []
        self._shut = False  # pages ran out: nobody is admitted before somebody leaves
        self._computed: deque[tuple[TokenSequence, Chunk, Floats]] = deque()  # computed, their tokens not yet chosen
        self._at_work: list[TokenSequence] = []  # whose fault it is when something raises now
        use = runner.cache_use()
        self.load = Load(pages=use.pages, pages_used=use.used)  # read by any thread

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that have had no slot yet."""
        with self._changed:
            return self._unstarted + len(self._inbox)

    def submit(self, job: Job) -> None:
        """Raises OverloadedError when the line is full, UnavailableError when the engine is closed."""
        with self._changed:
            if self._closing is not None:
                raise self._closing
            waiting = self._unstarted + len(self._inbox)
            if waiting >= self._bound + self._spare:
                raise OverloadedError(
                    f"{waiting} requests are waiting for {self._name}; there is no room for more",
                    retry_after=self._pace.wait(waiting, time.monotonic()),
                    hint="try again after the time in Retry-After, or send fewer requests at once",
                )
            self._inbox.append(job)
            self._changed.notify()

    def close(self) -> None:
        """End every answer with an error; wait until the runner is closed, or for as long as a step may take."""
        self._refuse(
            UnavailableError(f"{self._name} was unloaded", retry_after=5.0, hint="ask again, or load it again")
        )
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S)

    def _refuse(self, error: ThoxError) -> None:
        with self._changed:
            if self._closing is not None:
                return
            self._closing = error
            jobs = [*self._live, *self._inbox]
            self._changed.notify()
        for job in jobs:
            job.answer.fail(error)

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._collect():
                try:
                    self._step()
                except Exception as error:  # noqa: BLE001  a device may raise anything; the other requests go on
                    self._blame(error)
        except Exception as error:  # noqa: BLE001  the thread ends, and everybody must know
            self._stop(error)
        finally:
            self._runner.close()
            if self._guesses is not None:
                self._guesses.close()

    def _collect(self) -> bool:
        """New requests join the line; those whose client left go. False when the engine is to end."""
        self._note()
        with self._changed:
            if not self._inbox and not self._live:
                self._pace = Pace()  # a rest says nothing of how fast requests are answered
            while not self._inbox and not self._live and self._closing is None:
                self._changed.wait(IDLE_S)
            if self._closing is not None:
                return False
            arrived, self._inbox = self._inbox, []
            self._live += arrived
            self._unstarted += len(arrived)
        for job in arrived:
            for sequence, place in zip(job.sequences, self._line.join(job.sequences), strict=True):
                sequence.place = place
                self._jobs[sequence] = job
        for job in [job for job in self._live if job.answer.closed]:
            self._drop(job, "cancelled")
        return True

    def _note(self) -> None:
        """What other threads may know."""
        use = self._runner.cache_use()
        with self._changed:
            self.load = replace(self.load, running=len(self._running), pages=use.pages, pages_used=use.used)
            self._unstarted = sum(not job.started for job in self._live)
            self._spare = 0 if len(self._line) else len(self._free)

    def _step(self) -> None:
        began = time.monotonic()
        self._choose()  # what is left of a step in which something raised
        self._admit()
        self._note()
        work = self._plan()
        if not work:
            self._at_work = []
            return
        self._at_work = [sequence for sequence, _ in work]
        drafted = self._guess(work) if self._guesses is not None else 0.0
        computing = time.monotonic()
        logits = self._runner.forward([chunk for _, chunk in work])
        computed = time.monotonic()
        row = 0
        for sequence, chunk in work:
            self._computed.append((sequence, chunk, logits[row : row + chunk.rows]))
            row += chunk.rows
        if self._guesses is not None and _decodes(work):
            self._guesses.computed(sum(len(chunk.tokens) for _, chunk in work), computed - computing)
        new_tokens = self._choose()
        now = time.monotonic()
        if new_tokens:
            self.load = replace(self.load, last_token_at=now)
        prompt_tokens = sum(len(c.tokens) for s, c in work if not _decodes([(s, c)]))
        self._meter.step(self._name, now - began, computed - computing + drafted, prompt_tokens, new_tokens)

    def _guess(self, work: list[tuple[TokenSequence, Chunk]]) -> float:
        """Lengthen the chunks of a step that only decodes by guesses where they pay; seconds of the draft model.

        A step with prompts in it is bound by its arithmetic, and pages are never taken from anybody for a guess.
        """
        assert self._guesses is not None
        if not _decodes(work):
            return 0.0
        self._guesses.propose([sequence for sequence, _ in work])
        for place, (sequence, chunk) in enumerate(work):
            if not sequence.guesses:
                continue
            if self._runner.reserve(chunk.slot, chunk.start + 1 + len(sequence.guesses)):
                work[place] = (sequence, sequence.chunk(1))
            else:
                sequence.guesses = []
        return self._guesses.draft_s

    def _admit(self) -> None:
        while self._free and not self._shut:
            sequence = self._line.first(lambda candidate: candidate.ready)
            if sequence is None:
                return
            self._at_work = [sequence]
            if sequence.wants_nothing:
                self._line.admit(sequence)
                self._tell(sequence, sequence.finish_at_once())
                continue
            slot = self._free[0]
            held = self._runner.begin(slot, sequence.prefix(), sequence.adapter)
            self._free.popleft()
            sequence.slot, sequence.held = slot, held
            if not self._runner.reserve(slot, len(sequence.tokens)):
                self._release(sequence)
                self._shut = bool(self._running)
                if not self._running:
                    self._cannot_fit(sequence)
                continue
            self._line.admit(sequence)
            self._running.append(sequence)
            self._running.sort(key=lambda one: one.place)
            self._jobs[sequence].started = True
            if sequence.cached is None:
                sequence.cached = held
        self._at_work = []

    def _plan(self) -> list[tuple[TokenSequence, Chunk]]:
        """Every sequence that decodes, and fair shares of the prompts."""
        self._at_work = list(self._running)
        wants = [sequence.want() if sequence.pending > 1 else 0 for sequence in self._running]
        shares = share(self._prefill_tokens, wants)
        planned: list[tuple[TokenSequence, int]] = []
        for sequence, part in zip(tuple(self._running), shares, strict=True):
            count = 1 if sequence.pending == 1 else part
            if sequence.slot is not None and count and self._reserved(sequence, sequence.held + count):
                planned.append((sequence, count))
        return [(sequence, sequence.chunk(count)) for sequence, count in planned if sequence.slot is not None]

    def _reserved(self, sequence: TokenSequence, length: int) -> bool:
        """Make room, from the youngest if need be; False when the sequence itself had to go."""
        while sequence.slot is not None and not self._runner.reserve(sequence.slot, length):
            youngest = self._running[-1]
            if len(self._running) == 1:
                self._cannot_fit(sequence)
                return False
            self._release(youngest)
            self._line.rejoin(youngest.place, youngest)
            self._shut = True
        return sequence.slot is not None

    def _cannot_fit(self, sequence: TokenSequence) -> None:
        """Alone, and still no room: what there is of the answer ends here."""
        self._at_work = []
        if sequence.chosen:
            self._tell(sequence, [sequence.finish("length")])
            return
        use = self._runner.cache_use()
        room = use.pages * use.page_tokens
        self._fail(
            self._jobs[sequence],
            RequestError(
                f"the prompt has {sequence.prompt} tokens; the cache has room for {room}",
                hint="shorten the prompt, or load the model with more cache_tokens",
                param="prompt",
                tokens=sequence.prompt,
                limit=room,
            ),
        )

    def _choose(self) -> int:
        """The next token of each sequence that was computed; how many tokens that made."""
        chosen = 0
        while self._computed:
            sequence, chunk, rows = self._computed.popleft()
            self._at_work = [sequence]
            job = self._jobs.get(sequence)
            if job is not None:  # else it went meanwhile: its client left, or a sibling broke
                before = len(sequence.tokens)
                self._advance(job, sequence, chunk, rows)
                chosen += len(sequence.tokens) - before
        self._at_work = []
        return chosen

    def _advance(self, job: Job, sequence: TokenSequence, chunk: Chunk, rows: Floats) -> None:
        try:
            deltas = sequence.take(len(chunk.tokens), rows)
        except ThoxError as error:
            self._fail(job, error)
            return
        if chunk.guessed and self._guesses is not None:
            self._runner.settle(chunk.slot, sequence.held)
            accepted = sequence.held - chunk.start - (len(chunk.tokens) - chunk.guessed)
            source = self._guesses.settled(sequence, chunk.guessed, accepted)
            self._meter.guessed(self._name, source, chunk.guessed, accepted)
        if sequence.chosen and not job.spoke:
            job.spoke = True
            self._meter.first_token(self._name, time.monotonic() - job.arrived)
        self._tell(sequence, deltas)

    def _tell(self, sequence: TokenSequence, deltas: list[Delta]) -> None:
        job = self._jobs[sequence]
        for delta in deltas:
            if delta.finish is not None:
                self._leave(sequence)
                if all(one.over for one in job.sequences):
                    self._tell_last(job, delta)
                    return
            job.answer.put(delta)

    def _tell_last(self, job: Job, delta: Delta) -> None:
        """The last piece of all carries the usage."""
        usage = job.usage()
        job.answer.put(replace(delta, usage=usage))
        self._live.remove(job)
        with self._changed:
            self._pace.finished(time.monotonic())
        self._meter.finished(self._name, str(delta.finish), usage)

    # --- leaving -------------------------------------------------------------------------------------------------

    def _blame(self, error: Exception) -> None:
        """Something raised: the requests it was computing end, their slots are freed, the others go on."""
        jobs = {id(job): job for one in self._at_work if (job := self._jobs.get(one)) is not None}
        self._at_work = []
        if not jobs:  # not a request's fault: the slots cannot be relied on any more
            raise error
        log.error("engine %s: requests %s failed", self._name, [job.id for job in jobs.values()], exc_info=error)
        if not isinstance(error, ThoxError):
            error = EngineError(
                f"the engine of {self._name} failed while computing: {type(error).__name__}",
                hint="try again; the device's log has the details",
            )
        for job in jobs.values():
            self._fail(job, error)

    def _stop(self, error: Exception) -> None:
        log.critical("engine %s stopped", self._name, exc_info=error)
        self._refuse(EngineError(f"the engine of {self._name} has stopped", hint="load the model again"))

    def _fail(self, job: Job, error: ThoxError) -> None:
        job.answer.fail(error)
        self._drop(job, "error")

    def _drop(self, job: Job, reason: str) -> None:
        """All of a request's sequences go, wherever they are."""
        for sequence in job.sequences:
            if not sequence.over:
                sequence.over = True
                self._leave(sequence)
        self._live.remove(job)
        self._meter.finished(self._name, reason, job.usage())

    def _leave(self, sequence: TokenSequence) -> None:
        self._jobs.pop(sequence, None)
        if sequence.slot is None:
            self._line.leave(lambda other: other is sequence)
        self._release(sequence)

    def _release(self, sequence: TokenSequence) -> None:
        self._shut = False
        if sequence.slot is None:
            return
        slot, sequence.slot, sequence.held, sequence.guesses = sequence.slot, None, 0, []
        if sequence in self._running:
            self._running.remove(sequence)
        self._free.append(slot)
        self._runner.release(slot)
        if self._guesses is not None:
            self._guesses.release(slot)


def _decodes(work: Sequence[tuple[TokenSequence, Chunk]]) -> bool:
    """Nothing of a prompt is computed."""
    return all(len(c.tokens) - c.guessed == 1 and c.start >= s.prompt for s, c in work)
