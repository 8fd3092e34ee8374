"""Both forms of the embedding models' forward pass, against transformers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from encoders import FORMS, form, minilm_folder, minilm_oracle, nomic

from agent.engine.base import EmbedRequest, Floats
from agent.engine.encoder import EncoderEngine
from agent.engine.encoder_batch import EncoderBatch
from agent.engine.encoder_input import EncoderInput
from agent.engine.encoder_spec import EncoderSpec
from agent.engine.encoder_weights import EncoderWeights
from agent.engine.tokenizer import Tokenizer
from agent.engine.weights import Checkpoint
from agent.errors import EngineError, ModelError

TEXTS = (
    "A magnet closes and the stack grows by one.",
    "Das Gerät antwortet auf zwei Ports – über das Netz, das es kennt.",
    "short",
    "The quick brown fox jumps over the lazy dog. " * 20,
    "A magnet opens and the stack shrinks by one.",
)


def minilm(name: str) -> EncoderEngine:
    folder = minilm_folder()
    spec = EncoderSpec.from_folder(folder)
    return EncoderEngine("minilm", spec, form(name, folder), Tokenizer.load(folder, spec.vocab_size))


@pytest.mark.parametrize("name", FORMS)
def test_vectors_of_the_real_model_equal_those_of_transformers(name: str) -> None:
    tokenizer = Tokenizer.load(minilm_folder(), 30522)
    expected = np.stack([minilm_oracle().vector(tokenizer.encode(text)) for text in TEXTS])
    vectors = minilm(name).embed(EmbedRequest("r", TEXTS)).vectors
    assert vectors.dtype == np.float32
    assert float(np.abs(vectors - expected).max()) < 1e-5  # the promise is 1e-3


@pytest.mark.parametrize("name", FORMS)
def test_an_inputs_vector_does_not_depend_on_what_is_embedded_with_it(name: str) -> None:
    engine = minilm(name)
    together = engine.embed(EmbedRequest("r", TEXTS)).vectors
    alone = np.concatenate([engine.embed(EmbedRequest("r", (text,))).vectors for text in TEXTS])
    assert float(np.abs(together - alone).max()) < 1e-6


@pytest.mark.parametrize("name", FORMS)
def test_texts_of_like_meaning_are_near_each_other(name: str) -> None:
    vectors: Floats = (
        minilm(name)
        .embed(EmbedRequest("r", ("How warm is the device?", "What is its temperature?", "A poem about the sea")))
        .vectors
    )
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2] + 0.2


@pytest.mark.parametrize("name", FORMS)
def test_hidden_states_of_a_nomic_bert_equal_those_of_transformers_from_one_token_to_a_full_context(name: str) -> None:
    folder, oracle = nomic()
    for length in (1, 2, 17, 64, 1):  # one token first: it must leave nothing behind
        tokens = np.random.default_rng(length).integers(0, 331, (3, length))
        rows = [[EncoderInput(tuple(row))] for row in tokens.tolist()]
        hidden = form(name, folder).run(EncoderBatch.of(rows))
        expected = np.stack([oracle.hidden([int(token) for token in row]) for row in tokens])
        assert float(np.abs(hidden - expected).max()) < 1e-4 * float(np.abs(expected).max()), f"{length} tokens"


@pytest.mark.parametrize("name", FORMS)
def test_a_closed_form_says_so(name: str) -> None:
    folder, _ = nomic()
    spec = EncoderSpec.from_folder(folder)
    closed = FORMS[name](spec, EncoderWeights.read(spec, Checkpoint.open(folder)))
    closed.close()
    closed.close()
    with pytest.raises(EngineError, match="closed"):
        closed.run(EncoderBatch.of([[EncoderInput((0,))]]))


class Without:
    """A checkpoint in which one tensor is missing, or cut."""

    def __init__(self, name: str, *, cut: bool) -> None:
        self._tensors, self._name, self._cut = Checkpoint.open(nomic()[0]), name, cut

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._tensors.shapes

    def tensor(self, name: str) -> Floats:
        array = self._tensors.tensor(name)
        return array[:-1] if name == self._name and self._cut else array


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "encoder.layers.1.mlp.fc12.weight"])
def test_a_tensor_of_a_wrong_shape_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} has shape"):
        EncoderWeights.read(EncoderSpec.from_folder(nomic()[0]), Without(name, cut=True))
