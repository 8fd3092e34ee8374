"""Who is spoken to, over what, and who is shown which secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_models import write_checkpoint
from fake_proxy import FakeProxy
from fake_registry import FakeRegistry
from private_ca import PrivateCa, make_ca
from pulling import QUICK, refused, same_files

from agent.config import ConfigError, ModelsConfig
from agent.errors import ModelError, RequestError, UnavailableError
from agent.models.pull import Puller
from agent.models.pull_control import Stop
from agent.models.pull_http import Http
from agent.models.store import ModelStore

ACCOUNT = "thox:magnet"


@pytest.fixture
def registry(source: Path) -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.add("medical:latest", source)
        yield registry


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "state", {})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "source")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCa:
    return make_ca(tmp_path_factory.mktemp("ca"), "registry.test")


def make(store: ModelStore, registry: FakeRegistry, secret: str = "") -> Puller:
    tokens = {registry.host: secret} if secret else {}
    return Puller(store, ModelsConfig(registry=registry.host, tokens=tokens), QUICK)


def test_a_registry_that_wants_a_token_gets_an_anonymous_one(
    store: ModelStore, registry: FakeRegistry, source: Path
) -> None:
    registry.token = "abc"
    list(make(store, registry).pull("medical"))
    assert same_files(store.find("medical").path, source)
    asked = [path for path in registry.paths() if path.startswith("/token")]
    assert len(asked) == 1 and "repository%3Amedical%3Apull" in asked[0] and "service=here" in asked[0]


def test_a_token_for_an_account_is_had_with_the_account(store: ModelStore, registry: FakeRegistry) -> None:
    registry.token, registry.tokens_for = "abc", ACCOUNT
    refused(make(store, registry), "medical", UnavailableError)
    assert "account" in refused(make(store, registry, "thox:wrong"), "medical", RequestError).message
    list(make(store, registry, ACCOUNT).pull("medical"))
    assert not store.find("medical").broken


def test_a_token_that_runs_out_in_the_middle_is_renewed(store: ModelStore, registry: FakeRegistry) -> None:
    registry.token, registry.expires_at = "abc", 4
    list(make(store, registry).pull("medical"))
    assert not store.find("medical").broken
    assert len([path for path in registry.paths() if path.startswith("/token")]) >= 2


def test_a_token_of_the_owners_is_sent_as_it_is(store: ModelStore, registry: FakeRegistry) -> None:
    registry.token, registry.tokens_for = "owners-token", ACCOUNT
    list(make(store, registry, "owners-token").pull("medical"))
    assert not any(path.startswith("/token") for path in registry.paths())


def test_http_basic_is_enough_for_a_registry_that_wants_no_more(store: ModelStore, registry: FakeRegistry) -> None:
    registry.account = ACCOUNT
    hint = refused(make(store, registry), "medical", RequestError).hint
    assert "[models.tokens]" in (hint or "")
    refused(make(store, registry, "thox:wrong"), "medical", RequestError)
    list(make(store, registry, ACCOUNT).pull("medical"))
    assert not store.find("medical").broken


def test_no_secret_is_shown_before_it_is_asked_for_or_to_another_registry(
    store: ModelStore, registry: FakeRegistry
) -> None:
    list(make(store, registry, ACCOUNT).pull("medical"))
    list(Puller(store, ModelsConfig(registry=registry.host, tokens={"other.test": "x"}), QUICK).pull("medical"))
    assert not any("authorization" in headers for _, headers in registry.requests)


@pytest.mark.parametrize("kind", ["token", "account", "bearer"])
def test_blobs_may_lie_elsewhere_and_no_secret_goes_along(
    store: ModelStore, registry: FakeRegistry, source: Path, kind: str
) -> None:
    with FakeRegistry() as other:
        other.blobs = registry.blobs
        registry.redirect = f"http://{other.host}/elsewhere/"
        if kind == "account":
            registry.account = ACCOUNT
        else:
            registry.token = "abc"
        list(make(store, registry, {"token": "", "account": ACCOUNT, "bearer": "abc"}[kind]).pull("medical"))
        assert other.requests and not any("authorization" in headers for _, headers in other.requests)
    assert same_files(store.find("medical").path, source)


@pytest.mark.parametrize(
    "to", ["http://10.0.0.1/", "ftp://127.0.0.1/", "file:///etc/", "https://user@127.0.0.1/", "http://[x/", "//", ""]
)
def test_a_redirect_to_where_nobody_should_go_is_refused(store: ModelStore, registry: FakeRegistry, to: str) -> None:
    registry.redirect = to or "http://\u00e4 /"
    assert "safe" in refused(make(store, registry), "medical", ModelError).message


def test_redirects_in_a_circle_end(store: ModelStore, registry: FakeRegistry) -> None:
    registry.redirect = f"http://{registry.host}/v2/medical/blobs/"
    assert "circles" in refused(make(store, registry), "medical", ModelError).message


def test_a_realm_that_would_see_the_account_in_the_clear_is_refused(store: ModelStore, registry: FakeRegistry) -> None:
    registry.token, registry.realm = "abc", "http://10.0.0.1/token"
    assert "safe" in refused(make(store, registry, ACCOUNT), "medical", ModelError).message


def test_a_private_authority_is_trusted_where_the_owner_says_so(ca: PrivateCa, source: Path) -> None:
    with FakeRegistry(ca.server_context()) as registry:
        registry.add("medical:latest", source)
        address = f"https://localhost:{registry.port}/v2/medical/manifests/latest"
        with Http(ModelsConfig(ca_file=str(ca.ca_file)), QUICK).get(address, Stop()) as response:
            assert response.status == 200 and response.body(10_000, Stop())
        with pytest.raises(UnavailableError, match=r"(?i)certificate"):
            Http(ModelsConfig(), QUICK).get(address, Stop())


def test_https_does_not_lead_to_http(ca: PrivateCa) -> None:
    with FakeRegistry(ca.server_context()) as registry:
        registry.redirect = "http://127.0.0.1:9/"
        with pytest.raises(ModelError, match="safe"):
            Http(ModelsConfig(ca_file=str(ca.ca_file)), QUICK).get(
                f"https://localhost:{registry.port}/v2/medical/blobs/x", Stop()
            )


def test_a_pull_goes_through_the_proxy_over_verified_tls(store: ModelStore, ca: PrivateCa, source: Path) -> None:
    with FakeRegistry(ca.server_context()) as registry, FakeProxy(registry.port, "me:p@ss") as proxy:
        registry.add("org/medical:latest", source)
        settings = ModelsConfig(proxy=f"http://me:p%40ss@{proxy.host}", ca_file=str(ca.ca_file))
        list(Puller(store, settings, QUICK).pull("registry.test/org/medical"))
        assert same_files(store.find("registry.test/org/medical").path, source)
        assert set(proxy.asked) == {"registry.test:443"}
        error = refused(
            Puller(store, ModelsConfig(proxy=f"http://me:wrong@{proxy.host}"), QUICK),
            "registry.test/a",
            UnavailableError,
        )
        assert "wrong" not in error.message


def test_hosts_without_proxy_and_this_machine_are_reached_directly(store: ModelStore, registry: FakeRegistry) -> None:
    with FakeProxy(registry.port) as proxy:
        list(Puller(store, ModelsConfig(registry=registry.host, proxy=proxy.host), QUICK).pull("medical"))
        assert not proxy.asked
        nobody = "0.0.0.0:1"  # this machine, where nobody listens
        for no_proxy in (("0.0.0.0",), (".0.0",), ("a.test", "*")):
            with pytest.raises(UnavailableError):
                Http(ModelsConfig(proxy=proxy.host, no_proxy=no_proxy), QUICK).get(f"https://{nobody}/", Stop())
            assert not proxy.asked
        with pytest.raises(UnavailableError):
            Http(ModelsConfig(proxy=proxy.host, no_proxy=("0.0.0.1", "", "x.0.0.0.0")), QUICK).get(
                f"https://{nobody}/", Stop()
            )
        assert proxy.asked == [nobody]


def test_plain_http_goes_where_the_owner_allows_it(store: ModelStore, registry: FakeRegistry) -> None:
    settings = ModelsConfig(plain_http=("reg.lan:5000",))
    http = Http(settings, QUICK)
    assert http.base("reg.lan:5000") == "http://reg.lan:5000"
    assert http.base("reg.lan") == "https://reg.lan" and http.base("localhost:1") == "http://localhost:1"
    with pytest.raises(ModelError, match="safe"):
        http.get("http://reg.lan/", Stop())


@pytest.mark.parametrize(
    "settings",
    [
        ModelsConfig(ca_file="/nowhere.pem"),
        ModelsConfig(ca_file=__file__),
        ModelsConfig(proxy="socks5://h:1"),
        ModelsConfig(proxy="http://secret@"),
        ModelsConfig(signing_key="abc"),
        ModelsConfig(signing_key="-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_at_start(store: ModelStore, settings: ModelsConfig) -> None:
    with pytest.raises(ConfigError, match="models") as caught:
        Puller(store, settings)
    assert caught.value.hint and "secret" not in str(caught.value)
