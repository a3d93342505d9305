"""A conversion one tensor at a time writes the same bytes as a conversion in memory, and the tables of `inspect` are
right."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lutern.firmware.contents import grouped, image_bytes, parts_of
from lutern.firmware.image import convert, open_image, read_image, write_image
from lutern.firmware.image_format import EMBEDDINGS
from lutern.firmware.image_writer import LARGEST_NARROW_ERROR
from lutern.firmware.limits import memory_bytes, reason_against
from lutern.firmware.program import lay_out
from lutern.firmware.schedule import program_sizes
from lutern.hw.config import HwConfig
from lutern.hw.presets import PRESETS
from lutern.model_ref.calibrate import observe
from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint, write_random_checkpoint

CONFIG = ModelConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 12
FIRST_NORM = "model.layers.0.attn_norm.weight"


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        ModelConfig(vocab_size=1100, hidden_size=93, num_hidden_layers=3, intermediate_size=77, use_lower_bound=False),
    ],
    ids=["small", "odd"],
)
@pytest.mark.parametrize("bits", [16, 12])
def test_both_ways_give_the_same_bytes(tmp_path: Path, config: ModelConfig, bits: int) -> None:
    write_random_checkpoint(tmp_path / "model", config, SEED, "test", shard_bytes=20_000)
    checkpoint = load_checkpoint(tmp_path / "model")
    names: list[str] = []
    advance = lambda done, total, name: names.append(name)  # noqa: E731
    done = convert(tmp_path / "a", checkpoint, b"{}", "x", advance=advance, embedding_bits=bits)
    weights = integer_weights(checkpoint, embedding_bits=bits)
    assert write_image(tmp_path / "b", weights, "{}", "x", "test") == done.digest
    assert (done.embedding_error < 1e-5 if bits == 16 else 1e-3 < done.embedding_error < 2**-7) and not done.calibrated
    parts = parts_of(open_image(tmp_path / "a"), lambda *_: None)
    assert sum(part.byte_count for part in parts if part.name != "tokenizer.json") == image_bytes(config, bits)[0]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert set(config.projections) < set(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "model"]


def test_a_table_that_12_bits_do_not_hold_is_refused(tmp_path: Path) -> None:
    """One channel is 2^19 times as large as the other channels, and the first norm scales it back. Items of 16 bits can
    store the other channels, but items of 12 bits cannot."""
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    embeddings, gains = (tensors[name].copy() for name in (EMBEDDINGS, FIRST_NORM))
    embeddings[:, 3], gains[3] = 2.0**19, 2.0**-19
    save_checkpoint(tmp_path / "model", CONFIG, {**tensors, EMBEDDINGS: embeddings, FIRST_NORM: gains})
    checkpoint = load_checkpoint(tmp_path / "model")
    with pytest.raises(LuternError, match=r"in 12 bits .* relative error of .*; convert with --embedding-bits 16\.$"):
        convert(tmp_path / "image", checkpoint, b"{}", "x", embedding_bits=12)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert convert(tmp_path / "image", checkpoint, b"{}", "x").embedding_error < LARGEST_NARROW_ERROR


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=6000, hidden_size=512, num_hidden_layers=6, intermediate_size=1024)
    write_random_checkpoint(tmp_path / "model", config, SEED, "test")
    checkpoint = load_checkpoint(tmp_path / "model")
    tracemalloc.start()
    convert(tmp_path / "image", checkpoint, b"{}", "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 6000 * 512 * 2.2, f"{peak} bytes"


def test_calibrated_words_are_marked(tmp_path: Path) -> None:
    """The gate weights are a million times too large, so the proved bound is too loose for the words of the gate. Both
    ways to convert mark these words as calibrated."""
    tensors = dict(random_checkpoint(CONFIG, SEED).tensors)
    name = "model.layers.1.mlp.gate_proj"
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"] * np.float32(1e6)
    save_checkpoint(tmp_path / "model", CONFIG, tensors)
    checkpoint = load_checkpoint(tmp_path / "model")
    done = convert(tmp_path / "a", checkpoint, b"{}", "x")
    weights = integer_weights(checkpoint)
    write_image(tmp_path / "b", weights, b"{}", "x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert name in done.calibrated
    assert open_image(tmp_path / "a").calibrated == done.calibrated
    read = read_image(tmp_path / "a").weights
    assert read.calibrated == weights.calibrated == ["gate of layer 1"]
    assert read.activations == weights.activations == done.activations and read.activations[name].largest > 1e3
    assert list(read.activations) == [
        "h",
        *(f"model.layers.{layer}.{matrix}" for layer in range(2) for matrix in ("attn.i_proj", "mlp.gate_proj")),
    ]


def test_calibration_text_is_kept_if_no_word_needs_it(tmp_path: Path) -> None:
    """Given tokens are used even if no word needs them. If no tokens are given, an image whose words are all proved
    stores no activations."""
    write_random_checkpoint(tmp_path / "model", CONFIG, SEED, "test")
    checkpoint = load_checkpoint(tmp_path / "model")
    assert convert(tmp_path / "proved", checkpoint, b"{}", "x").activations == {}
    assert open_image(tmp_path / "proved").activations == {}
    ids = np.arange(30).reshape(15, 2)
    done = convert(tmp_path / "a", checkpoint, b"{}", "x", ids)
    write_image(tmp_path / "b", integer_weights(checkpoint, ids), b"{}", "x", "test")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    seen, read = observe(checkpoint, ids), open_image(tmp_path / "a").activations
    assert not done.calibrated and read == done.activations == {name: one.rounded() for name, one in seen.items()}
    assert read["h"].largest == pytest.approx(seen["h"].largest, rel=0.005)


def test_parts_of_an_open_image(tmp_path: Path) -> None:
    weights = integer_weights(random_checkpoint(CONFIG, SEED))
    write_image(tmp_path / "image", weights, "{}", "x")
    image = open_image(tmp_path / "image")
    layer = weights.layers[1]
    packed = image.matrix("model.layers.1.mlp.down_proj")
    for trits in (1, 100, 1 << 20):
        blocks = list(packed.blocks(trits))
        assert np.array_equal(np.concatenate([block for _, block in blocks]), layer.down_proj.trits)
        assert [row for row, _ in blocks] == list(np.cumsum([0, *(len(block) for _, block in blocks)])[:-1])
    assert packed.build().cut == layer.down_proj.cut and packed.frac_bits == layer.down_proj.frac_bits
    assert np.array_equal(image.gains("model.layers.1.attn.g_norm").mantissa, layer.v_gains[0].mantissa)
    assert np.array_equal(image.lower_bounds(1), layer.one_minus_lower_bound)
    rows = image.embedding_rows(np.array([3, 0, 39]))
    assert np.array_equal(rows.real(), weights.embeddings.real()[[3, 0, 39]])


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "model", CONFIG, SEED, "test")
    checkpoint = load_checkpoint(tmp_path / "model")

    def fail(done: int, total: int, name: str) -> None:
        if done == 5:
            raise LuternError("enough.")

    with pytest.raises(LuternError, match="enough"):
        convert(tmp_path / "image", checkpoint, b"{}", "x", advance=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "machine",
    [
        PRESETS["tiny"].with_(memory_words=1 << 20),
        PRESETS["sim-64"],
        HwConfig("wide", rows=12, columns=16, results_per_cycle=4, gain_fifo_words=256),
    ],
    ids=lambda machine: machine.name,
)
def test_words_are_known_before_they_are_laid_out(machine: HwConfig) -> None:
    for config in (CONFIG, ModelConfig(vocab_size=61, hidden_size=52, num_hidden_layers=1, intermediate_size=64)):
        program = lay_out(integer_weights(random_checkpoint(config, SEED)), machine)
        assert program_sizes(config, machine).words == len(program.words)


def test_reasons_name_the_machine_and_its_limit() -> None:
    assert reason_against(CONFIG, PRESETS["tiny"]) is None
    wide = PRESETS["tiny"].with_(max_width=16)
    assert reason_against(CONFIG, wide) == "the model's hidden size is 32, but tiny holds at most 16 (max_width)"
    small = PRESETS["tiny"].with_(memory_words=100)
    assert "tiny has 400 (memory_words): " in str(reason_against(CONFIG, small))


def test_contents(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path / "model", CONFIG, SEED, "test")
    checkpoint = load_checkpoint(tmp_path / "model")
    convert(tmp_path / "image", checkpoint, b"{}", "x")
    image = open_image(tmp_path / "image")
    ours, theirs = parts_of(image, lambda *_: None), parts_of(checkpoint, lambda *_: None)
    zeros = {part.name: part.zeros for part in theirs}
    for part in ours:
        if part.kind == "trits":
            assert part.zeros == zeros[part.name] and part.elements > part.zeros > 0, part.name
    assert sum(part.byte_count for part in ours if part.name != "tokenizer.json") == image_bytes(CONFIG)[0]
    lines = {part.name: part for part in grouped(ours)}
    assert lines["model.layers.*.attn.f_proj.weight"].count == CONFIG.num_hidden_layers
    assert sum(part.byte_count for part in lines.values()) == sum(part.byte_count for part in ours)
    assert read_image(tmp_path / "image").synthetic == "test"


def test_full_size_images_are_small() -> None:
    """The checkpoint in bfloat16 is at least 5.5 times as large as the image, and its ternary matrices are 10 times as
    large as their trits in the image."""
    config = PUBLISHED["370m"]
    whole, ternary = image_bytes(config)
    room_for_header_and_tokenizer = 900_000
    released = sum(2 * int(np.prod(shape)) for shape in config.tensor_shapes.values())
    assert released / (whole + room_for_header_and_tokenizer) >= 5.5
    assert 2 * config.trits / ternary >= 9.999
    assert image_bytes(config, 12)[0] == whole - config.vocab_size * config.hidden_size // 2


@pytest.mark.parametrize("word_bytes", [2, 8, 16])
def test_a_370m_with_embeddings_of_12_bits_fits_128_mib(word_bytes: int) -> None:
    machine = PRESETS["sdram-x16"].with_(
        rows=20, columns=16, word_bytes=word_bytes, max_width=2816, max_state=1 << 15, gain_fifo_words=1024
    )
    wide, narrow = (memory_bytes(PUBLISHED["370m"], machine, bits) for bits in (16, 12))
    assert wide > 1 << 27 > 118.9e6 > narrow, f"{wide} and {narrow} bytes"
