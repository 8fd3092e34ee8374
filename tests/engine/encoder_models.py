"""Small random encoders of every family, with tokenizers, in folders as they are published."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

WORDS = (
    "A magnet closes and the stack grows by one. A magnet opens and the stack shrinks by one.",
    "How warm is the device? What is its temperature? The quick brown fox jumps over the lazy dog.",
    "Das Gerät antwortet auf zwei Ports – über das Netz, das es kennt. query: passage: search",
)
_SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "initializer_range": 0.2,
}
_scratch: list[tempfile.TemporaryDirectory[str]] = []


def word_pieces() -> Tokenizer:
    """As BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def unigrams() -> Tokenizer:
    """As XLM-RoBERTa has it: pieces, and a pair with two closing tokens between."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        WORDS, trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


_BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
_ROBERTA = {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
_MODERN = {
    "local_attention": 8,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_cutoff_factor": 3.0,
}

Make = Callable[[], Tokenizer]
_FAMILIES: Mapping[str, tuple[str, Make, Mapping[str, str], Mapping[str, object]]] = {
    "bert": ("Bert", word_pieces, _BERT, {"max_position_embeddings": 96}),
    "xlm_roberta": ("XLMRoberta", unigrams, _ROBERTA, {"max_position_embeddings": 98, "type_vocab_size": 1}),
    "roberta": ("Roberta", unigrams, _ROBERTA, {"max_position_embeddings": 98, "type_vocab_size": 1}),
    "distilbert": ("DistilBert", word_pieces, _BERT, {"max_position_embeddings": 96, "hidden_dim": 80}),
    "mpnet": ("MPNet", unigrams, _ROBERTA, {"max_position_embeddings": 98}),
    "modern_bert": ("ModernBert", word_pieces, _BERT, _MODERN),
}
FAMILIES = tuple(_FAMILIES)


@functools.cache
def encoder(family: str, *, ranks: bool = False) -> Path:
    """A folder with config.json, weights and tokenizer."""
    name, make, named, more = _FAMILIES[family]
    tokenizer = make()
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tokenizer.get_vocab_size(), **_SIZES, **more, **({"num_labels": 1} if ranks else {})
    )
    torch.manual_seed(11)
    model = getattr(transformers, f"{name}{'ForSequenceClassification' if ranks else 'Model'}")(config)
    with torch.no_grad():
        for part, weight in model.named_parameters():
            if weight.ndim == 1:  # biases and norms begin as zeros and ones, which would hide a wrong one
                weight += torch.randn_like(weight) * 0.1 * (1 if "norm" in part.lower() else 2)
    folder = _folder()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 96, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(text))
    return folder


def with_modules(
    folder: Path, pooling: str, *, normalised: bool, include_prompt: bool = True, **prompts: object
) -> Path:
    """A copy of the folder with the files of sentence-transformers beside it."""
    copy = _folder()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalised else [])]
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "1_Pooling").mkdir()
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    flags = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    size = {"word_embedding_dimension": _SIZES["hidden_size"], "include_prompt": include_prompt}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({**size, **flags}))
    (copy / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40, "do_lower_case": False}))
    (copy / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}, **prompts}))
    return copy


def _folder() -> Path:
    _scratch.append(tempfile.TemporaryDirectory(prefix="thox-encoder-"))
    return Path(_scratch[-1].name)
