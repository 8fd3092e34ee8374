"""A GGUF header may say anything: what is not true of the file is a ModelError, at once and without memory."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.engine.gguf_families import config_of
from agent.engine.gguf_file import TENSOR_TYPES, GgufFile
from agent.engine.tokenizer_gguf import GgufTokenizer
from agent.engine.weights import Checkpoint
from agent.errors import ModelError


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(tensors: int, keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


HOSTILE = {
    "nothing": b"",
    "another format": b"PK\3\4" + bytes(64),
    "a header cut in two": b"GGUF\3\0\0\0\1",
    "the first version": header(0, 0, version=1),
    "another byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "more tensors than bytes": header(2**63, 0),
    "more keys than bytes": header(0, 2**63),
    "as many keys as one may believe": header(0, 1000),
    "a key that is longer than the file": header(0, 1, struct.pack("<Q", 2**62)),
    "a text that is longer than the file": header(0, 1, text("a") + struct.pack("<IQ", 8, 2**40)),
    "a text of a gigabyte": header(0, 1, text("a") + struct.pack("<IQ", 8, 2**30)),
    "a list that is longer than the file": header(0, 1, text("a") + struct.pack("<IIQ", 9, 4, 2**61)),
    "a list of texts that is longer than the file": header(0, 1, text("a") + struct.pack("<IIQ", 9, 8, 2**20)),
    "a list of lists": header(0, 1, text("a") + struct.pack("<IIQIQ", 9, 9, 1, 9, 1)),
    "a value of no type": header(0, 1, text("a") + struct.pack("<I", 99)),
    "a key twice": header(0, 2, 2 * (text("a") + struct.pack("<IB", 0, 1))),
    "a tensor twice": header(2, 0, 2 * tensor("a", (1,)) + bytes(64)),
    "no dimensions": header(1, 0, tensor("a", ()) + bytes(64)),
    "too many dimensions": header(1, 0, text("a") + struct.pack("<I", 2**31) + bytes(64)),
    "a dimension of nothing": header(1, 0, tensor("a", (0, 4)) + bytes(64)),
    "more weights than bytes": header(1, 0, tensor("a", (2**40, 2**40)) + bytes(64)),
    "data beyond the end": header(1, 0, tensor("a", (4,), offset=1 << 40) + bytes(64)),
    "data out of line": header(1, 0, tensor("a", (4,), offset=3) + bytes(64)),
    "half a block": header(1, 0, tensor("a", (33,), kind=2) + bytes(64)),
    "an unknown type of tensor": header(1, 0, tensor("a", (4,), kind=77) + bytes(64)),
    "an alignment of nothing": header(0, 1, text("general.alignment") + struct.pack("<II", 4, 0)),
    "an alignment of three": header(0, 1, text("general.alignment") + struct.pack("<II", 4, 3)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_header_that_lies_is_a_model_error(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HOSTILE[case])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"model\.gguf|in model\.gguf"):
        GgufFile.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "kilobytes"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length"):
        writer.add_uint32(f"llama.{key}", 32)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(["a", "b", "ab", "<|eot_id|>"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(3)
    for name, shape in (("token_embd.weight", (4, 32)), ("blk.0.attn_q.weight", (32, 32)), ("rope_freqs.weight", (4,))):
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 8))
        damaged[at : at + 8] = data.draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n)))
        )
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    path = tmp_path / "model.gguf"
    path.write_bytes(damaged)
    try:
        file = GgufFile.read(path)
        config_of(file)
        tokenizer = GgufTokenizer.read(file)
        tokenizer.to_json(), tokenizer.config(), tokenizer.generation()
        checkpoint = Checkpoint.open(tmp_path)
        for name, shape in checkpoint.shapes.items():
            assert checkpoint.tensor(name).shape == shape
    except ModelError:
        pass


def test_values_of_every_kind_read_as_the_gguf_package_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -7)
    writer.add_uint64("a.u64", 2**40)
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", 1e-300)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "größer 你好")
    writer.add_array("a.texts", ["", "x", "你"])
    writer.add_array("a.numbers", [1, -2, 3])
    writer.add_tensor("a", np.ones((3, 5, 7), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile.read(path)
    assert [file.whole(f"a.{key}") for key in ("u8", "i8", "u64")] == [200, -7, 2**40]
    assert [file.number(f"a.{key}") for key in ("f32", "f64", "u8")] == [0.5, 1e-300, 200.0]
    assert file.flag("a.bool") and file.text("a.text") == "größer 你好"
    assert file.values("a.texts") == ["", "x", "你"] and file.values("a.numbers") == [1, -2, 3]
    assert file.tensors["a"].shape == (3, 5, 7) and file.parameters == 105
    for ask in (
        lambda: file.text("a.u8"),
        lambda: file.whole("a.text"),
        lambda: file.whole("a.bool"),
        lambda: file.flag("b"),
    ):
        with pytest.raises(ModelError):
            ask()


def test_the_sizes_of_blocks_are_ggmls() -> None:
    for id, (name, weights, size) in TENSOR_TYPES.items():
        kind = gguf.GGMLQuantizationType(id)
        assert (kind.name, *gguf.GGML_QUANT_SIZES[kind]) == (name, weights, size)
