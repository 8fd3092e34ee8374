"""The switch that slows a lab's links: what real hosts say through it arrives whole, late, and in another order."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from lan import Host, Lan, why_not
from slow_switch import SlowSwitch, whole_frames

PORT = 4000
MEGABYTE = bytes(range(256)) * 4096


@pytest.fixture
def hosts() -> Iterator[tuple[SlowSwitch, Host, Host]]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Lan() as lan, contextlib.ExitStack() as stack:
        here, there = lan.host(), lan.host()
        for number, host in enumerate((here, there), 1):
            lan.plug(host, "eth0", f"10.0.0.{number}/24", f"fd00::{number}/64", port=f"port{number}")
            whole_frames(host, "eth0")
        switch = SlowSwitch(lan.switch, ("port1", "port2"), doubled=0.2, seed=1)
        stack.callback(switch.close)
        yield switch, here, there


def test_what_two_hosts_say_is_late_out_of_order_and_partly_doubled_and_nothing_is_lost(
    hosts: tuple[SlowSwitch, Host, Host],
) -> None:
    switch, here, there = hosts
    with _receiver(there, socket.AF_INET, "10.0.0.2") as receiver, _sender(here, socket.AF_INET) as sender:
        sender.sendto(b"who has it", ("10.0.0.2", PORT))  # asks for the hardware address, and waits for the answer
        assert receiver.recv(100) == b"who has it"
        switch.delay_s = (0.1, 0.3)
        began, sent = time.monotonic(), [b"%d" % number for number in range(100)]
        for each in sent:
            sender.sendto(each, ("10.0.0.2", PORT))
        got = [receiver.recv(100)]
        assert time.monotonic() - began >= 0.1
        while set(sent) - set(got):
            got.append(receiver.recv(100))
    assert got != sorted(got, key=sent.index) and switch.overtaken
    assert switch.twice and len(got) > len(set(got)) and not switch.lost


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "10.0.0.2"), (socket.AF_INET6, "fd00::2")])
def test_a_megabyte_goes_through_whole_after_the_hosts_have_found_each_other(
    hosts: tuple[SlowSwitch, Host, Host], family: socket.AddressFamily, address: str
) -> None:
    switch, here, there = hosts
    switch.delay_s = (0.001, 0.004)
    with there:
        listener = socket.create_server((address, PORT), family=family)
    with here:
        client = socket.socket(family)
    with listener, client:
        client.settimeout(20.0)
        listener.settimeout(10.0)
        client.connect((address, PORT))
        served, _ = listener.accept()
        speaker = threading.Thread(target=client.sendall, args=(MEGABYTE,))
        speaker.start()
        with served, served.makefile("rb") as stream:
            served.settimeout(20.0)
            got = stream.read(len(MEGABYTE))
        speaker.join()
    assert got == MEGABYTE


@contextlib.contextmanager
def _receiver(host: Host, family: socket.AddressFamily, address: str) -> Iterator[socket.socket]:
    with host:
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        made.bind((address, PORT))
        made.settimeout(10.0)
        yield made


@contextlib.contextmanager
def _sender(host: Host, family: socket.AddressFamily) -> Iterator[socket.socket]:
    with host:
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        yield made
