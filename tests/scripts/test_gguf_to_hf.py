"""Joining, checking and converting GGUF files. The conversion runs where its packages are."""

import hashlib
import importlib.util
import subprocess
import sys

import pytest

from scripts.gguf_to_hf import ConversionError, check_hash, convert, join_parts, sha256_of

CONTENT = b"GGUF" + bytes(range(256)) * 40
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def parts(tmp_path):
    paths = [tmp_path / f"part{i}.bin" for i in range(3)]
    for path, block in zip(paths, (CONTENT[:100], CONTENT[100:7000], CONTENT[7000:]), strict=True):
        path.write_bytes(block)
    return paths


def test_parts_are_joined_in_the_order_given(parts, tmp_path):
    joined = join_parts(parts, tmp_path / "whole.gguf")
    assert joined.read_bytes() == CONTENT
    assert sha256_of(joined) == HASH
    assert check_hash(joined, HASH[:8].upper()) == HASH


def test_a_swapped_part_is_found_by_the_hash(parts, tmp_path):
    joined = join_parts([parts[0], parts[2], parts[1]], tmp_path / "whole.gguf")
    with pytest.raises(ConversionError, match="in order"):
        check_hash(joined, HASH[:8])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "no file is given"),
        (["part0.bin", "part9.bin"], "part9.bin is no file"),
        (["part0.bin", "part1.bin", "part0.bin"], "twice"),
        (["part1.bin", "part2.bin"], "begins with b'GGUF'"),
    ],
)
def test_bad_parts_are_named(parts, tmp_path, names, words):
    with pytest.raises(ConversionError, match=words):
        convert([tmp_path / name for name in names], tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in parts]


@pytest.mark.parametrize("expected", ["1d96", "not-a-hash", HASH + "0"])
def test_what_is_no_hash_is_refused(parts, expected):
    with pytest.raises(ConversionError, match="no sha256"):
        check_hash(parts[0], expected)


def test_nothing_is_left_where_the_hash_differs(parts, tmp_path):
    with pytest.raises(ConversionError, match="was expected"):
        convert(parts, tmp_path / "out" / "model", sha256="00000000")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(parts, tmp_path):
    with pytest.raises(ConversionError, match="not empty"):
        convert(parts, tmp_path)
    with pytest.raises(ConversionError, match="bfloat16"):
        convert(parts, tmp_path / "model", dtype="int3")


def test_the_command_answers_an_error_with_one_line(tmp_path):
    command = [sys.executable, "-m", "scripts.gguf_to_hf", str(tmp_path / "none.gguf")]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "model")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"{tmp_path / 'none.gguf'} is no file; name the .gguf file, or all its parts in order"
    ]


LIBRARIES = ("torch", "transformers", "gguf", "accelerate")
missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
@pytest.mark.filterwarnings("ignore")  # other packages' own
def test_a_tiny_model_comes_back_with_its_weights(tmp_path):
    """A Llama of one layer, written as GGUF by hand: the folder holds the same numbers."""
    import torch
    import transformers

    gguf = tmp_path / "tiny.gguf"
    weights = write_tiny_llama(gguf)
    halves = [tmp_path / "a.bin", tmp_path / "b.bin"]
    data = gguf.read_bytes()
    halves[0].write_bytes(data[:1000])
    halves[1].write_bytes(data[1000:])
    found = convert(halves, tmp_path / "model", dtype="float32", sha256=sha256_of(gguf))
    assert found == sha256_of(gguf)
    assert not list(tmp_path.glob("joined-*"))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    state = model.state_dict()
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"):
        torch.testing.assert_close(state[name], torch.from_numpy(weights[name]), rtol=0, atol=0)
    assert (tmp_path / "model" / "tokenizer.json").exists()


def write_tiny_llama(path):
    """Write the file; returns some of its weights by their Hugging Face names."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(0)
    vocabulary, width, inner = 300, 32, 64
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_rope_dimension_count(width // 2)
    writer.add_tokenizer_model("gpt2")
    tokens = ["<s>", "</s>", "a", "b", "ab", *(f"<{i}>" for i in range(5, vocabulary))]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * vocabulary)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)

    def tensor(*shape):
        return rng.normal(size=shape).astype(np.float32)

    embedding, up = tensor(vocabulary, width), tensor(inner, width)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", tensor(width))
    writer.add_tensor("blk.0.attn_norm.weight", tensor(width))
    writer.add_tensor("blk.0.ffn_norm.weight", tensor(width))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", tensor(width, width))
    writer.add_tensor("blk.0.ffn_gate.weight", tensor(inner, width))
    writer.add_tensor("blk.0.ffn_up.weight", up)
    writer.add_tensor("blk.0.ffn_down.weight", tensor(width, inner))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {"model.embed_tokens.weight": embedding, "model.layers.0.mlp.up_proj.weight": up}
