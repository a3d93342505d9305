"""The signature of blocks, for the words and beats of all presets: its definition, and the errors it always detects."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lutern.firmware.schedule import records
from lutern.hw.layouts import RecordKind, header_words
from lutern.hw.presets import PRESETS
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.signature import (
    BLOCK_MARK,
    BURST,
    CHECK_BYTES,
    FOURS,
    LONGEST,
    PLACE_BITS,
    POLYNOMIAL,
    ROW_MARK,
    STATE_BITS,
    WIDE,
    Signature,
    WordSignatures,
    column_of,
    columns,
    last_state,
    slices_of,
    step,
)

SEED = 2100
WORD_BYTES = sorted({config.word_bytes for config in PRESETS.values()})
BEATS = {config.beat_bytes: config.trit_beats for config in PRESETS.values() if config.source == "resident"}
SLICES = {width: width // slices_of(8 * width) for width in WORD_BYTES}
WIDTHS = sorted({*SLICES.values(), *BEATS})
CHECKED = [width for width in WIDTHS if 8 * width <= WIDE]
"""Widths that have check bytes; the other widths are those of beats, whose last state is in SETUP."""
SPAN = 256
"""Words of a span. All spans of a block are computed at once, and within a span each syndrome gives the next one."""
States = NDArray[np.uint64]
ZERO = np.zeros(1, np.uint64)


def draw_words(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(SEED + seed).integers(0, 256, shape, np.uint8)


def draw_states(seed: int, count: int) -> States:
    bound = (1 << STATE_BITS) - 1
    return np.random.default_rng(SEED + seed).integers(0, bound, count, np.uint64, endpoint=True)


def signature_by_definition(words: NDArray[np.uint8], state: int) -> int:
    """Return the state after the words [n, word_bytes], computed one word at a time."""
    for word in words:
        state = step(state) ^ column_of(int.from_bytes(word.tobytes(), "little"), 8 * words.shape[1])
    return state


def times_x(states: States) -> States:
    """Apply ``step`` to all states."""
    top = states >> np.uint64(STATE_BITS - 1)
    shifted = states << np.uint64(1) & np.uint64((1 << STATE_BITS) - 1)
    return np.asarray(np.where(top == 1, shifted ^ np.uint64(POLYNOMIAL), shifted), np.uint64)


@pytest.mark.parametrize("width", WIDTHS)
def test_fold_is_the_definition(width: int) -> None:
    signature = Signature(width)
    for count in (0, 1, 2, 7, 64, 65):
        words, states = draw_words(count, 3, count, width), draw_states(count, 3)
        expected = [signature_by_definition(*pair) for pair in zip(words, map(int, states), strict=True)]
        assert signature.fold(words, states).tolist() == expected, f"{count} words, seed {SEED + count}"


@pytest.mark.parametrize("width", CHECKED)
def test_checks_lead_to_the_wanted_state(width: int) -> None:
    """The checks may be after the words or before them."""
    signature = Signature(width)
    assert signature.check_words * width >= CHECK_BYTES > (signature.check_words - 1) * width
    assert CHECK_BYTES * 8 >= STATE_BITS > CHECK_BYTES * 8 - 8
    for count in (1, 2, 50, 257):
        words, states, wanted = draw_words(count, 4, count, width), draw_states(count, 4), draw_states(count + 1, 4)
        where = f"{count} words, seed {SEED + count}"
        checks = signature.checks(signature.fold(words, states), wanted)
        assert checks.shape == (4, signature.check_words, width), where
        assert (signature.fold(np.concatenate([words, checks], axis=1), states) == wanted).all(), where
        leading = signature.leading_checks(wanted, words)
        assert leading.shape == checks.shape, where
        assert (signature.fold(np.concatenate([leading, words], axis=1), ZERO.repeat(4)) == wanted).all(), where


@pytest.mark.parametrize("width", WORD_BYTES)
def test_words_of_all_slices(width: int) -> None:
    """A block and rows are accepted with their own checks, but not with another bit, slice, place or mark."""
    signatures, count = WordSignatures(width), slices_of(8 * width)
    assert SLICES[width] * count == width
    words, rows = draw_words(width, 20, width), draw_words(width + 1, 3, 5, width)
    block = np.concatenate([words, signatures.block_check(words, 0xABCD, 9)])
    leading = signatures.row_checks(rows, 0xABCD, range(4, 7))
    assert signatures.is_right(block, 0xABCD, 9) and len(block) == 20 + signatures.check_words
    for token, row in enumerate(np.concatenate([leading, rows], axis=1), 4):
        assert signatures.is_right(row, 0xABCD, token, ROW_MARK), f"{token}, seed {SEED + width}"
        assert not signatures.is_right(row, 0xABCD, token), f"{token}, seed {SEED + width}"
    assert not signatures.is_right(block, 0xABCD, 8) and not signatures.is_right(block, 0xABCC, 9)
    for part in range(count):
        wrong = block.copy()
        wrong[part, (part + 1) * SLICES[width] - 1] ^= 128
        assert not signatures.is_right(wrong, 0xABCD, 9), f"slice {part}, seed {SEED + width}"
    if count > 1:
        cut = block.reshape(len(block), count, -1)
        exchanged = cut[:, [1, 0, *range(2, count)]].reshape(block.shape)
        assert not signatures.is_right(exchanged, 0xABCD, 9), f"seed {SEED + width}"


@pytest.mark.parametrize("width", WIDTHS)
def test_an_odd_number_of_flips_is_never_missed(width: int) -> None:
    """Each bit changes the parity of the state, and a multiplication by x keeps the parity."""
    assert POLYNOMIAL & 1  # so a multiplication by x can also be reversed
    assert all(column.bit_count() % 2 == 1 for column in columns(8 * width))
    assert all(step(1 << bit).bit_count() % 2 == 1 for bit in range(STATE_BITS))


def equal_syndromes(of_bits: States, words: int) -> int:
    """Return how many bits of a block of ``words`` words have the syndrome of a bit of its last word.

    The syndrome of a bit is its column times x^k, where k is the number of words after it. If no syndrome with k > 0 is
    a column, no two bits in different words have the same syndrome.
    """
    spans = -(-words // SPAN)
    units = np.uint64(1) << np.arange(STATE_BITS, dtype=np.uint64)
    for _ in range(SPAN):
        units = times_x(units)
    starts = [of_bits]
    for _ in range(spans - 1):
        after = np.zeros_like(of_bits)
        for bit, image in enumerate(units):
            after ^= np.where(starts[-1] >> np.uint64(bit) & np.uint64(1), image, np.uint64(0))
        starts.append(after)
    states = np.concatenate(starts)
    may_be_column = np.zeros(1 << 16, bool)  # the index is a hash of 16 bits
    mixed = np.uint64(0x9E3779B97F4A7C15), np.uint64(48)
    may_be_column[of_bits * mixed[0] >> mixed[1]] = True
    equal = 0
    for distance in range(SPAN):
        found = states if distance else states[len(of_bits) :]  # leave out the columns themselves
        equal += int(np.isin(found[may_be_column[found * mixed[0] >> mixed[1]]], of_bits).sum())
        states = times_x(states)
    return equal


def columns_of(width: int) -> States:
    return np.array(columns(8 * width), np.uint64)


@pytest.mark.parametrize(
    ("width", "words"),
    [*((width, LONGEST) for width in sorted({*SLICES.values()})), *BEATS.items()],
    ids=lambda number: str(number),
)
def test_two_flips_are_never_missed(width: int, words: int) -> None:
    """For words and their slices, the block has the greatest length; for beats of trits, it has all beats for which the
    preset has room."""
    of_bits = columns_of(width)
    assert len(set(of_bits.tolist())) == 8 * width
    assert equal_syndromes(of_bits, words) == 0


def test_equal_syndromes_are_found() -> None:
    """The test above can fail: with one wrong column, equal syndromes are found."""
    of_bits = columns_of(4)
    for distance in (1, SPAN - 1, SPAN, 5 * SPAN + 3):
        for base in (0, 17):
            state = int(of_bits[base])
            for _ in range(distance):
                state = step(state)
            wrong = of_bits.copy()
            wrong[31] = state
            assert equal_syndromes(wrong, 6 * SPAN) > 0, f"bits {base} and 31, {distance} words apart"


@pytest.mark.parametrize("name", PRESETS)
def test_no_block_exceeds_the_longest_length(name: str) -> None:
    """The model has one large layer. A machine with its records in block RAM cannot hold a longer block anyway."""
    config = PRESETS[name]
    if config.source == "resident":
        assert config.memory_words <= LONGEST
        return
    model = ModelConfig(vocab_size=5000, hidden_size=2048, num_hidden_layers=1, intermediate_size=5632)
    lengths, length = [0], 0
    for record in records(model, config):
        length += header_words(config) + record.words
        if record.kind is RecordKind.CHECK:
            lengths.append(length)
            length = 0
    assert 0 < max(lengths) <= LONGEST and length == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_every_other_error_is_as_likely_as_any_state(width: int) -> None:
    """The bits of as many words as a check has can produce every state. If an error changes these bits at random, its
    signature is therefore zero in one of 2^STATE_BITS cases, or in one of 2^(STATE_BITS - 1) if the number of flips is
    even."""
    check_words = Signature(width).check_words
    states = []
    for column in columns(8 * width):
        for _ in range(check_words):
            states.append(column)
            column = step(column)
    rows: dict[int, int] = {}
    for state in states:
        while state and state.bit_length() in rows:
            state ^= rows[state.bit_length()]
        if state:
            rows[state.bit_length()] = state
    assert len(rows) == STATE_BITS


@pytest.mark.parametrize("width", [2, 9])
def test_random_errors_lead_to_random_states(width: int) -> None:
    """For even numbers of flips anywhere in a block, any 12 bits of the state are zero in one of 4096 cases."""
    draw, count, trials = np.random.default_rng(SEED), 60, 60_000
    errors = np.zeros((trials, count * width * 8), np.uint8)
    flips = draw.integers(0, errors.shape[1], (trials, 12))
    np.bitwise_xor.at(errors, (np.arange(trials)[:, None], flips), 1)
    words = np.packbits(errors, axis=1, bitorder="little").reshape(trials, count, width)
    states = Signature(width).fold(words, ZERO.repeat(trials))
    wrong = words.any(axis=(1, 2))
    assert states[wrong].all(), f"seed {SEED}"
    for low in range(0, STATE_BITS - 11, 4):
        zero = int((states >> np.uint64(low) & np.uint64(0xFFF) == 0).sum())
        mean = trials / 4096
        assert abs(zero - mean) < 6 * mean**0.5, f"bits {low} to {low + 11}: {zero} of {trials}, seed {SEED}"


@pytest.mark.parametrize("width", CHECKED)
def test_words_at_another_place_are_found(width: int) -> None:
    """Words are swapped, repeated, moved by one place, all zero or all one, or one bit of the bus is stuck."""
    signature, words = Signature(width), draw_words(7, 40, width)
    right = np.array([last_state(0xCAFE, 3)], np.uint64)
    words = np.concatenate([words, signature.checks(signature.fold(words[None], ZERO), right)[0]])
    wrong = []
    for first, second in ((0, 1), (0, 39), (7, 20)):
        swapped = words.copy()
        swapped[[first, second]] = words[[second, first]]
        repeated = words.copy()
        repeated[second] = words[first]
        wrong += [swapped, repeated]
    wrong += [np.roll(words, 1, axis=0), np.zeros_like(words), np.full_like(words, 255)]
    for byte in range(width):
        for mask in (1 << bit for bit in range(8)):
            stuck = words.copy()
            stuck[:, byte] |= mask
            wrong.append(stuck)
    kept = np.array([item for item in wrong if (item != words).any()])
    assert len(kept) > 10
    assert (signature.fold(kept, ZERO.repeat(len(kept))) != right).all(), f"seed {SEED + 7}"
    assert signature.fold(words[None], ZERO) == right


@pytest.mark.parametrize("width", [width for width in WIDTHS if width <= 64])
def test_bursts_are_never_missed(width: int) -> None:
    """No sum of neighbouring columns is zero, at any position."""
    later = [int(column) for column in columns_of(width)]
    in_order = [*(step(column) for column in later), *later]
    for first in range(len(later)):
        sums = {0}
        for column in in_order[first : first + BURST]:
            sums |= {total ^ column for total in sums}
        assert len(sums) == 1 << BURST, f"from bit {first} on"


@pytest.mark.parametrize("width", [width for width in WIDTHS if 8 * width <= FOURS])
def test_four_flips_of_a_word_are_never_missed(width: int) -> None:
    """No two pairs of columns of a word have the same sum."""
    of_bits = columns_of(width)
    first, second = np.triu_indices(len(of_bits), 1)
    sums = of_bits[first] ^ of_bits[second]
    assert len(np.unique(sums)) == len(sums)


def test_last_states_depend_on_image_and_place() -> None:
    """Last states differ between places of one image, between images at one place, and between rows and blocks."""
    image, places = 0x12345678, np.arange(1 << PLACE_BITS)
    of_blocks = [last_state(image, place) for place in places.tolist()]
    of_rows = [last_state(image, place, ROW_MARK) for place in places[: 1 << 16].tolist()]
    assert len({*of_blocks, *of_rows}) == len(of_blocks) + len(of_rows)
    assert max(*of_blocks, *of_rows) < 1 << STATE_BITS
    assert last_state(image, (1 << PLACE_BITS) + 5) == of_blocks[5]  # in a longer image, the places start again at 0
    for place in (0, 1, (1 << PLACE_BITS) - 1):
        for mark in (BLOCK_MARK, ROW_MARK):
            images = [0, 1, image, *(image ^ 1 << bit for bit in range(32))]
            assert len({last_state(each, place, mark) for each in images}) == len(images)


def test_errors_of_place_and_image_are_rarely_missed() -> None:
    """If two blocks differ in image and place, their last states are equal in one of 2^32 cases, as for any two
    images."""
    draw = np.random.default_rng(SEED)
    seen = {
        last_state(int(image), int(place)) for image, place in draw.integers(0, (1 << 32, 1 << PLACE_BITS), (20_000, 2))
    }
    assert len(seen) == 20_000, f"seed {SEED}"
