"""The table of power modes, the ladder of steps, and what is written and read back when a step is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from board_trees import AGX_ORIN, CPU_KHZ, GPU, GPU_HZ, JETSONS, ORIN_NANO, ORIN_NX, BoardTree, jetson

from hal.base import BoardFacts, HardwareError, MissingPartError
from hal.boards import wiring
from hal.power_control import WRITABLE, PowerControl
from hal.power_helper import this_ladder
from hal.power_ladder import Ladder, Step, dumps, from_modes, ladder, loads
from hal.power_modes import parse
from hal.sysfs import Sysfs

GPU_CAP = "sys/class/devfreq/17000000.gpu/max_freq"
CPU_CAP = "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
STEPS = (Step(10.0, 408_000_000, 1_190_400), Step(20.0, 816_000_000, 1_497_600), Step(40.0))


def board(root: Path, part: str) -> tuple[BoardTree, BoardFacts, Sysfs]:
    tree, facts = jetson(root, part)
    return tree, facts, Sysfs(root)


@pytest.fixture
def nx(tmp_path: Path) -> BoardTree:
    return jetson(tmp_path, ORIN_NX)[0]


def control(tree: BoardTree, steps: tuple[Step, ...] = STEPS) -> PowerControl:
    return PowerControl(Sysfs(tree.root), ladder(steps), "17000000.gpu")


def test_modes_are_read_with_the_ids_of_this_very_module(tmp_path: Path) -> None:
    for part, maxn, forty in ((ORIN_NX, 0, 4), (ORIN_NANO, 2, None)):
        tree, _, _ = board(tmp_path / part, part)
        table = parse(tree.text("etc/nvpmodel.conf"))
        by_name = {mode.name: mode for mode in table.modes}
        assert by_name["MAXN_SUPER"].id == maxn and by_name["MAXN_SUPER"].gpu_hz is None
        assert by_name["25W"].budget_w == 25.0 and by_name["MAXN_SUPER"].budget_w is None
        assert table.default == 0
        if forty is not None:
            assert (by_name["40W"].id, by_name["40W"].gpu_hz, by_name["40W"].cpu_khz) == (4, 1_173_000_000, 1_497_600)


def test_modes_that_need_a_reboot_are_not_live(tmp_path: Path) -> None:
    tree, _, sysfs = board(tmp_path, ORIN_NX)
    table = parse(tree.text("etc/nvpmodel.conf"))
    assert [mode.name for mode in table.live(sysfs)] == ["MAXN_SUPER", "25W", "40W"]
    for core in range(4, 8):
        tree.put(f"sys/devices/system/cpu/cpu{core}/online", 0)
    assert [mode.name for mode in table.live(sysfs)] == ["10W", "15W"]
    tree.put("sys/devices/gpu.0/tpc_pg_mask", 0)
    assert table.live(sysfs) == ()


@pytest.mark.parametrize("text", ["", "# only words", "< POWER_MODEL ID=x NAME=y >", "< PM_CONFIG DEFAULT= >"])
def test_a_table_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(HardwareError, match=r"nvpmodel\.conf"):
        parse(text)


@pytest.mark.parametrize("part", JETSONS)
def test_every_board_has_a_ladder_that_rises_and_ends_without_caps(tmp_path: Path, part: str) -> None:
    _, facts, sysfs = board(tmp_path, part)
    watts = [step.worst_w for step in this_ladder(sysfs, facts.name).steps]
    assert watts == sorted(set(watts)) and 10 <= watts[0] < watts[-1] <= 140
    assert this_ladder(sysfs, facts.name).top.covers(None, None)


def test_the_names_of_modes_count_for_an_orin_nx_only_until_it_is_measured(tmp_path: Path) -> None:
    _, facts, sysfs = board(tmp_path, ORIN_NX)
    steps = this_ladder(sysfs, facts.name).steps
    assert [(step.worst_w, step.mode, step.measured) for step in steps] == [
        (19.4, 3, True),
        (31.7, 4, True),
        (34.8, 0, True),
    ]
    live = parse((tmp_path / "etc/nvpmodel.conf").read_text()).live(sysfs)
    assert [step.worst_w for step in from_modes("NVIDIA Jetson Orin NX 8GB", live).steps] == [25.0, 40.0]


def test_the_measured_ladder_of_this_module_goes_before_its_modes(tmp_path: Path) -> None:
    tree, facts, sysfs = board(tmp_path, ORIN_NX)
    tree.put("etc/thox/ladder.json", dumps(STEPS))
    assert this_ladder(sysfs, facts.name) == Ladder(STEPS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"steps": []}',
        '{"steps": [{"worst_w": 10}, {"watts": 3}]}',
        '{"steps": [{"worst_w": NaN}]}',
        '{"steps": [{"worst_w": -1}]}',
        '{"steps": [{"worst_w": 10, "gpu_hz": "fast"}]}',
        dumps(STEPS[:2]),
    ],
)
def test_a_ladder_that_is_none_or_never_ends_is_refused(text: str) -> None:
    with pytest.raises(HardwareError):
        loads(text)


def test_a_step_that_caps_more_for_more_watts_is_left_out() -> None:
    needless = Step(25.0, 408_000_000, 1_190_400)
    assert ladder((*STEPS, needless)).steps == STEPS


def test_a_step_is_written_to_every_clock_and_read_back(nx: BoardTree) -> None:
    power = control(nx)
    assert power.standing().worst_w == 40.0
    assert power.apply(25.0).worst_w == 20.0
    assert nx.text(GPU_CAP) == "816000000"
    assert {nx.text(CPU_CAP.replace("0/", f"{policy}/")) for policy in (0, 4)} == {"1497600"}
    assert power.apply(3.0).worst_w == 10.0, "the lowest, where all draw more"
    assert power.apply(1e6).worst_w == 40.0
    assert (nx.text(GPU_CAP), nx.text(CPU_CAP)) == (str(GPU_HZ[-1]), str(CPU_KHZ[-1]))


def test_a_clock_pinned_high_by_a_benchmark_comes_down_all_the_same(nx: BoardTree) -> None:
    floor = GPU_CAP.replace("max", "min")
    nx.put(floor, GPU_HZ[-1])
    assert control(nx).apply(10.0).worst_w == 10.0
    assert (nx.text(floor), nx.text(GPU_CAP)) == (str(GPU_HZ[0]), "408000000")


def test_a_cap_that_something_else_lifted_is_seen(nx: BoardTree) -> None:
    power = control(nx)
    power.apply(10.0)
    nx.put(CPU_CAP.replace("policy0", "policy4"), CPU_KHZ[-1])
    assert power.standing().worst_w == 40.0


def test_a_cap_that_cannot_be_read_counts_as_none(nx: BoardTree) -> None:
    power = control(nx)
    power.apply(10.0)
    nx.put(GPU_CAP, "")
    assert power.standing().worst_w == 40.0


def test_a_cap_that_does_not_take_is_told_by_what_stands(nx: BoardTree) -> None:
    power = control(nx)
    cap = nx.root / GPU_CAP
    cap.unlink()
    cap.mkdir()  # opening it for writing fails, whoever asks
    assert power.apply(10.0).worst_w == 40.0
    assert nx.text(CPU_CAP) == "1190400", "the others are capped all the same"


def test_the_gpu_is_found_under_the_names_of_older_kernels(tmp_path: Path) -> None:
    tree, facts, sysfs = board(tmp_path, AGX_ORIN)
    assert (tmp_path / "sys/class/devfreq" / GPU[AGX_ORIN]).exists() and wiring(facts).gpu != GPU[AGX_ORIN]
    PowerControl(sysfs, this_ladder(sysfs, facts.name), wiring(facts).gpu).apply(0.0)
    assert int(tree.text(f"sys/class/devfreq/{GPU[AGX_ORIN]}/max_freq")) < GPU_HZ[-1]


def test_a_ladder_for_clocks_that_are_not_there_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match="GPU") as missing:
        PowerControl(Sysfs(tmp_path), ladder(STEPS), "17000000.gpu")
    assert "devfreq" in missing.value.hint
    with pytest.raises(MissingPartError, match="cpufreq"):
        PowerControl(Sysfs(tmp_path), ladder((Step(10.0, None, 1_190_400), Step(40.0))), "")


@pytest.mark.parametrize(
    "path",
    [
        "/sys/class/devfreq/../../../etc/passwd/max_freq",
        "/sys/class/devfreq/17000000.gpu/governor",
        "/sys/devices/system/cpu/cpu1/online",
        "/etc/shadow",
        f"/sys/class/devfreq/x{os.sep}y/max_freq",
    ],
)
def test_nothing_but_frequency_caps_may_be_written(path: str) -> None:
    assert not WRITABLE.fullmatch(path)
