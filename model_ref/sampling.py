"""Samples by the Gumbel-max trick: one addition and one comparison per logit, without exponential or division.

    token = argmax over v of  score[v] + round(noise[v] * temperature)      noise: independent standard Gumbel variates

The probability that token v is chosen is exactly ``softmax(score / temperature)[v]``. Scores are logits with
``SCORE_FRAC_BITS`` fraction bits, the temperature is u4.12 (4096 is 1.0), and noise has ``NOISE_FRAC_BITS`` fraction
bits. If several sums are equal, the lowest index is chosen. At temperature 0, the token with the largest unscaled sum
is chosen, and the generator does not advance.

A variate is ``g(u) = -ln(-ln(1 - u))`` with a uniform u. Large values of g decide the choice, and result from small
values of u. Therefore the table divides u into octaves, and each octave into 32 cells. A 32-bit word contains three
independent numbers:

    bits 31 to 11: the number z of leading zeros (0 to 21) is the octave
    bits 10 to 6:  the number c of a cell in the octave
    bits 5 to 0:   the dither

    u is in 2^-(z+1) (1 + [c, c+1) / 32), but for z = 21 in 2^-21 [c, c+1) / 32.      noise = TABLE[32 z + c] + dither

``TABLE`` has 704 words of 18 bits. A word is the mean of g over the cell minus the mean of the dither. The dither
covers most of a cell (a cell has 64 to 126 units of noise, except in the first and last octaves). The distribution
differs from softmax by less than 0.03 % in total variation (`tests/model_ref/test_sampling.py` computes it exactly).

Words come from xorshift32, a linear map M of 32 bits with period 2^32 - 1. Logit v uses ``M^v base``. After each token,
``base`` becomes ``J base`` with ``J = M^65536``. So within 65,535 tokens, no two tokens of a stream use the same word,
and a machine may draw any number of words early or beyond the vocabulary. A stream begins at ``J seed``.
``SEED_OF_ZERO`` replaces the seed 0. As the map is linear, seeds with small differences would produce words with
regular differences. Therefore ``stream_seeds`` computes the seeds of streams.

Reference: Gumbel, "Statistical theory of extreme values", 1954; Marsaglia, "Xorshift RNGs", 2003 (13, 17, 5).
"""

from __future__ import annotations

import functools
from math import log, log1p

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lutern.model_ref import head
from lutern.model_ref.fixed import S32_MAX, Int, bit_length, rsh
from lutern.model_ref.ternary import scale_sums

SCORE_FRAC_BITS = 12
NOISE_FRAC_BITS = 12
TEMPERATURE_FRAC_BITS = 12
TEMPERATURE_BITS = 16
NOISE_SHIFT = NOISE_FRAC_BITS + TEMPERATURE_FRAC_BITS - SCORE_FRAC_BITS
WORD_BITS = 32
DITHER_BITS = 6
CELL_BITS = 5
OCTAVE_BITS = WORD_BITS - CELL_BITS - DITHER_BITS
"""Number of bits whose leading zeros select the octave."""
OCTAVES = OCTAVE_BITS + 1
"""Number of octaves. The last octave contains all u below ``2^-OCTAVE_BITS``."""
NOISE_BITS = 18
"""Number of bits, including the sign, of a word of the table and of a noise value."""
SHIFTS = (13, -17, 5)
"""The shifts of a draw. A positive number is a left shift, and a negative number is a right shift."""
JUMP_LOG2 = 16
"""Log2 of the number of draws between the bases of two tokens. A token has a draw for each entry of the vocabulary, and
token numbers of a machine have 16 bits, so no two tokens share a draw."""
SEED_OF_ZERO = 0x9E3779B9
"""The seed that replaces 0, because only 0 follows the state 0."""

Words = NDArray[np.uint32]


def scores(sums: Int, cut: int, scale: tuple[Int, Int]) -> Int:
    """Return logits ``[B, V]`` as signed 32-bit integers with ``SCORE_FRAC_BITS`` fraction bits, from sums ``[B, V]``
    and scale ``[B]`` (B: streams, V: vocabulary)."""
    return scale_sums(sums, cut, scale, SCORE_FRAC_BITS, S32_MAX)


# ---------------------------------------------------------------------------------- table


def cells() -> list[tuple[float, float]]:
    """Return the lower end and the width of every cell of u, in the order of the table."""
    count = 1 << CELL_BITS
    ends = []
    for octave in range(OCTAVES):
        low, width = 2.0 ** -(octave + 1), 2.0 ** -(octave + 1)
        if octave == OCTAVES - 1:
            low, width = 0.0, 2.0**-OCTAVE_BITS
        ends += [(low + width * cell / count, width / count) for cell in range(count)]
    return ends


def _table() -> Int:
    """Return the mean of g over 16 points of each cell, minus the mean dither."""
    mean_dither = ((1 << DITHER_BITS) - 1) / 2
    means = [sum(-log(-log1p(-(low + width * (k + 0.5) / 16))) for k in range(16)) / 16 for low, width in cells()]
    return np.rint(np.array(means) * 2.0**NOISE_FRAC_BITS - mean_dither).astype(np.int64)


TABLE = _table()


def noise(words: Words) -> Int:
    """Return the variate of each word, with ``NOISE_FRAC_BITS`` fraction bits."""
    octave = OCTAVE_BITS - bit_length(words.astype(np.int64) >> CELL_BITS + DITHER_BITS)
    cell = words.astype(np.int64) >> DITHER_BITS & (1 << CELL_BITS) - 1
    dither = (words & np.uint32((1 << DITHER_BITS) - 1)).astype(np.int64)
    return np.asarray(TABLE[octave << CELL_BITS | cell] + dither)


# ---------------------------------------------------------------------------------- generator


def step(words: Words) -> Words:
    """Return the next word of each generator, that is, apply M once."""
    for shift in SHIFTS:
        words = words ^ (words << np.uint32(shift) if shift > 0 else words >> np.uint32(-shift))
    return words


def _multiply(columns: Words, words: Words) -> Words:
    """Multiply words of any shape by a matrix over GF(2). Each of the 32 ``columns`` is a word."""
    product = np.zeros_like(words)
    for bit in range(WORD_BITS):
        product ^= np.where(words >> np.uint32(bit) & np.uint32(1), columns[bit], np.uint32(0))
    return product


@functools.cache
def power(count: int) -> Words:
    """Return M^count as 32 words. Word i is the unit word 1 << i after ``count`` draws."""
    if count == 0:
        return np.uint32(1) << np.arange(WORD_BITS, dtype=np.uint32)
    if count == 1:
        return step(power(0))
    half = power(count // 2)
    even = _multiply(half, half)
    return step(even) if count % 2 else even


@functools.cache
def _byte_tables(count: int) -> Words:
    """Return tables ``[4, 256]`` with M^count applied to each value of each byte of a word."""
    values = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32)[:, None])
    return _multiply(power(count), values)


def advance(words: Words, count: int) -> Words:
    """Return the words after ``count`` more draws."""
    tables = _byte_tables(count)
    byte = np.uint32(255)
    product = tables[0][words & byte]
    for index in range(1, 4):
        product = product ^ tables[index][words >> np.uint32(8 * index) & byte]
    return np.asarray(product)


def draws(base: Words, count: int) -> Words:
    """Return ``count`` successive words ``[B, count]``. The first word is ``base [B]``."""
    words = base[:, None]
    while words.shape[1] < count:
        words = np.concatenate([words, advance(words, words.shape[1])], axis=1)
    return words[:, :count]


def stream_seeds(seed: int, streams: int) -> Words:
    """Return independent seeds ``[streams]`` from one number. The finaliser of MurmurHash3 is applied to numbers at
    equal distances."""
    words = np.uint32(seed & 0xFFFFFFFF) + np.arange(1, streams + 1, dtype=np.uint32) * np.uint32(SEED_OF_ZERO)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        words = (words ^ words >> np.uint32(shift)) * np.uint32(factor)
    return words


class Gumbel:
    """The random generators of B streams, with which the tokens of these streams are chosen."""

    def __init__(self, seeds: ArrayLike) -> None:
        words = np.array(seeds, dtype=np.uint32).reshape(-1)  # [B]
        self.base = advance(np.where(words == 0, np.uint32(SEED_OF_ZERO), words), 1 << JUMP_LOG2)

    def choose(self, sums: Int, scores: Int, temperature: int) -> Int:
        """Choose tokens ``[B]`` from raw sums and scores, both ``[B, V]``. Every generator advances by one token.

        At temperature 0 no generator advances. Raises ``ValueError`` for a temperature outside the range of u4.12.
        """
        if not 0 <= temperature < 1 << TEMPERATURE_BITS:
            raise ValueError(f"temperature is {temperature}; give 0 to {(1 << TEMPERATURE_BITS) - 1} (4096 is 1.0)")
        if temperature == 0:
            return head.argmax(sums)
        variates = noise(draws(self.base, scores.shape[1]))
        self.base = advance(self.base, 1 << JUMP_LOG2)
        return np.asarray(np.argmax(scores + rsh(variates * temperature, NOISE_SHIFT), axis=1))
