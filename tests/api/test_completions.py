"""POST /v1/completions, /v1/embeddings and GET /v1/models over a scripted engine."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from fake_engine import ScriptedEngine, token
from inference_app import Api

from agent.engine.base import Delta, Infill, Request, TokenLogprob, Usage

COMPLETIONS = "/v1/completions"


def echoes(_request: Request) -> Iterator[Delta]:
    yield Delta(text="Once", logprobs=(TokenLogprob(1, "Once", b"Once", None),))
    yield Delta(text=" upon", logprobs=(token(" upon", -0.25, 2),))
    yield Delta(finish="length", usage=Usage(1, 1))


def test_a_completion_has_the_shape_of_openais(api: Api) -> None:
    answer = api.post(COMPLETIONS, prompt="Say hello")
    assert answer["id"].startswith("cmpl-") and answer["object"] == "text_completion"
    (choice,) = answer["choices"]
    assert choice == {"index": 0, "text": "Hello there, friend.", "logprobs": None, "finish_reason": "stop"}
    assert answer["usage"]["prompt_tokens"] == 7


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("one", ("one",)),
        ("", ("",)),
        (["one", "two"], ("one", "two")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_are_texts_or_token_ids_one_or_many(
    api: Api, engine: ScriptedEngine, prompt: object, expected: tuple[object, ...]
) -> None:
    answer = api.post(COMPLETIONS, prompt=prompt, n=2)
    assert engine.requests[-1].prompts == expected and engine.requests[-1].sampling.max_tokens == 16
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(expected)))


def test_a_suffix_makes_the_prompt_a_gap_to_fill(api: Api, engine: ScriptedEngine) -> None:
    api.post(COMPLETIONS, prompt=["def f(", "x"], suffix="return 1")
    assert engine.requests[-1].prompts == (Infill("def f(", "return 1"), Infill("x", "return 1"))
    assert api.refused(COMPLETIONS, prompt=[1], suffix="x")["param"] == "suffix"


def test_logprobs_of_an_echoed_prompt_have_offsets_and_a_first_token_that_counts_as_given(
    api: Api, engine: ScriptedEngine
) -> None:
    engine.script = echoes
    (choice,) = api.post(COMPLETIONS, prompt="Once", echo=True, logprobs=2)["choices"]
    assert engine.requests[-1].echo and choice["text"] == "Once upon"
    assert choice["logprobs"] == {
        "tokens": ["Once", " upon"],
        "token_logprobs": [0.0, -0.25],
        "top_logprobs": [{}, {" upon": -0.25, " upon1": -1.25}],
        "text_offset": [0, 4],
    }


def test_a_streamed_completion_keeps_counting_its_offsets(api: Api, engine: ScriptedEngine) -> None:
    engine.script = echoes
    events = api.stream(COMPLETIONS, prompt="Once", logprobs=0, stream_options={"include_usage": True})
    assert events[-1] == "[DONE]" and events[-2]["choices"] == [] and events[-2]["usage"]["total_tokens"] == 2
    choices = [event["choices"][0] for event in events[:-2]]
    assert "".join(choice["text"] for choice in choices) == "Once upon"
    assert choices[1]["logprobs"]["text_offset"] == [4] and choices[-1]["finish_reason"] == "length"


def test_the_tokens_of_one_character_begin_where_it_does(api: Api, engine: ScriptedEngine) -> None:
    def smiles(request: Request) -> Iterator[Delta]:
        parts = (b" ", b"\xf0\x9f", b"\x98", b"\x80", b" is", b"!")
        tokens = tuple(TokenLogprob(i, part.decode("utf-8", "replace"), part, -0.5) for i, part in enumerate(parts))
        yield Delta(text=" \U0001f600", logprobs=tokens[:4])
        yield Delta(text=" is!", logprobs=tokens[4:], finish="stop", usage=Usage(1, 6))

    engine.script = smiles
    (choice,) = api.post(COMPLETIONS, prompt="x", logprobs=0)["choices"]
    assert choice["text"] == " \U0001f600 is!"
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 1, 2, 5]
    events = api.stream(COMPLETIONS, prompt="x", logprobs=0)[:-1]
    offsets = [offset for event in events for offset in event["choices"][0]["logprobs"]["text_offset"]]
    assert offsets == [0, 1, 1, 1, 2, 5]


def test_best_of_keeps_the_likeliest_for_each_prompt_and_hides_its_means(api: Api, engine: ScriptedEngine) -> None:
    def differs(request: Request) -> Iterator[Delta]:
        for index in range(4):  # the second of each prompt's two is likelier
            yield Delta(index, f"choice {index}", logprobs=(token("x", -2.0 + index % 2),), finish="stop")
        yield Delta(3, usage=Usage(2, 4))

    engine.script = differs
    answer = api.post(COMPLETIONS, prompt=["a", "b"], best_of=2)
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == [(0, "choice 1"), (1, "choice 3")]
    assert answer["choices"][0]["logprobs"] is None and engine.requests[-1].sampling.logprobs == 0
    assert api.refused(COMPLETIONS, prompt="a", best_of=2, stream=True)["param"] == "best_of"
    assert api.refused(COMPLETIONS, prompt="a", best_of=2, n=3)["param"] == "best_of"
    engine.script = ScriptedEngine().script
    assert api.stream(COMPLETIONS, prompt="a", best_of=2, n=2)[-1] == "[DONE]"


def test_one_request_cannot_ask_for_a_flood_of_answers(api: Api) -> None:
    assert api.refused(COMPLETIONS, prompt=["a"] * 100, n=16)["param"] == "prompt"


def test_embeddings_are_lists_of_numbers_or_base64(api: Api, engine: ScriptedEngine) -> None:
    answer = api.post("/v1/embeddings", input=["one", "two"], dimensions=3)
    assert answer["object"] == "list" and answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert [entry["embedding"] for entry in answer["data"]] == [[1, 0, 0], [0, 1, 0]]
    packed = api.post("/v1/embeddings", input=[[5, 6], [7]], encoding_format="base64")["data"][1]["embedding"]
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == [0, 1, 0, 0]
    assert engine.embedded[-1].inputs == ((5, 6), (7,)) and engine.embedded[0].dimensions == 3


def test_models_are_listed_and_found_by_any_name_slashes_included(api: Api) -> None:
    listed = api.call("GET", "/v1/models").get_json()
    assert listed["object"] == "list" and {model["id"] for model in listed["data"]} >= {"tiny"}
    assert listed["data"][0]["object"] == "model"
    assert api.call("GET", "/v1/models/gpt/4o:mini").get_json()["id"] == "gpt/4o:mini"
    assert api.post("/v1/chat/completions", model="gpt/4o:mini", messages=[{"role": "user", "content": "Hi"}])
    missing = api.call("GET", "/v1/models/tinny")
    assert missing.status_code == 404 and "tiny" in missing.get_json()["error"]["hint"]


def test_an_answer_names_the_model_as_it_was_asked_for(api: Api) -> None:
    assert api.post(COMPLETIONS, model="gpt/4o:mini", prompt="x")["model"] == "gpt/4o:mini"
    assert api.refused(COMPLETIONS, 404, model="nobody", prompt="x")["type"] == "not_found_error"
