"""gunicorn: one process that serves both ports, and a master that replaces it when it dies.

The master binds the ports, prints nothing and computes nothing; the worker (gthread) builds the node after the fork,
since the threads of an inference runtime do not survive one. Connections that arrive before the worker accepts wait in
the listening sockets; the worker answers as soon as it runs, with 503 and Retry-After while models load.

Which app answers is decided by the port that the listening socket is bound to. gunicorn takes SERVER_PORT from that
socket's own name, so no header of a client has a say in it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from gunicorn.workers.base import Worker  # type: ignore[import-untyped]
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from agent.config import Config, ConfigError
from agent.errors import RequestError, ThoxError
from hal.base import HardwareError

log = logging.getLogger(__name__)

GRACE_S: Final = 3.0  # what running answers get to end by themselves when the device stops
STOP_S: Final = 10  # after which a worker that still runs is killed
WORKER_SILENT_S: Final = 120  # a worker whose main loop stood still for this long is replaced
CRASHES: Final = 5  # so many starts
CRASHES_WITHIN_S: Final = 60.0  # within this time
PAUSE_S: Final = 10.0  # put this between any two further ones
CLUSTER_THREADS: Final = 16  # its own, so that streams on the inference port never keep the cluster waiting

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]  # the second: start_response


class Served(Protocol):
    """What the server needs of a node."""

    @property
    def apps(self) -> Mapping[int, Wsgi]:
        """By port."""
        ...

    def start(self) -> None: ...

    def close(self) -> None: ...


def check_ports(config: Config) -> None:
    """Raises ConfigError when one of the two ports cannot be bound. gunicorn itself would try for five seconds."""
    bind = config.server.bind
    for name in ("inference_port", "cluster_port"):
        port = getattr(config.server, name)
        with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((bind, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    hint = "Set THOX_BIND to an address of this machine: 127.0.0.1 for itself, 0.0.0.0 for the LAN."
                else:
                    hint = f"Another program may use it. Set THOX_{name.upper()} to another port."
                raise ConfigError(f"Port {port} on {bind} cannot be used: {error.strerror}", hint) from error


def serve(config: Config, build: Callable[[Config], Served]) -> None:
    """Serve until SIGINT or SIGTERM; leaves by SystemExit. ``build`` is called in the worker, again after a crash."""
    _Server(config, build).run()


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, config: Config, build: Callable[[Config], Served]) -> None:
        self.config = config
        self.build = build
        self.node: Served | None = None
        super().__init__()

    def load_config(self) -> None:
        server = self.config.server
        shm = Path("/dev/shm")  # for gunicorn's heartbeat file: on a disk it would stall with the disk
        settings = {
            "bind": [server.address(server.inference_port), server.address(server.cluster_port)],
            "workers": 1,
            "worker_class": _Worker,
            "threads": server.threads,
            "timeout": WORKER_SILENT_S,
            "graceful_timeout": STOP_S,
            "keepalive": 5,
            "preload_app": False,
            "limit_request_line": 4094,
            "limit_request_fields": 64,
            "limit_request_field_size": 8190,
            "control_socket_disable": True,  # gunicorn >= 25.1 opens one by default
            "forwarded_allow_ips": "",  # no proxy stands in front: nobody may set the scheme or the script name
            "logger_class": _Logger,
            "proc_name": "thox",
            "post_fork": _limit_stalls,
            "worker_exit": lambda _master, _worker: self.leave(),
            "on_exit": lambda _master: log.info("stopped"),
        }
        if shm.is_dir():
            settings["worker_tmp_dir"] = str(shm)
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Wsgi:
        try:
            self.node = self.build(self.config)
            self.node.start()
            log.info("both ports answer")
        except (ThoxError, ConfigError, HardwareError) as error:
            log.error("the node cannot start: %s", error, extra={"hint": error.hint} if error.hint else None)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        return by_port(self.node.apps)

    def close(self) -> None:
        node, self.node = self.node, None
        if node is not None:
            node.close()

    def leave(self) -> None:
        """End the worker's process, with the status that it is leaving with.

        At once: the interpreter's own end would pull the ground from under a model that an inference runtime is still
        compiling, and the runtime aborts the process then.
        """
        self.close()
        leaving = sys.exc_info()[1]
        status = leaving.code if isinstance(leaving, SystemExit) else 1
        logging.shutdown()
        os._exit(status if isinstance(status, int) else 1)

    def run(self) -> None:
        _Master(self).run()


def by_port(apps: Mapping[int, Wsgi]) -> Wsgi:
    """One app out of several: the port of the socket that took the connection chooses."""
    chosen = {str(port): app for port, app in apps.items()}

    def application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        return chosen[environ["SERVER_PORT"]](environ, start_response)

    return application


class _Body:
    """The body of a request. One that breaks the rules of chunks fails as one that breaks off does, with OSError:

    frameworks expect that of a body, and no errors of gunicorn's own parser.
    """

    def __init__(self, body: Any) -> None:  # noqa: ANN401  gunicorn has no types
        self._body = body

    def read(self, size: int | None = None) -> bytes:
        try:
            data: bytes = self._body.read(size)
        except ParseException as error:
            raise OSError(f"malformed body: {error}") from error
        return data


class CrashPace:
    """When a worker may be started: at once, but not for ever at once when one after the other dies."""

    def __init__(self) -> None:
        self._starts: deque[float] = deque(maxlen=CRASHES)

    def may_start(self, now: float) -> bool:
        """Whether to start one at ``now``, in seconds of a clock that only goes forward; a yes counts as a start."""
        crashing = len(self._starts) == CRASHES and now - self._starts[0] < CRASHES_WITHIN_S
        if crashing and now - self._starts[-1] < PAUSE_S:
            return False
        self._starts.append(now)
        return True


class _Master(Arbiter):  # type: ignore[misc]
    """A device has one worker, and every signal that ends a program in the foreground ends it gracefully."""

    def __init__(self, app: BaseApplication) -> None:
        self._pace = CrashPace()
        super().__init__(app)

    def spawn_workers(self) -> None:
        """Called each second while the worker is missing."""
        if self._pace.may_start(time.monotonic()):
            super().spawn_workers()

    def handle_int(self) -> None:
        log.info("stopping; answers that run get %.0f seconds to end", GRACE_S)
        raise StopIteration  # gunicorn's way to say: stop as for SIGTERM

    handle_term = handle_quit = handle_hup = handle_int

    def handle_ttin(self) -> None:
        log.info("one worker is all there is")

    handle_ttou = handle_usr2 = handle_ttin


class _Worker(ThreadWorker):  # type: ignore[misc]
    def init_process(self) -> None:
        self.cluster_pool = ThreadPoolExecutor(CLUSTER_THREADS, thread_name_prefix="cluster")
        super().init_process()

    def get_thread_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.cfg.threads, thread_name_prefix="inference")

    def init_signals(self) -> None:
        super().init_signals()
        # Ctrl-C reaches the whole group of the terminal; the master then tells the worker to stop, gracefully.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.alive:
            # Closing the node ends the answers that still run, each with an error that the client sees.
            closing = threading.Timer(GRACE_S, self.app.close)
            closing.daemon = True
            closing.start()
        super().handle_exit(sig, frame)

    def enqueue_req(self, conn: TConn) -> None:
        own = conn.server[1] == self.app.config.server.cluster_port
        future: Future[object] = (self.cluster_pool if own else self.tpool).submit(self._handle_and_close, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _handle_and_close(self, conn: TConn) -> object:
        """Closing waits up to two seconds for the client to hang up: here, not in the loop that accepts the others."""
        kept = self.handle(conn)
        if not kept:
            conn.close(graceful=True)
            conn.close = _closed_already
        return kept

    def handle_error(self, req: object, client: socket.socket, addr: object, exc: BaseException) -> None:
        """A request that is no HTTP, or more than the limits allow, gets the same shape of error as any other."""
        expected = type(exc).__module__.startswith("gunicorn.http")
        if not expected:
            log.error("error outside the app", exc_info=exc)
        error = RequestError(f"Bad request: {exc}") if expected else ThoxError("internal error")
        body = json.dumps(error.to_json()).encode()
        reason = "Bad Request" if expected else "Internal Server Error"
        head = (
            f"HTTP/1.1 {error.status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError:
            log.debug("the client left before it was told what was wrong with its request")


def _closed_already(graceful: bool = False) -> None:
    """What the loop calls once more for a connection that its thread has closed."""


class _Logger(Logger):  # type: ignore[misc]
    """gunicorn's events, through the agent's log. The line of each request is written by the agent itself."""

    def setup(self, cfg: object) -> None:
        self.cfg = cfg
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.error_log.filters[:] = [_is_news]

    def access(self, *_unused: object) -> None:
        """Nothing: see agent.log.access."""


def _is_news(record: logging.LogRecord) -> bool:
    """A client that stalled and was cut off is no error of the device."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (TimeoutError, BlockingIOError))


def _limit_stalls(_master: object, worker: Worker) -> None:
    """Accepted sockets inherit these from the listening one (Linux): no read or write of a client may stall for ever.

    The guard sets the same bound on a request that it knows; this one holds while the headers arrive, too.
    """
    server = worker.app.config.server
    for listener in worker.sockets:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(server.send_timeout_s))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(server.receive_timeout_s))


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
