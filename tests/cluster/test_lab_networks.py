"""Four real agents in network namespaces: the link between them is the real driver on real interfaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network_lab import Network, network_lab, why_not
from running_lab import RunningLab, running

pytestmark = pytest.mark.timeout(300)  # several processes start, on a machine that may be busy

ALL = ("module-1", "module-2", "module-3", "module-4")


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    network = Network(len(ALL))
    yield network
    network.close()


@pytest.fixture(scope="module")
def lab(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    folder = tmp_path_factory.mktemp("networks")
    with running(lambda: network_lab(folder, network, len(ALL))) as lab:
        yield lab


@pytest.fixture
def whole(lab: RunningLab) -> Iterator[RunningLab]:
    lab.together()
    yield lab
    lab.together()


def test_over_real_links_a_stack_becomes_one_cluster(whole: RunningLab, network: Network) -> None:
    assert whole.leader("module-4") == "module-1"
    addresses = {node["address"] for node in whole.topology("module-1")["nodes"]}
    assert addresses == {f"{network.lan(number)}:5381" for number in (1, 2, 3, 4)}


def test_a_module_whose_link_is_pulled_goes_on_alone_and_comes_back(whole: RunningLab, network: Network) -> None:
    before = whole.together()
    network.pull(4)
    try:
        rest, alone = whole.together(*ALL[:3]), whole.together("module-4")
        assert min(rest.term, alone.term) > before.term
    finally:
        network.plug(4)
    assert whole.together().term > max(rest.term, alone.term)


def test_halves_that_hear_only_themselves_are_two_clusters_until_they_meet(whole: RunningLab, network: Network) -> None:
    network.divide()
    try:
        lower, upper = whole.together(*ALL[:2]), whole.together(*ALL[2:])
        assert whole.leader("module-1") == "module-1" and whole.leader("module-3") in ALL[2:]
    finally:
        network.unite()
    assert whole.together().term > max(lower.term, upper.term) and whole.leader("module-3") == "module-1"


def test_who_is_heard_and_does_not_hear_is_no_member(whole: RunningLab, network: Network) -> None:
    for source in (1, 2, 3):
        network.cut(source, 4)
    try:
        whole.together(*ALL[:3])
        whole.together("module-4")
    finally:
        network.mend(4)


def test_with_a_fifth_of_all_packets_lost_a_stack_still_divides_and_meets(whole: RunningLab, network: Network) -> None:
    numbers = range(1, len(ALL) + 1)
    for number in numbers:
        network.lose(number, 20)
    try:
        network.pull(3)
        whole.together("module-3")
        network.plug(3)
        whole.together()
        assert all(network.lost(number) for number in numbers)
    finally:
        network.plug(3)
        for number in numbers:
            network.mend(number)
