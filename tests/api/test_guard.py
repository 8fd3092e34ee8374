"""What stands before every route: request id, key, permission, rate."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from fake_engine import ScriptedEngine
from inference_app import Api, open_api

from agent.api.guard import REFUSALS_PER_MINUTE
from agent.cluster.documents.settings import SharedSettings
from agent.cluster.documents.store import open_documents
from agent.config import Config, LimitsConfig

CHAT = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}]}


def test_a_request_id_comes_back_and_one_is_made_up_where_none_came(api: Api) -> None:
    assert api.call("GET", "/v1/models", X_Request_ID="order-7:a.b_c").headers["X-Request-ID"] == "order-7:a.b_c"
    made = api.call("GET", "/v1/models").headers["X-Request-ID"]
    assert uuid.UUID(made).version == 4


@pytest.mark.parametrize("sent", ["x" * 129, "-x", "a b", 'a"b', "é"])
def test_a_request_id_that_could_fool_a_log_is_replaced(api: Api, sent: str) -> None:
    assert uuid.UUID(api.call("GET", "/v1/models", X_Request_ID=sent).headers["X-Request-ID"])


def test_errors_and_streams_carry_the_request_id_too(api: Api) -> None:
    for response in (
        api.call("GET", "/nothing", X_Request_ID="r1"),
        api.call("POST", CHAT, b"{", X_Request_ID="r1"),
        api.call("GET", "/v1/models", X_Request_ID="r1", Authorization=""),
        api.call("POST", CHAT, {**BODY, "stream": True}, X_Request_ID="r1"),
    ):
        assert response.headers["X-Request-ID"] == "r1"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer  ", "Basic eDp5", "thox_abc", "Bearer thox_" + "A" * 43, "Bearer My Key"]
)
def test_without_a_valid_key_every_v1_path_is_401(api: Api, engine: ScriptedEngine, header: str) -> None:
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/nothing"), ("PUT", CHAT)):
        response = api.call(method, path, Authorization=header)
        assert response.status_code == 401, path
        assert response.get_json()["error"]["type"] == "authentication_error"
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert not engine.requests


def test_probes_and_the_document_need_no_key_and_metrics_does(api: Api) -> None:
    assert api.call("GET", "/health", Authorization="").status_code == 200
    assert api.call("GET", "/openapi.json", Authorization="").status_code == 200
    assert api.call("GET", "/metrics", Authorization="").status_code == 401


def test_a_key_without_the_permission_is_told_which_one_it_lacks(api: Api) -> None:
    _, reader = api.keys.create("reader", ["cluster"])
    response = api.call("POST", CHAT, BODY, Authorization=f"Bearer {reader}")
    assert response.status_code == 403 and "'inference'" in response.get_json()["error"]["message"]
    assert api.call("GET", "/metrics", Authorization=f"Bearer {reader}").status_code == 200
    _, talker = api.keys.create("talker", ["inference"])
    assert api.call("POST", CHAT, BODY, Authorization=f"Bearer {talker}").status_code == 200
    assert api.call("GET", "/metrics", Authorization=f"Bearer {talker}").status_code == 403


def test_a_key_past_its_rate_is_told_when_to_come_back(engine: ScriptedEngine, tmp_path: Path) -> None:
    with open_api(tmp_path, engine, LimitsConfig(inference_per_minute=3)) as api:
        for left in (2, 1, 0):
            response = api.call("POST", CHAT, BODY)
            assert response.status_code == 200
            assert response.headers["x-ratelimit-limit-requests"] == "3"
            assert response.headers["x-ratelimit-remaining-requests"] == str(left)
            assert 0 < float(response.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
        refused = api.call("GET", "/v1/models")
        assert refused.status_code == 429 and refused.get_json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        _, other = api.keys.create("other", ["inference"])
        assert api.call("GET", "/v1/models", Authorization=f"Bearer {other}").status_code == 200
        _, own = api.keys.create("own", ["inference"], inference_per_minute=1)
        assert api.call("GET", "/v1/models", Authorization=f"Bearer {own}").status_code == 200
        assert api.call("GET", "/v1/models", Authorization=f"Bearer {own}").status_code == 429


def test_a_limit_of_the_whole_stack_holds_from_the_next_request_on(engine: ScriptedEngine, tmp_path: Path) -> None:
    with open_api(tmp_path, engine, LimitsConfig(inference_per_minute=9)) as api:
        stack = SharedSettings(open_documents(tmp_path), Config(state_dir=tmp_path))
        _, own = api.keys.create("own", ["inference"], inference_per_minute=7)
        for limit in ("3", "5"):
            stack.put("limits.inference_per_minute", limit)
            assert api.call("GET", "/v1/models").headers["x-ratelimit-limit-requests"] == limit
        response = api.call("GET", "/v1/models", Authorization=f"Bearer {own}")
        assert response.headers["x-ratelimit-limit-requests"] == "7"
        stack.remove("limits.inference_per_minute")
        assert api.call("GET", "/v1/models").headers["x-ratelimit-limit-requests"] == "9"


def test_errors_carry_the_rate_headers_too(engine: ScriptedEngine, tmp_path: Path) -> None:
    with open_api(tmp_path, engine, LimitsConfig(inference_per_minute=9)) as api:
        for response in (api.call("POST", CHAT, b"{"), api.call("GET", "/v1/nothing"), api.call("PUT", CHAT)):
            assert response.headers["x-ratelimit-limit-requests"] == "9"


def test_guessing_keys_is_slowed_and_hurts_nobody_with_a_key(api: Api) -> None:
    for _ in range(REFUSALS_PER_MINUTE):
        assert api.call("GET", "/v1/models", Authorization="Bearer guess").status_code == 401
    assert api.call("GET", "/v1/models", Authorization="Bearer guess").status_code == 429
    assert api.call("GET", "/v1/models").status_code == 200


def test_requests_are_counted_under_their_route_not_their_path(api: Api) -> None:
    for path in ("/v1/models/a", "/v1/models/b", "/v1/nothing"):
        api.call("GET", path)
    text = api.call("GET", "/metrics").get_data(as_text=True)
    route = 'method="GET",port="inference",route="/v1/models/<path:model>",status="404"'
    assert f"thox_requests_total{{{route}}} 2.0" in text and "/v1/nothing" not in text


def test_the_log_has_one_line_for_a_request_with_its_id_key_and_tokens(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "agent.access")
    api.call("POST", CHAT, BODY, X_Request_ID="r1")
    api.call("POST", CHAT, {**BODY, "stream": True}, X_Request_ID="r2")
    lines = [vars(record) for record in caplog.records if record.name == "agent.access"]
    assert [line["status"] for line in lines] == [200, 200]
    assert all(line["key"] == "owner" and line["path"] == CHAT for line in lines)
    assert all(line["prompt_tokens"] == 7 and line["completion_tokens"] == 5 for line in lines)
