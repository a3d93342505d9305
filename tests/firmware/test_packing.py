"""Packed trits and items are compared with the layouts, bit by bit, and unpacking returns the originals."""

import time

import numpy as np
import pytest

from lutern.firmware import packing
from lutern.hw.config import HwConfig
from lutern.hw.layouts import ITEM_BITS, decode_byte, group_shape, group_words
from lutern.model_ref.errors import LuternError

CONFIGS = [
    HwConfig("default"),
    HwConfig("tiny", rows=4, columns=4, codes_per_cycle=2),
    HwConfig("two", rows=8, columns=8, results_per_cycle=2),
    HwConfig("odd", rows=6, columns=8, results_per_cycle=2),
    HwConfig("one", rows=1, columns=1, codes_per_cycle=1),
    HwConfig("wide", rows=16, columns=16, results_per_cycle=4),
    HwConfig("nine", rows=8, columns=16, word_bytes=9),
    HwConfig("stream", rows=5, columns=4, source="streamed", word_bytes=2),
]
SHAPES = [(1, 1), (4, 16), (5, 17), (33, 50), (64, 64)]
configs = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)


def random_trits(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[0] * 1000 + shape[1]).integers(-1, 2, shape).astype(np.int8)


@configs
@pytest.mark.parametrize("shape", SHAPES)
def test_beats_hold_the_trits_where_the_unit_reads_them(config: HwConfig, shape: tuple[int, int]) -> None:
    trits = random_trits(*shape)
    packed = packing.pack_trits(trits, config)
    beats = -(-shape[1] // config.columns)
    assert packed.dtype == np.uint8 and packed.shape == (-(-shape[0] // config.rows) * beats, config.beat_bytes)
    for index, beat in enumerate(packed):
        lanes = [trit for byte in beat for trit in decode_byte(int(byte)) or pytest.fail(f"beat {index}: {byte:#x}")]
        for lane, trit in enumerate(lanes):
            row = index // beats * config.rows + lane // config.columns
            column = index % beats * config.columns + lane % config.columns
            inside = lane < config.lanes and row < shape[0] and column < shape[1]
            assert trit == (trits[row, column] if inside else 0), f"beat {index}, lane {lane}"
    assert np.array_equal(packing.unpack_trits(packed, *shape, config), trits)


@pytest.mark.parametrize("shape", SHAPES)
def test_canonical_packing_is_in_order(shape: tuple[int, int]) -> None:
    trits = random_trits(*shape)
    data = packing.pack_canonical(trits)
    flat = [trit for byte in data for trit in decode_byte(int(byte)) or ()]
    assert flat[: trits.size] == trits.ravel().tolist() and not any(flat[trits.size :])
    assert len(data) == packing.canonical_bytes(*shape) and data.dtype == np.uint8
    assert np.array_equal(packing.unpack_canonical(data, *shape), trits)


def test_all_243_bytes_and_no_other_pass() -> None:
    for byte in range(256):
        data, trits = np.array([byte], np.uint8), decode_byte(byte)
        if trits is None:
            with pytest.raises(LuternError, match=rf"f_proj: byte 0 is {byte:#04x}, which names no five trits"):
                packing.unpack_canonical(data, 1, 5, "f_proj")
        else:
            assert packing.unpack_canonical(data, 1, 5).tolist() == [list(trits)]
            assert packing.pack_canonical(np.array([trits], np.int8)).tolist() == [byte]


def test_wrong_lengths_and_padding_are_refused() -> None:
    data = packing.pack_canonical(np.ones((3, 5), np.int8))
    with pytest.raises(LuternError, match=r"o_proj: shape \[3\], but 4 x 5 trits are 4 bytes"):
        packing.unpack_canonical(data, 4, 5, "o_proj")
    with pytest.raises(LuternError, match="the last byte holds trits beyond 2 x 7"):
        packing.unpack_canonical(data, 2, 7)
    with pytest.raises(LuternError, match="give 4 beats of 13 bytes"):
        packing.unpack_trits(np.zeros((3, 13), np.uint8), 5, 17, CONFIGS[0])


@configs
@pytest.mark.parametrize("per_element", [1, 2, 4])
@pytest.mark.parametrize("elements", [1, 5, 13, 48])
def test_groups_are_aligned(config: HwConfig, per_element: int, elements: int) -> None:
    generator = np.random.default_rng(elements)
    items = generator.integers(0, 1 << ITEM_BITS, (elements, per_element), dtype=np.uint16)
    words = packing.pack_groups(items, config)
    groups_a_word, words_a_group = group_shape(config, per_element)
    assert words.shape == (group_words(elements, per_element, config), config.word_bytes)
    values = [
        int.from_bytes(words[start : start + words_a_group].tobytes(), "little")
        for start in range(0, len(words), words_a_group)
    ]
    group_bits = config.results_per_cycle * per_element * ITEM_BITS
    for element, row in enumerate(items):
        group, place = divmod(element, config.results_per_cycle)
        for t, item in enumerate(row):
            shift = group % groups_a_word * group_bits + (place * per_element + t) * ITEM_BITS
            assert values[group // groups_a_word] >> shift & (1 << ITEM_BITS) - 1 == item, f"element {element}, {t}"
    assert sum(value.bit_count() for value in values) == sum(int(item).bit_count() for item in items.ravel())
    assert np.array_equal(packing.unpack_groups(words, elements, per_element, config), items)
    with pytest.raises(LuternError, match=f"give {len(words)} words of {config.word_bytes} bytes"):
        packing.unpack_groups(words[1:], elements, per_element, config)


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (96,), (3, 7), (4, 3, 8)])
def test_items_of_12_bits_are_dense(shape: tuple[int, ...]) -> None:
    items = np.random.default_rng(len(shape)).integers(0, 1 << 12, shape).astype(np.uint16) << 4
    data = packing.pack_narrow(items)
    assert data.shape == (*shape[:-1], packing.narrow_bytes(shape[-1])) and data.shape[-1] == -(-3 * shape[-1] // 2)
    for row, packed in zip(items.reshape(-1, shape[-1]), data.reshape(-1, data.shape[-1]), strict=True):
        number = sum(int(item) >> 4 << 12 * place for place, item in enumerate(row))
        assert int.from_bytes(packed.tobytes(), "little") == number
    assert np.array_equal(packing.unpack_narrow(data, shape[-1]), items)


@pytest.mark.parametrize(("word_bytes", "results"), [(2, 1), (2, 2), (5, 2), (6, 1), (16, 4)])
@pytest.mark.parametrize("groups", [1, 3, 4, 13, 48])
def test_rows_of_12_bits_take_three_words_for_four(word_bytes: int, results: int, groups: int) -> None:
    config = HwConfig("narrow", rows=4, columns=16, word_bytes=word_bytes, results_per_cycle=results)
    elements = groups * results
    items = np.random.default_rng(elements).integers(0, 1 << 12, elements).astype(np.uint16) << 4
    words, wide = packing.pack_narrow_row(items, config), packing.pack_groups(items[:, None], config)
    assert words.shape == (-(-3 * len(wide) // 4), word_bytes)
    got, expected = ([int.from_bytes(word.tobytes(), "little") for word in some] for some in (words, wide))
    lanes = range(0, 8 * word_bytes - 15, 16)
    for block in range(-(-len(wide) // 4)):
        fourth = dict(enumerate(expected)).get(4 * block + 3, 0)
        for place, word in enumerate(expected[4 * block : 4 * block + 3]):
            digit = sum((fourth >> lane + 4 * place + 4 & 15) << lane for lane in lanes)
            assert got[3 * block + place] == word | digit, f"block {block}, word {place}"
    assert np.array_equal(packing.unpack_narrow_row(words, elements, config), items)
    with pytest.raises(LuternError, match=f"give {len(words)} words of {word_bytes} bytes"):
        packing.unpack_narrow_row(words[1:], elements, config)


def test_packing_is_fast_enough() -> None:
    """Packing reaches 20 MB per second of processor time, which does not depend on the load of the computer."""
    trits = random_trits(1024, 4096)
    best = min(_seconds(trits) for _ in range(3))
    assert trits.size / 5 / best > 20e6, f"{trits.size / 5 / best / 1e6:.1f} MB/s"


def _seconds(trits: np.ndarray) -> float:
    start = time.process_time()
    packing.pack_trits(trits, CONFIGS[0])
    return time.process_time() - start
