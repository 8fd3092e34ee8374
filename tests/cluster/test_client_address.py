"""The address that clients are told: never one that nobody can connect to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent.cluster.client_address import LOOK_S, ClientAddress, outward
from agent.cluster.membership.beacon import LONGEST
from hal.sim import SimDevice

HERE, WIDE = "192.0.2.7", "2001:db80:1111:2222:3333:4444:5555:6666"


class Routes:
    """Where the default routes of a machine leave it, by version of IP; none unless a test says so."""

    def __init__(self, **found: str) -> None:
        self.found, self.asked = found, 0

    def __call__(self, version: int) -> str:
        self.asked += 1
        return self.found.get(f"v{version}", "")


@pytest.mark.parametrize(
    ("bound", "routes", "told"),
    [
        ("127.0.0.1:5381", Routes(v4=HERE), "127.0.0.1:5381"),
        ("192.0.2.9:80", Routes(v4=HERE), "192.0.2.9:80"),
        ("[2001:db8::5]:5381", Routes(v4=HERE), "[2001:db8::5]:5381"),
        ("0.0.0.0:5381", Routes(v4=HERE, v6=WIDE), f"{HERE}:5381"),
        ("[::]:5381", Routes(v4=HERE, v6=WIDE), f"{HERE}:5381"),
        ("[::]:5381", Routes(v6=WIDE), f"[{WIDE}]:5381"),
        ("0.0.0.0:5381", Routes(v6=WIDE), "127.0.0.1:5381"),  # that of the simulated link
    ],
)
def test_a_server_on_every_address_is_told_as_one_that_can_be_reached(bound: str, routes: Routes, told: str) -> None:
    assert ClientAddress(bound, SimDevice().hardware.link, route=routes)() == told


def test_a_new_address_of_the_machine_is_told_soon_and_not_looked_for_all_the_time() -> None:
    now = [100.0]
    routes = Routes(v4=HERE)
    address = ClientAddress("0.0.0.0:5381", SimDevice().hardware.link, lambda: now[0], routes)
    assert [address() for _ in range(5)] == [f"{HERE}:5381"] * 5 and routes.asked == 1
    routes.found["v4"] = "192.0.2.8"
    now[0] += LOOK_S
    assert address() == "192.0.2.8:5381"


def test_the_kernel_is_asked_without_a_word_to_anybody() -> None:
    found = outward(4)
    assert found == "" or not ip_address(found).is_unspecified


def test_the_longest_address_fits_into_a_beacon() -> None:
    longest = ClientAddress("[::]:65535", SimDevice().hardware.link, route=Routes(v6=WIDE))()
    assert len(longest) <= LONGEST["address"]
