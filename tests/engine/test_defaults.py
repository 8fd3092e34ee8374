"""What a request leaves open is as the makers of the model recommend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.engine.base import Sampling
from agent.engine.defaults import OPENAI, SamplingDefaults


def load(folder: Path, text: str) -> SamplingDefaults:
    (folder / "generation_config.json").write_text(text)
    return SamplingDefaults.load(folder)


def test_a_model_without_recommendations_is_sampled_as_openai_does(tmp_path: Path) -> None:
    assert SamplingDefaults.load(tmp_path) == OPENAI
    assert load(tmp_path, '{"eos_token_id": 2}') == OPENAI


def test_recommendations_fill_only_what_the_request_leaves_open(tmp_path: Path) -> None:
    found = load(
        tmp_path, json.dumps({"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05})
    )
    assert found == SamplingDefaults(0.6, 0.95, 20, 1.0, 0.05)
    filled = found.fill(Sampling(temperature=0.0, top_k=5))
    assert (filled.temperature, filled.top_p, filled.top_k, filled.repetition_penalty) == (0.0, 0.95, 5, 1.0)
    assert (filled.min_p, found.fill(Sampling(min_p=0.0)).min_p) == (0.05, 0.0)


def test_a_model_that_is_not_to_be_sampled_takes_the_likeliest_token(tmp_path: Path) -> None:
    assert load(tmp_path, '{"do_sample": false, "temperature": 0.7}').temperature == 0.0


@pytest.mark.parametrize("text", ["{", "[]", '{"temperature": "hot", "top_p": -1, "top_k": true}', '{"top_p": NaN}'])
def test_what_makes_no_sense_stays_as_openai_has_it(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == OPENAI
