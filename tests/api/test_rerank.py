"""POST /v1/rerank, and the fields of /v1/embeddings that OpenAI has not, over a scripted engine."""

from __future__ import annotations

import pytest
from fake_engine import ScriptedEngine
from inference_app import Api

DOCUMENTS = ["nothing of the kind", "a magnet closes", {"text": "the magnet closes the stack"}]


def test_documents_come_back_best_first_with_their_places_in_the_request(api: Api, engine: ScriptedEngine) -> None:
    answer = api.post("/v1/rerank", query="the magnet closes", documents=DOCUMENTS, return_documents=True)
    assert [result["index"] for result in answer["results"]] == [2, 1, 0]
    assert [result["relevance_score"] for result in answer["results"]] == pytest.approx([0.75, 0.5, 0.25])
    assert answer["results"][0]["document"] == {"text": "the magnet closes the stack"}
    assert answer["usage"] == {"prompt_tokens": 15, "total_tokens": 15} and answer["model"] == "tiny"
    asked = engine.embedded[-1]
    assert asked.query == "the magnet closes" and asked.truncate and len(asked.inputs) == 3


def test_only_the_best_are_given_back_and_texts_only_when_asked_for(api: Api) -> None:
    answer = api.post("/v1/rerank", query="magnet", documents=DOCUMENTS, top_n=1)
    assert [set(result) for result in answer["results"]] == [{"index", "relevance_score"}]
    assert len(api.post("/v1/rerank", query="magnet", documents=DOCUMENTS, top_n=99)["results"]) == 3


def test_documents_that_score_alike_keep_their_order(api: Api) -> None:
    answer = api.post("/v1/rerank", query="x", documents=["a", "b", "c"])
    assert [result["index"] for result in answer["results"]] == [0, 1, 2]


def test_what_is_put_before_a_text_and_what_is_cut_reaches_the_engine(api: Api, engine: ScriptedEngine) -> None:
    api.post("/v1/embeddings", input="x", truncate=True, prompt_name="query", normalize=False)
    asked = engine.embedded[-1]
    assert (asked.truncate, asked.prompt_name, asked.normalise, asked.input_type) == (True, "query", False, None)
    api.post("/v1/embeddings", input="x", input_type="passage")
    assert engine.embedded[-1].input_type == "passage" and engine.embedded[-1].normalise
