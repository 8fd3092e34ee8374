"""A tokenizer rebuilt from GGUF metadata gives the ids of the one that it was written from."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
from checkpoints import random_checkpoint
from gguf_models import write_gguf
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from agent.engine.base import Chat
from agent.engine.chat import ChatTemplate
from agent.engine.defaults import SamplingDefaults
from agent.engine.gguf_folder import describe
from agent.engine.gguf_sampling import OLLAMA_PARAMETERS
from agent.engine.tokenizer import Tokenizer
from agent.engine.tokenizer_pre import words_of
from agent.errors import ModelError

TEXTS = (
    "",
    " ",
    "Hello, world! 1234567 I'm YOU'RE we'll",
    "  two spaces\n\n\nthree lines\t\ttabs  ",
    "def f(x):\n\treturn x * 2  # größer",
    "你好,世界。日本語テキスト 한국어 हिन्दी עברית العربية ไทย",
    "é e\u0301 ﬁ \u200b\ufeff 🎉👩‍👩‍👧",
    "a<|eot_id|>b <|begin_of_text|><tool_call>c",
    "\x00\x7f\ufffd",
)
# The words of tokenizer.json files as their makers published them, written here a second time.
_CASELESS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED = {
    "llama-bpe": _CASELESS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _TAIL,
    "qwen2": _CASELESS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _TAIL,
    "gpt-2": None,
    "smollm": None,
}


def original(kind: str) -> tokenizers.Tokenizer:
    """A small byte-level tokenizer of this kind, trained here."""
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe"))
    pattern = PUBLISHED[kind]
    steps: list[pre_tokenizers.PreTokenizer] = (
        [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), "isolated")]
    )
    if kind == "smollm":
        steps = [pre_tokenizers.Digits(individual_digits=True)]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=325,
        special_tokens=["<|begin_of_text|>", "<|eot_id|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*TEXTS, Path(__file__).read_text()], trainer)
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False, special=False)])
    if kind == "llama-bpe":
        begin = tokenizer.token_to_id("<|begin_of_text|>")
        tokenizer.post_processor = processors.TemplateProcessing(
            "<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
        )
    return tokenizer


def write(tmp_path: Path, kind: str, tokenizer: tokenizers.Tokenizer, **metadata: Any) -> Path:  # noqa: ANN401
    """A model's folder with this tokenizer as GGUF; where its small files are then found."""
    parts = json.loads(tokenizer.to_str())
    added = {token["id"]: 3 if token["special"] else 4 for token in parts["added_tokens"]}
    listed = sorted(tokenizer.get_vocab(True).items(), key=lambda item: item[1])
    tokens, kinds = [text for text, _ in listed], [added.get(id, 1) for _, id in listed]
    tokens += [f"[PAD{id}]" for id in range(len(tokens), 331)]
    kinds += [5] * (331 - len(kinds))
    model = tmp_path / "model"
    model.mkdir()
    write_gguf(
        random_checkpoint("llama").folder,
        model / "model.gguf",
        tokens=tokens,
        tokenizer__ggml__pre=kind,
        tokenizer__ggml__token_type=kinds,
        tokenizer__ggml__merges=[" ".join(merge) for merge in parts["model"]["merges"]],
        tokenizer__ggml__bos_token_id=0,
        tokenizer__ggml__eos_token_id=1,
        **metadata,
    )
    return describe(model, tmp_path / "cache")


@pytest.mark.parametrize("kind", PUBLISHED)
def test_byte_level_tokenizers_give_the_ids_of_their_originals(kind: str, tmp_path: Path) -> None:
    tokenizer = original(kind)
    folder = write(tmp_path, kind, tokenizer)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    found, expected = Tokenizer.load(folder, 331), Tokenizer.load(tmp_path, 331)
    for text in TEXTS:
        ids = found.encode(text)
        assert ids == tokenizer.encode(text).ids, text
        assert found.encode(text, special=False) == expected.encode(text, special=False), text
        assert found.decode(ids) == expected.decode(ids), text
    assert found.eos_ids == {1, 2}, "the end of an answer, and the end that only its text shows"
    assert found.token_bytes(330) == b"", "padding is no text"


def test_template_named_tokens_and_sampling_come_from_the_metadata(tmp_path: Path) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}"
    folder = write(
        tmp_path,
        "llama-bpe",
        original("llama-bpe"),
        tokenizer__chat_template=template,
        general__sampling__temp=0.5,
        general__sampling__top_k=20,
    )
    tokenizer = Tokenizer.load(folder, 331)
    chat = ChatTemplate.load(folder, tokenizer)
    ids = chat.encode(Chat(({"role": "user", "content": "Hi <|eot_id|>"},)))
    assert ids[0] == tokenizer.bos_id == 0 and ids.count(1) == 1 and ids[-1] == 1
    defaults = SamplingDefaults.load(folder)
    assert (defaults.temperature, defaults.top_k) == (0.5, 20)


def test_the_parameters_of_an_ollama_model_say_more_than_the_metadata(tmp_path: Path) -> None:
    more = {"general__sampling__temp": 0.5, "general__sampling__top_k": 20, "general__sampling__min_p": 0.25}
    folder = write(tmp_path, "qwen2", original("qwen2"), **more)
    assert SamplingDefaults.load(folder) == SamplingDefaults(0.5, top_k=20, min_p=0.25)
    beside = tmp_path / "model" / OLLAMA_PARAMETERS
    beside.write_text('{"temperature": 0.125, "repeat_penalty": 1.5, "top_p": true, "stop": ["x"]}')
    changed = describe(tmp_path / "model", tmp_path / "cache")
    assert SamplingDefaults.load(changed) == SamplingDefaults(0.125, 1.0, 20, 1.5, 0.25)
    assert Tokenizer.load(changed, 331).eos_ids == Tokenizer.load(folder, 331).eos_ids
    for nonsense in ("[]", "{", '"' * 9):
        beside.write_text(nonsense)
        assert SamplingDefaults.load(describe(tmp_path / "model", tmp_path / "cache")).temperature == 0.5


def test_a_begin_that_nobody_adds_is_none(tmp_path: Path) -> None:
    folder = write(tmp_path, "qwen2", original("qwen2"))
    assert Tokenizer.load(folder, 331).bos_id is None


def test_files_beside_a_gguf_say_more_than_it_does(tmp_path: Path) -> None:
    first = write(tmp_path, "qwen2", original("qwen2"))
    assert describe(tmp_path / "model", tmp_path / "cache") == first
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ 'mine' }}")
    second = describe(tmp_path / "model", tmp_path / "cache")
    assert second != first
    assert (second / "chat_template.jinja").read_text() == "{{ 'mine' }}"
    assert not list((tmp_path / "cache").glob("*.part"))


def test_an_unknown_kind_of_words_is_named() -> None:
    with pytest.raises(ModelError, match="martian") as caught:
        words_of("martian")
    assert caught.value.hint is not None and "tekken" in caught.value.hint


def piece_model(tmp_path: Path, *, prefix: bool) -> tuple[Path, dict[str, int], list[float]]:
    """SentencePiece's BPE with a few pieces, bytes for the rest, and a Gemma-like or a Llama-like space."""
    words = [
        "▁the",
        "▁t",
        "he",
        "▁th",
        "the",
        "er",
        "in",
        "▁in",
        "t",
        "h",
        "e",
        "r",
        "i",
        "n",
        "▁",
        "ö",
        "▁▁",
        "ther",
        "▁▁▁",
    ]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, "<end_of_turn>"]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(words), 3]
    random = np.random.default_rng(7)
    scores = [0.0] * 259 + [-float(score) for score in random.permutation(len(words))] + [0.0]
    tokens += [f"<unused{id}>" for id in range(331 - len(tokens))]
    kinds += [5] * (331 - len(kinds))
    scores += [-1000.0] * (331 - len(scores))
    model = tmp_path / "model"
    model.mkdir()
    path = model / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length"):
        writer.add_uint32(f"llama.{key}", 32)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores(scores)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(prefix)
    writer.add_tensor("token_embd.weight", np.zeros((331, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, {token: id for id, token in enumerate(tokens)}, scores


def merged(text: str, vocab: dict[str, int], scores: list[float]) -> list[int]:
    """SentencePiece's BPE as llama.cpp's llm_tokenizer_spm does it: the best pair first, the left one of equals."""
    pieces = list(text)
    while True:
        pairs = [
            (-scores[vocab[a + b]], index) for index, (a, b) in enumerate(itertools.pairwise(pieces)) if a + b in vocab
        ]
        if not pairs:
            break
        at = min(pairs)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    ids: list[int] = []
    for piece in pieces:
        ids += [vocab[piece]] if piece in vocab else [vocab[f"<0x{byte:02X}>"] for byte in piece.encode()]
    return ids


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_merge_by_their_scores_and_bytes_stand_for_the_rest(prefix: bool, tmp_path: Path) -> None:
    model, vocab, scores = piece_model(tmp_path, prefix=prefix)
    tokenizer = Tokenizer.load(describe(model, tmp_path / "cache"), 331)
    for text in ("the there in   nine", " theö z 🎉", "t", "hereinthe  the", "here\nther"):
        spaced = ("▁" if prefix else "") + text.replace(" ", "▁")
        ids = tokenizer.encode(text)
        assert ids == [1, *merged(spaced, vocab, scores)], text
        assert tokenizer.decode(ids) == text, text
    assert tokenizer.encode("the</s>in", special=False).count(2) == 0
    assert tokenizer.encode("the</s>in").count(2) == 1
    assert tokenizer.eos_ids == {2, vocab["<end_of_turn>"]}
