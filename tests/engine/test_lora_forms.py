"""Adapters in every form of the decoder: the oracle is PEFT on transformers, in float32."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from adapters import ALL, differs, random_adapter, save_adapter
from checkpoints import RandomCheckpoint, assert_close, prompt_tokens, random_checkpoint
from gguf import GGMLQuantizationType
from gguf_models import write_gguf
from stage_forms import FORMS, open_form, read_spec

from agent.engine.base import Chunk
from agent.engine.quantise import Quantisation
from agent.engine.staged import StagedRunner
from agent.engine.weights import Checkpoint
from agent.engine.weights_lora import Adapter
from agent.engine.weights_packed import Weights
from agent.errors import ModelError
from agent.models.adapter import misfit
from agent.models.checkpoint import inspect

forms = pytest.mark.parametrize("form", FORMS)


def greedy(runner: StagedRunner, adapter: int, prompt: list[int], count: int) -> list[int]:
    held = runner.begin(0, prompt, adapter)
    assert runner.reserve(0, len(prompt) + count)
    tokens = [int(runner.forward([Chunk(0, held, prompt[held:])])[0].argmax())]
    while len(tokens) < count:
        tokens.append(int(runner.forward([Chunk(0, len(prompt) + len(tokens) - 1, tokens[-1:])])[0].argmax()))
    runner.release(0)
    return tokens


@forms
@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "all"),
        ("llama-biased", "all"),
        ("qwen2", "patterns"),
        ("qwen3", "some"),
        ("gemma3", "rs"),
        ("phi3", "fused"),
        ("qwen2-moe", "some"),
    ],
)
def test_logits_with_an_adapter_equal_those_of_peft(form: str, family: str, name: str) -> None:
    adapter, tokens = random_adapter(family, name), prompt_tokens(60, seed=1)
    assert differs(random_checkpoint(family).logits(tokens), adapter.model.logits(tokens)) > 0.02
    runner = open_form(form, random_checkpoint(family).folder, adapters=[adapter.open()])
    runner.begin(2, tokens, 1)
    assert runner.reserve(2, len(tokens))
    parts = [runner.forward([Chunk(2, 0, tokens[:41], "all")]).copy()]
    parts += [runner.forward([Chunk(2, at, tokens[at : at + 1])]).copy() for at in range(41, 60)]
    assert_close(np.concatenate(parts), adapter.model.logits(tokens))
    runner.close()


@forms
def test_one_step_computes_each_slot_with_its_own_adapter(form: str) -> None:
    family = "llama"
    own = [random_adapter(family, name) for name in ("all", "some", "rs")]
    models: list[RandomCheckpoint] = [random_checkpoint(family), *(one.model for one in own)]
    runner = open_form(form, models[0].folder, slots=8, adapters=[one.open() for one in own])
    texts = {slot: prompt_tokens(20 + slot, seed=slot) for slot in (0, 2, 3, 5, 6, 7)}
    adapter = {0: 3, 2: 0, 3: 1, 5: 2, 6: 1, 7: 0}
    for slot, tokens in texts.items():
        assert runner.begin(slot, tokens, adapter[slot]) == 0
        assert runner.reserve(slot, len(tokens) + 1)
        if slot not in (3, 7):
            runner.forward([Chunk(slot, 0, tokens[:-1], "none")])
    # Two prompts, one of them without an adapter, among single tokens of all kinds.
    chunks = [Chunk(s, len(t) - 1, t[-1:]) if s not in (3, 7) else Chunk(s, 0, t) for s, t in texts.items()]
    expected = [models[adapter[slot]].logits(tokens)[-1] for slot, tokens in texts.items()]
    assert_close(runner.forward(chunks), np.stack(expected))
    # The next steps need fewer of them, then none, then another one.
    for wanted in ((5, 2), (2, 7), (0,), (3, 6)):
        for slot in wanted:
            texts[slot].append(9)
        chunks = [Chunk(slot, len(texts[slot]) - 1, [9]) for slot in wanted]
        for slot in wanted:
            assert runner.reserve(slot, len(texts[slot]))
        expected = [models[adapter[slot]].logits(texts[slot])[-1] for slot in wanted]
        assert_close(runner.forward(chunks), np.stack(expected))
    runner.close()


@forms
def test_what_one_adapter_computed_is_not_taken_for_another_or_for_none(form: str) -> None:
    first, second = random_adapter("llama", "all"), random_adapter("llama", "rs")
    base = random_checkpoint("llama")
    runner = open_form(form, base.folder, adapters=[first.open(), second.open()])
    prompt = prompt_tokens(70, seed=3)
    for adapter, model in ((1, first.model), (2, second.model), (0, base)):
        assert runner.begin(1, prompt, adapter) == 0
        assert runner.reserve(1, len(prompt))
        assert_close(runner.forward([Chunk(1, 0, prompt)]), model.logits(prompt)[-1:])
        runner.release(1)
    held = runner.begin(1, prompt, 1)  # its own beginning is still there
    assert held >= 32
    assert runner.reserve(1, len(prompt))
    assert_close(runner.forward([Chunk(1, held, prompt[held:])]), first.model.logits(prompt)[-1:])
    runner.close()


@forms
def test_a_model_cut_in_stages_has_each_stages_part_of_the_adapter(form: str) -> None:
    family, adapter = "llama", random_adapter("llama", "some")  # changes layer 1 alone
    base = random_checkpoint(family)
    ends = list(range(read_spec(base.folder).layers + 1))
    cuts = [range(start, stop) for start, stop in itertools.pairwise(ends)]
    runner = open_form(form, base.folder, cuts=cuts, adapters=[adapter.open()])
    prompt = prompt_tokens(20, seed=2)
    assert greedy(runner, 1, prompt, 5) == adapter.model.greedy(prompt, 5)
    assert greedy(runner, 0, prompt, 5) == base.greedy(prompt, 5)
    runner.close()


@forms
@pytest.mark.parametrize("quantisation", ["int8", "int4"])
def test_adapters_stay_float_beside_packed_weights(form: str, quantisation: Quantisation) -> None:
    """The base strays by its own rounding; what the adapter adds to it is as large as in PEFT."""
    adapter, tokens = random_adapter("llama", "all"), prompt_tokens(40, seed=8)
    base = random_checkpoint("llama")
    runner = open_form(form, base.folder, quantisation, adapters=[adapter.open()])
    logits = []
    for number in (0, 1):
        runner.begin(number, tokens, number)
        assert runner.reserve(number, len(tokens))
        logits.append(runner.forward([Chunk(number, 0, tokens, "all")]).copy())
    wanted = adapter.model.logits(tokens) - base.logits(tokens)
    found = logits[1] - logits[0]
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.5
    runner.close()


@pytest.mark.skipif("openvino" not in FORMS, reason="OpenVINO's form is for x86_64")
def test_a_graph_without_adapters_has_nothing_of_them() -> None:
    """One product for each matrix; with adapters two more for each that they change, and the inputs of these."""
    from agent.engine.openvino_graph import build_graph

    folder = random_checkpoint("llama").folder
    spec = read_spec(folder)
    layers = range(spec.layers)
    weights = Weights.open(Checkpoint.open(folder), spec, layers, "float", cache=None, threads=2)
    adapter = random_adapter("llama", "rs").open()
    changed = frozenset(adapter.spec.changes)
    plain, adapted = (build_graph(spec, layers, weights, names) for names in (frozenset[str](), changed))
    products = [sum(op.get_type_name() == "MatMul" for op in graph.get_ops()) for graph in (plain, adapted)]
    assert products == [7 * spec.layers + 1, 7 * spec.layers + 1 + 2 * 2 * spec.layers]
    named = [{port.any_name for port in graph.inputs} for graph in (plain, adapted)]
    assert not any(name.startswith("adapter") for name in named[0])
    assert len(named[1] - named[0]) == 1 + 2 * 2 * spec.layers


@pytest.mark.parametrize("change", [{}, {"use_rslora": True}, {"use_dora": True}, {"bias": "lora_only"}])
def test_what_peft_itself_writes_is_read_or_refused(change: dict[str, object], tmp_path: Path) -> None:
    """Its config has more fields in every release; none of them may be in the way."""
    save_adapter(random_checkpoint("llama").folder, tmp_path, r=4, target_modules=list(ALL), **change)
    if change.keys() & {"use_dora", "bias"}:
        with pytest.raises(ModelError):
            Adapter.open("refused", tmp_path)
    else:
        assert len(Adapter.open("read", tmp_path).spec.changes) == 7 * 3


@forms
def test_an_adapter_fits_the_gguf_of_its_base(form: str, tmp_path: Path) -> None:
    """llama.cpp keeps the rows of query and key in another order; the adapter's are as transformers has them."""
    base, adapter = random_checkpoint("llama"), random_adapter("llama", "all")
    write_gguf(base.folder, tmp_path / "model.gguf", GGMLQuantizationType.F32)
    stored = inspect("base", tmp_path, builtin=False)
    assert misfit(inspect("adapter", adapter.folder, builtin=False), stored) == ""
    (tmp_path / "config.json").write_bytes((base.folder / "config.json").read_bytes())  # where open_form looks
    runner, tokens = open_form(form, tmp_path, adapters=[adapter.open()]), prompt_tokens(30, seed=4)
    runner.begin(0, tokens, 1)
    assert runner.reserve(0, len(tokens))
    assert_close(runner.forward([Chunk(0, 0, tokens, "all")]), adapter.model.logits(tokens))
    runner.close()
