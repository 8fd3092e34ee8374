"""Links between members, over loopback: who is served, who is not, and what a bad peer costs."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from trusting_device import Device, devices, say, together

from agent.cluster.link import connection as link
from agent.cluster.link.connection import LinkConnection
from agent.cluster.link.frames import FRAME_BYTES, Deadline, LinkError, send_bytes
from agent.cluster.link.tls import _load_own, secured
from agent.cluster.trust.identity import LINK_LIFETIME_S, Credentials, Identity, TrustError
from agent.errors import NotFoundError

Make = Callable[..., Device]


class WallClock:
    """A clock that the test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with devices(tmp_path) as made:
        yield made


@pytest.fixture
def pair(make: Make) -> tuple[Device, Device]:
    a, b = make("a"), make("b")
    a.touch(b)
    return a, b


def tls_to(target: Device, who: Device, credentials: Credentials | None = None) -> ssl.SSLSocket:
    """The connection of one who takes liberties with the protocol after, or in, the handshake."""
    deadline = Deadline(5.0)
    plain = socket.create_connection(target.address, 5.0)
    send_bytes(plain, link.MAGIC, deadline)
    own = credentials or who.trust.link_credentials()
    tls, _ = secured(plain, server=False, credentials=own, trusted=(target.trust.identity.known,), deadline=deadline)
    return tls


def refused(tls: ssl.SSLSocket) -> bool:
    """Whether the server ends it without a word of welcome."""
    with tls:
        try:
            return tls.recv(1) == b""
        except OSError:
            return True


def served(pair: tuple[Device, Device]) -> bool:
    a, b = pair
    return bool(a.ask(b)["to"] == a.id)


def test_many_requests_go_over_one_connection_and_errors_are_told(make: Make) -> None:
    a, b = make("a"), make("b")
    a.touch(b)

    def handle(node_id: str, body: dict[str, object]) -> dict[str, object]:
        if body["say"] == "error":
            raise NotFoundError("There is no such document")
        if body["say"] == "bug":
            raise ZeroDivisionError("a bug")
        return {"from": node_id, **body}

    server = link.MutualTls(b.trust, handle)
    connection = a.links.connect(b.id, server.listen("127.0.0.1", 0))
    try:
        assert connection.device_id == b.id
        for number in range(20):
            assert connection.request({"say": number}) == {"from": a.id, "say": number}
        with pytest.raises(NotFoundError, match="no such document"):
            connection.request({"say": "error"})
        assert connection.request({"say": "x" * (FRAME_BYTES - 1000)})["from"] == a.id
        logging.disable()
        with pytest.raises(LinkError):
            connection.request({"say": "bug"})
    finally:
        logging.disable(logging.NOTSET)
        connection.close()
        server.close()


def test_a_stranger_on_the_lan_is_not_served(make: Make, pair: tuple[Device, Device]) -> None:
    _, b = pair
    stranger = make("stranger")
    assert refused(tls_to(b, stranger))
    assert say(b.address, b"GET / HTTP/1.1\r\n\r\n") == b""
    assert say(b.address, link.MAGIC + b"\x16\x03\x01\x00\x05hello").startswith(b"\x15")  # a TLS alert and no more
    assert b.heard == [] and served(pair)


def test_a_client_without_a_certificate_is_not_served(pair: tuple[Device, Device]) -> None:
    _, b = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(b.address, 5.0)
    plain.sendall(link.MAGIC)
    assert refused(context.wrap_socket(plain))


def test_nothing_older_than_tls_1_3_is_spoken(pair: tuple[Device, Device]) -> None:
    a, b = pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _load_own(context, a.trust.link_credentials())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(b.address, 5.0) as plain:
        plain.sendall(link.MAGIC)
        with pytest.raises(ssl.SSLError), context.wrap_socket(plain):
            pass


def test_a_member_of_another_stack_is_not_served(make: Make, pair: tuple[Device, Device]) -> None:
    _, b = pair
    c, d = make("c"), make("d")
    together(c, d)
    assert refused(tls_to(b, c)) and b.heard == []


def test_a_member_cannot_speak_for_another(make: Make) -> None:
    """Its key may sign certificates, and OpenSSL takes them: the name in them must be its own all the same."""
    a, b, c = make("a"), make("b"), make("c")
    together(a, b, c)
    liar = Identity(c.id, c.trust.identity._key)
    liar.known = replace(liar.known, device_id=a.id)  # issued by c, as it should be, for the name of a
    assert refused(tls_to(b, c, liar.link_credentials(c.trust.clock.now())))
    assert b.heard == []


def test_an_identity_certificate_is_no_link_certificate(pair: tuple[Device, Device]) -> None:
    """The identity key is for signing: a link with it would have no end."""
    a, b = pair
    assert refused(tls_to(b, a, a.trust.identity.own_credentials())) and b.heard == []


def test_who_answers_must_be_the_member_that_was_asked_for(make: Make) -> None:
    a, b, c = make("a"), make("b"), make("c")
    together(a, b, c)
    with pytest.raises(LinkError):
        a.links.connect(b.id, c.address)
    with pytest.raises(TrustError):
        a.links.connect("11111111-1111-1111-1111-111111111111", c.address)


def test_an_ended_certificate_is_refused_and_ends_a_connection_that_is_open(make: Make) -> None:
    clock = WallClock(1.8e9)
    a, b = make("a", wall=clock), make("b", wall=clock)
    a.touch(b)
    early = a.trust.link_credentials()
    connection = LinkConnection(a.trust, tls_to(b, a, early), b.trust.identity.known, 4e9)
    with connection._tls:
        assert connection._tls.recv(64)  # the welcome
        clock.now += LINK_LIFETIME_S + 1
        with pytest.raises(LinkError):
            connection.request({"say": "late"})
    assert refused(tls_to(b, a, early))
    assert b.heard == []
    assert a.ask(b)["to"] == a.id, "renewed in time"


def test_certificates_are_renewed_before_they_end_and_not_at_every_connection(make: Make) -> None:
    clock = WallClock(1.8e9)
    a = make("a", wall=clock)
    first = a.trust.link_credentials()
    clock.now += LINK_LIFETIME_S / 2
    assert a.trust.link_credentials() is first
    clock.now += LINK_LIFETIME_S / 4
    assert a.trust.link_credentials().ends_at == pytest.approx(clock.now + LINK_LIFETIME_S)


@pytest.mark.parametrize("slow", ["caller", "callee"])
def test_a_device_that_wakes_up_in_1970_is_linked_at_the_second_try_at_the_latest(make: Make, slow: str) -> None:
    now, then = WallClock(1.8e9), WallClock(0.0)
    a = make("a", wall=then if slow == "caller" else now)
    b = make("b", wall=now if slow == "caller" else then)
    a.touch(b)
    with contextlib.suppress(LinkError, TrustError):
        a.ask(b)
    ends = time.monotonic() + 10.0
    while min(a.trust.clock.now(), b.trust.clock.now()) < 1.7e9:  # its thread may not have read it yet
        assert time.monotonic() < ends
    assert a.ask(b)["to"] == a.id
    assert a.trust.clock.now() == pytest.approx(b.trust.clock.now(), abs=60)


def test_a_forgotten_node_is_cut_off_in_the_middle_and_not_let_in_again(pair: tuple[Device, Device]) -> None:
    a, b = pair
    connection = a.links.connect(b.id, b.address)
    try:
        assert connection.request({"say": 1})
        b.trust.forget(a.id)
        with pytest.raises(LinkError):
            connection.request({"say": 2})
    finally:
        connection.close()
    with pytest.raises(LinkError):
        a.links.connect(b.id, b.address)
    assert [body["say"] for _, body in b.heard] == [1]


def test_each_half_of_a_divided_stack_renews_and_links_and_forgets_by_itself(make: Make) -> None:
    clock = WallClock(1.8e9)
    a, b, c = (make(name, wall=clock) for name in "abc")
    together(a, b, c)
    clock.now += 30 * LINK_LIFETIME_S
    a.links.close()
    assert b.ask(c)["to"] == b.id and c.ask(b)["to"] == c.id
    b.trust.forget(a.id)
    assert c.trust.take(b.trust.document()) and c.members() == {b.id, c.id}
    with pytest.raises(TrustError):
        b.trust.take(a.trust.document())


def test_frames_that_are_too_long_or_no_objects_end_the_connection(pair: tuple[Device, Device]) -> None:
    a, b = pair
    for bad in (
        (FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff" + b"x" * 1000,
        b"\0\0\0\x02[]",
        b"\0\0\0\x03{x}",
        b"\0\0\0\x04\xff\xfe\xfd\xfc",
        (100_000).to_bytes(4, "big") + b"[" * 100_000,
    ):
        with tls_to(b, a) as tls:
            assert json.loads(tls.recv(64)[4:]) == {"ready": True}
            tls.sendall(bad)
            with contextlib.suppress(ConnectionError):
                assert tls.recv(64) == b""
    with pytest.raises(LinkError, match="too many for a frame"):
        a.ask(b, {"say": "x" * FRAME_BYTES})
    assert b.heard == [] and served(pair)


def test_slow_strangers_are_few_at_once_and_cut_off_while_members_are_served(
    pair: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They send a byte now and then, so no single wait is long: the whole handshake has one end."""
    _, b = pair
    monkeypatch.setattr(link, "HANDSHAKE_S", 1.0)
    began, ended = time.monotonic(), list[float]()
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in link.MAGIC + b"\x16\x03\x01\x02\x00" + bytes(500):
                connection.sendall(bytes((byte,)))
                if stop.wait(0.05):
                    break
        ended.append(time.monotonic())

    open_now = [socket.create_connection(b.address, 5.0, source_address=("127.0.0.9", 0)) for _ in range(8)]
    threads = [threading.Thread(target=drip, args=(each,)) for each in open_now]
    for thread in threads:
        thread.start()
    assert served(pair), "other addresses are served meanwhile"
    for thread in threads:
        thread.join(10.0)
    assert len(ended) == 8 and max(ended) - began < 5.0
    for each in open_now:
        each.close()


def test_strangers_are_not_more_than_a_few_for_each_address_and_in_all(
    pair: tuple[Device, Device],
) -> None:
    _, b = pair
    held = []
    for number in range(link.MOST_UNPROVEN_OF_ONE + 3):
        held.append(socket.create_connection(b.address, 5.0, source_address=("127.0.0.8", 0)))
        held[-1].settimeout(3.0)
        if number >= link.MOST_UNPROVEN_OF_ONE:
            assert held[-1].recv(1) == b"", "one too many is closed at once"
    for each in held:
        each.close()
    assert served(pair)


def test_what_goes_over_the_wire_is_hidden_and_holds_no_key(make: Make) -> None:
    """A relay between two devices writes down all that passes, touch and link."""
    a, b = make("a"), make("b")
    wire = bytearray()
    with relay(b.address, wire) as address:
        original, b.address = b.address, address
        a.touch(b)
        assert a.ask(b, {"say": "a-secret-of-the-stack"})
        b.address = original
    for device in (a, b):
        key = device.trust.identity._key.private_bytes_raw()
        assert key not in wire and key.hex().encode() not in wire
        assert device.worn.written.encode() not in wire and bytes.fromhex(device.worn.written) not in wire
        assert device.trust.identity.known.certificate in wire, "the recording is no empty one"
    assert b"a-secret-of-the-stack" not in wire


@contextlib.contextmanager
def relay(target: tuple[str, int], wire: bytearray) -> Iterator[tuple[str, int]]:
    """Passes everything on, and keeps it."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                wire.extend(piece)
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(target, 5.0)
                both = [threading.Thread(target=pump, args=ends) for ends in ((near, far), (far, near))]
                for thread in both:
                    thread.start()
                for thread in both:
                    thread.join(10.0)
                near.close()
                far.close()

    threads.append(threading.Thread(target=accept))
    threads[0].start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        threads[0].join(10.0)
        listener.close()
