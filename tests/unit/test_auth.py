"""Keys: hashed at rest, seen at once by a running server, and never silently forgotten."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.auth import PERMISSIONS, Key, KeyRing, KeysFileError
from agent.errors import AuthenticationError, NotFoundError, RequestError


def test_a_key_is_256_random_bits_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    key, text = KeyRing(tmp_path).create("laptop", ["inference"])
    assert re.fullmatch(r"thox_[A-Za-z0-9_-]{43}", text)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert text.encode() not in kept and text[5:].encode() not in kept
    assert KeyRing(tmp_path).verify(text) == key


def test_the_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("laptop", ["inference"])
    assert {file.name for file in tmp_path.iterdir()} == {"keys.json", "keys.secret", "keys.lock"}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_running_server_sees_a_new_and_a_revoked_key_at_once(tmp_path: Path) -> None:
    server, command = KeyRing(tmp_path), KeyRing(tmp_path)
    key, text = command.create("laptop", ["inference"])
    assert server.verify(text) == key
    command.revoke("laptop")
    with pytest.raises(AuthenticationError):
        server.verify(text)


@pytest.mark.parametrize("wrong", ["", "thox_", "Bearer x", "thox_" + "a" * 43, "thox_" + "é" * 43, "x" * 100_000])
def test_a_wrong_key_is_refused_in_one_way(tmp_path: Path, wrong: str) -> None:
    ring = KeyRing(tmp_path)
    ring.create("laptop", ["inference"])
    with pytest.raises(AuthenticationError, match=r"^Invalid API key$"):
        ring.verify(wrong)


def test_a_key_of_another_device_is_refused_even_with_its_keys_file(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    _, text = KeyRing(there).create("laptop", ["inference"])
    KeyRing(here).create("phone", ["inference"])
    (here / "keys.json").write_bytes((there / "keys.json").read_bytes())
    with pytest.raises(AuthenticationError):
        KeyRing(here).verify(text)


def test_an_expired_key_is_refused_from_its_last_second(tmp_path: Path) -> None:
    now = [1000.0]
    ring = KeyRing(tmp_path, clock=lambda: now[0])
    _, text = ring.create("guest", ["inference"], expires_at=1060.0)
    now[0] = 1059.9
    ring.verify(text)
    now[0] = 1060.0
    with pytest.raises(AuthenticationError, match="Expired"):
        ring.verify(text)


def test_admin_implies_every_permission_and_no_other_implies_any() -> None:
    admin = Key("key-1", "a", frozenset({"admin"}), 0.0)
    assert all(admin.allows(name) for name in PERMISSIONS)
    for name in set(PERMISSIONS) - {"admin"}:
        key = Key("key-2", "b", frozenset({name}), 0.0)
        assert [other for other in PERMISSIONS if key.allows(other)] == [name]


def test_limits_of_a_key_survive_the_file(tmp_path: Path) -> None:
    key, text = KeyRing(tmp_path).create("bot", ["inference"], inference_per_minute=5, cluster_per_minute=0)
    assert KeyRing(tmp_path).verify(text) == key
    assert (key.inference_per_minute, key.cluster_per_minute) == (5, 0)


@pytest.mark.parametrize(
    ("name", "permissions"), [("", ["inference"]), ("a\nb", ["inference"]), ("a", []), ("a", ["root"])]
)
def test_a_bad_name_or_permission_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str, permissions: list[str]
) -> None:
    with pytest.raises(RequestError):
        KeyRing(tmp_path).create(name, permissions)
    assert not (tmp_path / "keys.json").exists()


def test_two_keys_cannot_share_a_name_and_an_unknown_one_cannot_be_revoked(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.create("laptop", ["inference"])
    with pytest.raises(RequestError, match="already"):
        ring.create("laptop", ["inference"])
    with pytest.raises(NotFoundError):
        ring.revoke("lpatop")


@pytest.mark.parametrize("damage", ["", "{", '{"keys": 3}', '{"keys": [{}]}', '{"keys": [[]]}', "[]"])
def test_a_damaged_keys_file_is_an_error_and_never_an_empty_ring(tmp_path: Path, damage: str) -> None:
    server = KeyRing(tmp_path)
    _, text = server.create("laptop", ["inference"])
    (tmp_path / "keys.json").write_text(damage)
    with pytest.raises(KeysFileError, match=r"keys\.json"):
        server.verify(text)
    with pytest.raises(KeysFileError, match=r"keys\.json"):
        KeyRing(tmp_path)
    with pytest.raises(KeysFileError):
        server.create("phone", ["inference"])
    assert (tmp_path / "keys.json").read_text() == damage


def test_a_permission_that_nobody_knows_is_damage(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("laptop", ["inference"])
    document = json.loads((tmp_path / "keys.json").read_text())
    document["keys"][0]["permissions"] = ["everything"]
    (tmp_path / "keys.json").write_text(json.dumps(document))
    with pytest.raises(KeysFileError):
        KeyRing(tmp_path)


def test_keys_without_their_secret_are_an_error(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("laptop", ["inference"])
    (tmp_path / "keys.secret").unlink()
    with pytest.raises(KeysFileError, match=r"keys\.secret"):
        KeyRing(tmp_path)


def test_the_owner_key_is_made_once_even_when_all_keys_were_revoked(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    text = ring.create_owner()
    assert text is not None and ring.verify(text).permissions == frozenset(PERMISSIONS)
    ring.revoke("owner")
    assert KeyRing(tmp_path).create_owner() is None


def test_the_first_start_makes_the_owner_key_although_a_command_made_one_before(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("cli", ["inference"])
    text = KeyRing(tmp_path).create_owner()
    assert text is not None and KeyRing(tmp_path).verify(text).name == "owner"
    KeyRing(tmp_path).revoke("owner")
    KeyRing(tmp_path).revoke("cli")
    assert KeyRing(tmp_path).create_owner() is None


def test_processes_that_write_at_once_lose_no_key(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from agent.auth import KeyRing\n"
        "for i in range(10): KeyRing(Path(sys.argv[1])).create(sys.argv[2] + str(i), ['inference'])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    writers = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    assert len(KeyRing(tmp_path).keys()) == 30
