"""The thox command: keys and settings without a device, and the rest against a real one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from free_ports import two_free_ports
from real_device import Device
from rich.console import Console
from rich.table import Table

from agent.auth import PERMISSIONS, KeyRing
from agent.cli import main
from agent.cli_print import print_records


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device of its own for commands in this process; no port of it is open."""
    inference, cluster = two_free_ports()
    monkeypatch.setenv("THOX_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("THOX_INFERENCE_PORT", str(inference))
    monkeypatch.setenv("THOX_CLUSTER_PORT", str(cluster))
    return tmp_path / "state"


def test_a_quiet_key_create_prints_the_key_and_nothing_else(state_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "create", "ci", "--permissions", ",".join(PERMISSIONS), "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"thox_[A-Za-z0-9_-]{43}\n", out) and err == ""
    assert KeyRing(state_dir).verify(out.strip()).permissions == frozenset(PERMISSIONS)


def test_a_key_is_listed_without_its_text_and_gone_when_revoked(
    state_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["key", "create", "guest", "--expires", "30d", "--limit-inference", "5"]) == 0
    text = re.findall(r"thox_[A-Za-z0-9_-]{43}", capfd.readouterr().out)[0]
    key = KeyRing(state_dir).verify(text)
    assert key.expires_at is not None and key.expires_at - key.created_at == pytest.approx(30 * 86400, abs=5)
    assert (key.inference_per_minute, key.cluster_per_minute) == (5, None)
    assert main(["key", "list"]) == 0
    out = capfd.readouterr().out
    assert "guest" in out and text not in out
    assert main(["key", "revoke", "guest"]) == 0
    assert KeyRing(state_dir).keys() == ()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["key", "create", "x", "--permissions", "root"], "Unknown permission 'root'"),
        (["key", "create", "x", "--permissions", ""], "needs a permission"),
        (["key", "revoke", "nobody"], "no key named 'nobody'"),
        (["models", "list"], "Nothing answers at"),
        (["status"], "the device does not answer"),
    ],
)
def test_what_cannot_be_done_is_said_on_standard_error_with_status_1(
    state_dir: Path, arguments: list[str], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert complaint in capfd.readouterr().err


def test_a_file_that_cannot_be_written_is_said_in_a_line(state_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state_dir.mkdir()
    (state_dir / "documents.lock").symlink_to("/dev/full/none")  # no file of this name can be opened
    assert main(["key", "create", "x"]) == 1
    assert "documents.lock: Not a directory" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["dance"], ["key"], ["key", "create", "x", "--expires", "soon"]])
def test_a_command_that_does_not_exist_ends_with_status_2(state_dir: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_config_prints_every_setting_with_where_it_came_from(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    state_dir.mkdir()
    (state_dir / "config.toml").write_text('[server]\nthreads = 9\n[models.tokens]\n"hub.example" = "s3cret"\n')
    assert main(["config"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert any(re.search(r"server\.threads\s+9\s+.*config\.toml", line) for line in lines)
    assert any(re.search(r"server\.cluster_port\s+\d+\s+THOX_CLUSTER_PORT", line) for line in lines)
    assert any(re.search(r"engine\.slots\s+16\s+default", line) for line in lines)
    assert any(re.search(r"models\.tokens\s+set for hub\.example\s", line) for line in lines)
    assert "s3cret" not in " ".join(lines)


def test_a_setting_of_the_stack_is_set_shown_and_taken_back(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["config"]) == 0 and not state_dir.exists(), "looking makes no files"
    assert main(["config", "set", "models.default", "medical", "--stack"]) == 0
    assert main(["config", "set", "limits.inference_per_minute", "50", "--stack"]) == 0
    assert "models.default is medical now (from: the stack)" in capfd.readouterr().out
    assert main(["config"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"models\.default\s+medical\s+the stack", out)
    assert re.search(r"limits\.inference_per_minute\s+50\s+the stack", out)
    monkeypatch.setenv("THOX_MODELS_DEFAULT", "own")
    assert main(["config"]) == 0
    assert re.search(r"models\.default\s+own\s+THOX_MODELS_DEFAULT", capfd.readouterr().out)
    assert main(["config", "unset", "limits.inference_per_minute", "--stack"]) == 0
    assert "limits.inference_per_minute is 100 now (from: default)" in capfd.readouterr().out
    assert main(["config", "unset", "limits.inference_per_minute", "--stack"]) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("server.bind", "0.0.0.0", "no setting of a stack"),
        ("limits.inference_per_minute", "many", "is not"),
        ("limits.inference_per_minute", "-1", "out of range"),
        ("models.tokens", "a=b", "no setting of a stack"),
    ],
)
def test_what_no_stack_can_set_is_refused(
    state_dir: Path, capfd: pytest.CaptureFixture[str], name: str, value: str, said: str
) -> None:
    assert main(["config", "set", name, value, "--stack"]) == 1
    assert said in capfd.readouterr().err


def test_an_unknown_variable_is_an_error_for_every_command(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THOX_STATE_DIRR", "x")
    assert main(["config"]) == 1
    assert "THOX_STATE_DIRR" in capfd.readouterr().err


def test_watts_are_asked_for_shown_and_given_back(device: Device) -> None:
    asked = device.thox("power", "request", "22.5", "--min", "15", "--priority", "high", "--minutes", "5")
    assert asked.returncode == 0 and "22.5 W for node-" in asked.stdout and "granted as requested" in asked.stdout
    contract = asked.stdout.split(":")[0]
    shown = device.thox("power").stdout
    assert re.search(rf"{contract}\s+node-\w+\s+22\.5 W\s+22\.5 W\s+15 W\s+high\s+5 min", shown)
    assert re.search(r"node-\w+\s+22\.5 W\s+[0-9.]+ W\s+20 W", shown) and "The supply gives 65 W" in shown
    assert device.thox("power", "return", contract).returncode == 0
    again = device.thox("power", "return", contract)
    assert again.returncode == 1 and "no such contract" in again.stderr
    assert device.thox("power", "request", "50", "--min", "41").returncode == 1


def test_the_first_start_says_what_is_there_and_shows_a_key_that_works(device: Device) -> None:
    said = device.log()
    assert "simulated" in said and device.inference in said and device.cluster in said
    command = said[said.index("curl ") : said.index("Hello!")]  # to be copied: no line is folded
    assert all(len(line) < 80 for line in command.splitlines())
    key = re.findall(r"thox_[A-Za-z0-9_-]{43}", said)[0]
    assert KeyRing(device.state_dir).verify(key).name == "owner"


def test_two_devices_cannot_have_one_state_folder(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    inference, cluster = two_free_ports()
    monkeypatch.setitem(device.environ, "THOX_INFERENCE_PORT", str(inference))
    monkeypatch.setitem(device.environ, "THOX_CLUSTER_PORT", str(cluster))
    done = device.thox("run")
    assert done.returncode == 1 and "Another device runs with the state folder" in done.stderr
    assert "THOX_STATE_DIR" in done.stderr and "curl" not in done.stdout


def test_status_shows_both_ports(device: Device) -> None:
    done = device.thox("status")
    assert done.returncode == 0, done.stderr
    assert device.inference in done.stdout and device.cluster in done.stdout and "thox-nano" in done.stdout


def test_status_fails_with_a_hint_when_no_port_takes_the_key(device: Device) -> None:
    done = device.thox("status", "--key", "thox_" + "x" * 43)
    assert done.returncode == 1
    assert "Invalid API key" in done.stderr and "thox key create" in done.stderr


def test_tables_are_not_folded_where_no_terminal_has_an_edge(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (state_dir / ("deep" * 40)).mkdir(parents=True)
    monkeypatch.setenv("THOX_STATE_DIR", str(state_dir / ("deep" * 40)))
    assert main(["config"]) == 0
    assert re.search(
        rf"state_dir +{re.escape(str(state_dir))}/(deep){{40}} +THOX_STATE_DIR\n", out := capfd.readouterr().out
    )
    assert out.splitlines() == [line.rstrip() for line in out.splitlines()]


def test_a_table_that_is_too_wide_for_the_terminal_becomes_paragraphs(capfd: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "id", "may")
    table.add_row("laptop", "key-4757cbb9c5f24960", "admin inference models")
    print_records(table, Console(force_terminal=True, width=40, color_system=None))
    assert [line.rstrip() for line in capfd.readouterr().out.splitlines()] == [
        "laptop",
        "  id   key-4757cbb9c5f24960",
        "  may  admin inference models",
    ]
    print_records(table, Console(force_terminal=True, width=80, color_system=None))
    assert "laptop │ key-4757cbb9c5f24960 │ admin" in capfd.readouterr().out


def test_hands_reach_the_simulated_stack_of_the_running_device(device: Device) -> None:
    assert "module-1" in device.thox("sim", "status").stdout
    done = device.thox("sim", "fail", "thermal")
    try:
        assert done.returncode == 0 and "broken: thermal" in done.stdout, done.stderr
        assert "degraded" in device.thox("status").stdout
    finally:
        device.thox("sim", "mend", "all")
    assert "degraded" not in device.thox("status").stdout and device.thox("hw").returncode == 0


def test_chat_answers_every_line_and_remembers_the_conversation(device: Device) -> None:
    done = device.thox("chat", stdin="Hello!\n/new\nWhat are you?\n/exit\nnever asked\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2 and done.stdout.strip()


def test_the_words_of_ollamas_users_do_what_they_expect(device: Device) -> None:
    done = device.thox("run", "thox-nano", stdin="Hello!\n")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    asked = device.thox("chat", "thox-nano", "Hello!", stdin="never asked\n")
    assert asked.returncode == 0 and asked.stdout == done.stdout
    several = device.thox("chat", "thox-nano", "How", "are", "you?")
    assert several.returncode == 0 and device.thox("chat", "How are you?").stdout == several.stdout  # no model's name
    assert device.thox("cp", "thox-nano", "second").returncode == 0
    try:
        assert "second" in device.thox("list").stdout and "second" in device.thox("ls").stdout
        assert "second is unloaded" in device.thox("stop", "second").stdout
    finally:
        assert device.thox("rm", "second").returncode == 0
    assert "second" not in device.thox("list").stdout


def test_the_command_line_keeps_a_key_for_itself_and_replaces_a_revoked_one(device: Device) -> None:
    assert device.thox("models").returncode == 0
    file = device.state_dir / "cli.key"
    first = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    (name,) = (each for each in KeyRing(device.state_dir).names() if each.startswith("cli on node-"))
    assert device.thox("key", "revoke", name).returncode == 0
    assert device.thox("models").returncode == 0
    assert file.read_text() != first
    assert "thox-nano" in device.thox("models", "list", "--key", device.key).stdout


def test_a_wrong_key_is_said_and_not_replaced(device: Device) -> None:
    done = device.thox("models", "--key", "thox_" + "a" * 43)
    assert done.returncode == 1 and "Invalid API key" in done.stderr
