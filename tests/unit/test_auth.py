"""Keys: hashed at rest, seen at once by a running server, and never silently forgotten. How they come to other nodes is
in tests/cluster/test_documents_service.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.auth import PERMISSIONS, Key, KeyRing
from agent.cluster.documents.store import open_documents
from agent.errors import AuthenticationError, NotFoundError, RequestError


def test_a_key_is_256_random_bits_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    key, text = KeyRing(tmp_path).create("laptop", ["inference"])
    assert re.fullmatch(r"thox_[A-Za-z0-9_-]{43}", text)
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert text.encode() not in kept and text[5:].encode() not in kept
    assert KeyRing(tmp_path).verify(text) == key


def test_the_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    KeyRing(tmp_path).create("laptop", ["inference"])
    assert {file.name for file in tmp_path.iterdir()} > {"documents.json", "documents.lock"}
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
    assert not (tmp_path / "documents.json").exists()


def test_two_keys_cannot_share_a_name_and_an_unknown_one_cannot_be_revoked(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    ring.create("laptop", ["inference"])
    with pytest.raises(RequestError, match="already"):
        ring.create("laptop", ["inference"])
    with pytest.raises(NotFoundError):
        ring.revoke("lpatop")


def test_where_two_stacks_that_met_have_each_a_key_of_one_name_its_id_tells_which_is_revoked(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = KeyRing(tmp_path / "here"), KeyRing(tmp_path / "there")
    ours, theirs = here.create("owner", ["admin"]), there.create("owner", ["admin"])
    theirs_all = open_documents(tmp_path / "there").read().to_json()
    open_documents(tmp_path / "here").change(lambda documents: documents.restore(theirs_all))
    assert here.verify(theirs[1]) == theirs[0] and here.verify(ours[1]) == ours[0]
    with pytest.raises(RequestError, match="2 keys are named 'owner'") as many:
        here.revoke("owner")
    assert theirs[0].id in str(many.value.hint)
    assert here.revoke(theirs[0].id) == theirs[0]
    here.verify(ours[1])
    with pytest.raises(AuthenticationError):
        here.verify(theirs[1])


@pytest.mark.parametrize("damage", ["", "{", '{"documents": 3}', '{"documents": [{}]}', '{"documents": [[]]}', "[]"])
def test_a_damaged_file_is_told_and_is_never_a_reason_to_make_an_owner_anew(tmp_path: Path, damage: str) -> None:
    ring = KeyRing(tmp_path)
    assert ring.create_owner() is not None and ring.fault == ""
    (tmp_path / "documents.json").write_text(damage)
    after = KeyRing(tmp_path)
    assert "documents.json was damaged" in after.fault
    assert after.keys() == () and after.create_owner() is None
    assert (tmp_path / "documents.json.damaged").read_text() == damage
    _, text = after.create("laptop", ["inference"])
    assert KeyRing(tmp_path).verify(text).name == "laptop" and "damaged" in KeyRing(tmp_path).fault


def test_a_running_device_keeps_its_keys_while_its_file_is_damaged_and_mends_it(tmp_path: Path) -> None:
    server = KeyRing(tmp_path)
    _, text = server.create("laptop", ["inference"])
    (tmp_path / "documents.json").write_text("{")
    server.verify(text)
    server.create("phone", ["inference"])
    assert KeyRing(tmp_path).verify(text).name == "laptop"
    assert server.fault == "" and not (tmp_path / "documents.json.damaged").exists()


@pytest.mark.parametrize(
    "entry", [3, [], {}, {"hash": 5}, {"permissions": 7}, {"created_at": "x"}, {"expires_at": "x"}, {"name": None}]
)
def test_what_another_node_wrote_that_is_no_key_is_left_out(tmp_path: Path, entry: object) -> None:
    ring = KeyRing(tmp_path)
    key, text = ring.create("laptop", ["inference"])
    documents = open_documents(tmp_path)
    whole = documents.read().get("key", key.id)
    assert isinstance(whole, dict)
    bad = {**whole, "hash": "0" * 64, **entry} if isinstance(entry, dict) and entry else entry
    documents.change(lambda all_of_them: all_of_them.put("key", "key-other", bad))
    assert ring.keys() == (key,) and ring.verify(text) == key


def test_a_permission_that_only_a_newer_version_knows_counts_for_nothing(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    key, _ = ring.create("laptop", ["inference"])
    documents = open_documents(tmp_path)
    whole = documents.read().get("key", key.id)
    assert isinstance(whole, dict)
    more = {**whole, "permissions": ["inference", "teleport"]}
    documents.change(lambda all_of_them: all_of_them.put("key", key.id, more))
    assert ring.keys()[0].permissions == {"inference"}


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
