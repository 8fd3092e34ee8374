"""HTTP for pulls: GET over verified TLS, through a proxy where one is set, with redirects that cannot do harm.

Plain HTTP goes to this machine itself and to hosts that ``models.plain_http`` names, to nobody else. A redirect never
takes the authorization to another host, and never leads from HTTPS to HTTP. Built on urllib3, which brings proxies,
connection reuse and reads that another thread can break off; retries are ours, because a blob goes on where it ended.
"""

from __future__ import annotations

import email.utils
import ipaddress
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from agent.config import ConfigError, ModelsConfig
from agent.errors import ModelError, UnavailableError
from agent.models.pull_control import BusyError, Limits, Stop

CHUNK = 1024 * 1024
_MOST_HOPS = 5
_BUSY = (408, 429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_SAID_TWICE = re.compile(r"^HTTPS?Connection\(host=[^)]*\): ")  # urllib3 names the host and the port again
_Result = TypeVar("_Result")


class Response:
    """An answer whose body is still to be read. ``first`` are the headers before any redirect."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, host: str, limits: Limits) -> None:
        self._answer, self._host, self._limits = answer, host, limits
        self.status = answer.status
        self.first: Mapping[str, str] = answer.headers

    def header(self, name: str) -> str:
        return self._answer.headers.get(name, "")

    def chunks(self, stop: Stop) -> Iterator[bytes]:
        """The body as it comes. Raises UnavailableError when it breaks off or hardly moves, Stopped."""
        limits, came, since = self._limits, 0, time.monotonic()
        try:
            with stop.breaking(self._break_off):
                while data := self._answer.read1(CHUNK):
                    stop.check()
                    yield data
                    came += len(data)
                    if time.monotonic() - since >= limits.slow_s:
                        if came < limits.slow_bytes:
                            raise _broken(self._host, f"{came} bytes in {limits.slow_s:g} s are too few")
                        came, since = 0, time.monotonic()
                stop.check()  # a read that was broken off looks like an end
        except (HTTPError, OSError) as error:
            stop.check()
            raise _broken(self._host, error) from error

    def body(self, most: int, stop: Stop) -> bytes:
        """The whole body. Raises ModelError past ``most`` bytes, else as ``chunks``."""
        data = bytearray()
        for chunk in self.chunks(stop):
            data += chunk
            if len(data) > most:
                raise ModelError(f"{self._host} answered with more than {most} bytes where few were expected")
        return bytes(data)

    def close(self) -> None:
        """A connection whose body was not read to its end is of no further use."""
        self._answer.close()

    def _break_off(self) -> None:
        with suppress(HTTPError, OSError, ValueError, RuntimeError):  # it ended by itself in the meantime
            self._answer.shutdown()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Http:
    """Thread-safe. One for all pulls, so that connections are reused."""

    def __init__(self, settings: ModelsConfig, limits: Limits) -> None:
        """Raises ConfigError for a certificate file or a proxy that cannot be used."""
        self._limits = limits
        self._plain_hosts = frozenset(settings.plain_http)
        self._no_proxy = tuple(each.strip().lstrip(".").lower() for each in settings.no_proxy)
        self._ca_file, self._proxy = settings.ca_file, _checked_proxy(settings.proxy)
        if self._ca_file:
            _add_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self._ca_file)
        self._lock = threading.Lock()
        self._pools: dict[tuple[bool, bool], urllib3.PoolManager] = {}  # by TLS, proxied

    def close(self) -> None:
        """Let go of the connections that are kept for reuse."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def base(self, host: str) -> str:
        """``https://host``, or ``http://host`` where that is allowed."""
        return f"{'http' if self._may_be_plain(urlsplit('//' + host).netloc) else 'https'}://{host}"

    def get(
        self,
        url: str,
        stop: Stop,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        led_by: str = "",
    ) -> Response:
        """Ask once, following redirects (HEAD: not to other hosts). ``headers`` may hold an Authorization.

        ``led_by`` is the address that named this one: where that was HTTPS, this has to be, too.
        Raises UnavailableError when nobody answers, BusyError for 429 and 5xx, ModelError for a redirect that is not
        safe, Stopped. Other statuses are the caller's.
        """
        sent = {"User-Agent": "thox-agent", "Accept-Encoding": "identity", **(headers or {})}
        parts = _parts(url)
        origin = _parts(led_by) if led_by else parts
        first: Mapping[str, str] | None = None
        for _ in range(_MOST_HOPS):
            stop.check()
            self._check_safe(parts, origin)
            response = self._exchange(method, parts, sent)
            if first is None:
                first = response.first
            response.first = first
            if response.status in _BUSY:
                wished = _seconds(response.header("Retry-After"))
                response.close()
                raise BusyError(f"{parts.netloc} answered {response.status}", wished)
            if response.status not in _REDIRECTS:
                return response
            response.close()  # its headers can still be read
            target = _parts(response.header("Location"), base=parts)
            if method == "HEAD" and target.netloc != parts.netloc:
                return response  # what it says of itself is what was asked for
            if (target.scheme, target.netloc) != (parts.scheme, parts.netloc):
                sent = {name: value for name, value in sent.items() if name != "Authorization"}
            parts = target
        raise ModelError(f"{origin.netloc} leads in circles")

    def _exchange(self, method: str, parts: SplitResult, headers: Mapping[str, str]) -> Response:
        host = parts.hostname or ""
        proxied = bool(self._proxy) and not is_loopback(host) and not self._needs_no_proxy(host)
        try:
            answer = self._pool(parts.scheme == "https", proxied).request(
                method,
                parts._replace(fragment="").geturl(),
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, ValueError) as error:  # ValueError: an address that is none
            raise _broken(parts.netloc, error) from error
        return Response(answer, parts.netloc, self._limits)

    def _pool(self, tls: bool, proxied: bool) -> urllib3.PoolManager:
        """Made when it is first needed: the system's authorities take a quarter of a second to read."""
        with self._lock:
            pool = self._pools.get((tls, proxied))
            if pool is None:
                pool = self._pools[tls, proxied] = self._make_pool(tls, proxied)
            return pool

    def _make_pool(self, tls: bool, proxied: bool) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=self._limits.connect_s, read=self._limits.silence_s),
            "maxsize": 2 * self._limits.parallel,
            "retries": False,
        }
        context = None
        if tls or self._proxy.startswith("https:"):
            context = ssl.create_default_context()
            if self._ca_file:
                _add_authorities(context, self._ca_file)
        if not proxied:
            return urllib3.PoolManager(ssl_context=context, **options)
        parts = urlsplit(self._proxy)
        account = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=account) if account else None
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return urllib3.ProxyManager(
            bare, proxy_headers=headers, proxy_ssl_context=context, ssl_context=context, **options
        )

    def _check_safe(self, parts: SplitResult, origin: SplitResult) -> None:
        plain = parts.scheme == origin.scheme == "http" and self._may_be_plain(parts.netloc)
        if not parts.hostname or parts.username is not None or not (plain or parts.scheme == "https"):
            raise ModelError(f"{origin.netloc} leads to {parts.scheme}://{parts.hostname or ''}, which is not safe")

    def _needs_no_proxy(self, host: str) -> bool:
        """As NO_PROXY is understood everywhere: a host, a domain with all below it, or * for everything."""
        return any(each == "*" or host == each or (each and host.endswith(f".{each}")) for each in self._no_proxy)

    def _may_be_plain(self, host: str) -> bool:
        return is_loopback(host) or host in self._plain_hosts


def patiently(action: Callable[[], _Result], stop: Stop, limits: Limits) -> _Result:
    """Call ``action`` until the server is no longer busy, within the limits. Raises BusyError in the end."""
    failures = 0
    while True:
        try:
            return action()
        except BusyError as error:
            failures += 1
            if failures == limits.tries or error.wished_s > limits.longest_wait_s:
                raise
            stop.wait(limits.delay(failures, error.wished_s))


def is_loopback(host: str) -> bool:
    """Whether host[:port] is this machine itself, by its literal name: a name service has no say in it."""
    bare = re.sub(r":\d*$", "", host) if host.startswith("[") or host.count(":") == 1 else host
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _add_authorities(context: ssl.SSLContext, ca_file: str) -> None:
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"models.ca_file = {ca_file!r} cannot be used: {error}", "It holds certificates in PEM form."
        ) from error


def _checked_proxy(text: str) -> str:
    """The proxy's address with its scheme, or nothing. Raises ConfigError, without what may be its password."""
    url = text if "://" in text or not text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = not url or (parts.scheme in ("http", "https") and parts.hostname and parts.port is not None)
    except ValueError:
        good = False
    if not good:
        raise ConfigError("models.proxy is not the address of an HTTP proxy", 'proxy = "http://host:port"')
    return url


def _parts(url: str, base: SplitResult | None = None) -> SplitResult:
    try:
        parts = urlsplit(url if base is None else urljoin(base.geturl(), url))
        parts.port  # noqa: B018  a port that is none raises here
    except ValueError as error:  # brackets that hold no address
        raise ModelError(f"{url[:80]!r} is no address and not safe: {error}") from error
    return parts


def _seconds(retry_after: str) -> float:
    """Retry-After, in seconds or as a date; 0.0 where it says nothing that can be understood."""
    if re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _broken(host: str, error: object) -> UnavailableError:
    return UnavailableError(
        f"{host} cannot be reached: {_SAID_TWICE.sub('', str(error)) or type(error).__name__}",
        retry_after=30,
        hint="check the name of the host and the device's network",
    )
