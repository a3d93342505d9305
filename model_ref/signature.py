"""Signature of words that are read in order: 64 bits that are zero after the last word if every word was right.

    state ─► times x ─► + columns of the word's bits that are 1 ─► state        in GF(2^64), + is exclusive or

Each bit of a word is added to three bits of the state, its *column*; then x multiplies modulo POLYNOMIAL. So a word
costs a machine a LUT for each of its bits, whatever its width, where a CRC of the same strength costs five.

A block begins with a state of its own (image, place), and has 8 bytes that the layout chooses so that the last state is
zero. What is never missed in a block of up to ``LONGEST`` words: any odd number of wrong bits, for the polynomial has
the factor x + 1 and columns are odd; two wrong bits, for no two bits of a block have the same syndrome (the test of
this file looks at all of them). Other errors are missed with a probability of 2^-63; a block at another place, or of
another image, with 2^-32 at most.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STATE_BITS = 64
CHECK_BYTES = STATE_BITS // 8
"""Of a block: they make its last state zero."""
POLYNOMIAL = 0x42F0E1EBA9EA3693
"""Without x^64: that of CRC-64 in ECMA-182, which has the factor x + 1."""
LONGEST = 1 << 16
"""Words of a block."""
ROW_MARK = 1 << 31
"""In the place of a row of the embedding table, above its token; in that of a block of records it is 0."""
MASK = (1 << STATE_BITS) - 1
_STRIDE = 977
"""Prime: picks the columns of neighbouring bits far from each other in the list of all."""

Words = NDArray[np.uint8]
States = NDArray[np.uint64]


@lru_cache
def columns(bits: int) -> tuple[int, ...]:
    """The column of each bit of a word of ``bits``: three bits of the state.

    No two have the same distances between their bits, the state's bits get about as many columns each, and the bits of
    check words reach every state.
    """
    distances = [(a, b) for a in range(1, STATE_BITS - 1) for b in range(1, STATE_BITS - a)]
    if bits > len(distances):
        raise ValueError(f"words of {bits} bits have no signature, of {len(distances)} at most")
    load: list[int] = [0] * STATE_BITS
    found: list[int] = []
    check_words = -(-STATE_BITS // bits)
    reached: dict[int, int] = {}  # by highest bit: what the check words reach
    shapes = (distances[index * _STRIDE % len(distances)] for index in range(len(distances)))
    while len(found) < bits:
        shape = next(shapes, None)
        if shape is None:
            raise ValueError(f"words of {bits} bits have no signature: their check words do not reach every state")
        bit_sets = [
            tuple(place + distance for distance in (0, shape[0], sum(shape)))
            for place in range(STATE_BITS - sum(shape))
        ]
        for bit_set in sorted(bit_sets, key=lambda bit_set: sorted((load[bit] for bit in bit_set), reverse=True)):
            column = sum(1 << bit for bit in bit_set)
            if len(found) * check_words >= STATE_BITS or _reach(reached, column, check_words):
                break
        else:
            continue
        for bit in bit_set:
            load[bit] += 1
        found.append(column)
    return tuple(found)


def _reach(reached: dict[int, int], column: int, check_words: int) -> bool:
    """Whether a column in so many words after each other reaches as many more states; added to ``reached`` then."""
    more = dict(reached)
    for _ in range(check_words):
        rest = column
        while rest and rest.bit_length() in more:
            rest ^= more[rest.bit_length()]
        if not rest:
            return False
        more[rest.bit_length()] = rest
        column = step(column)
    reached.update(more)
    return True


def step(state: int) -> int:
    """The state times x."""
    return (state << 1 & MASK) ^ (POLYNOMIAL if state >> STATE_BITS - 1 else 0)


def column_of(word: int, bits: int) -> int:
    """The columns of a word's bits that are 1, added up."""
    total = 0
    for bit, column in enumerate(columns(bits)):
        total ^= column if word >> bit & 1 else 0
    return total


def first_state(image: int, place: int) -> int:
    """The state before the first word of block ``place`` of an image; a row's place is its token with ROW_MARK."""
    return image << 32 | place


class Signature:
    """Signatures of words of ``word_bytes``, whose lowest ``bits`` count."""

    def __init__(self, word_bytes: int, bits: int | None = None) -> None:
        self.word_bytes, self.bits = word_bytes, bits or 8 * word_bytes
        self.check_words = -(-CHECK_BYTES // word_bytes)
        of_bits = [*columns(self.bits), *[0] * (8 * word_bytes - self.bits)]
        self._tables = _tables([of_bits[8 * byte : 8 * byte + 8] for byte in range(word_bytes)])
        self._powers = [_linear([step(1 << bit) for bit in range(STATE_BITS)])]

    def fold(self, words: Words, states: States) -> States:
        """The states [blocks] after words [blocks, n, word_bytes]."""
        blocks, count, _ = words.shape
        if count == 0:
            return states
        levels = (count - 1).bit_length()
        found = np.zeros((blocks, 1 << levels), np.uint64)
        for byte, table in enumerate(self._tables):
            found[:, (1 << levels) - count :] ^= table[words[:, :, byte]]
        for level in range(levels):
            found = self._times(found[:, 0::2], level) ^ found[:, 1::2]
        return found[:, 0] ^ self._advanced(states, count)

    def checks(self, states: States) -> Words:
        """The words [blocks, check_words, word_bytes] that lead from ``states`` to zero."""
        return self._words_to(self._advanced(states, self.check_words))

    def leading_checks(self, states: States, words: Words) -> Words:
        """The words that lead from ``states`` to zero with words [blocks, n, word_bytes] after them."""
        wanted = self.fold(words, np.zeros(len(words), np.uint64))
        for _ in range(words.shape[1]):
            wanted = _halved(wanted)
        return self._words_to(self._advanced(states, self.check_words) ^ wanted)

    def state_before(self, words: Words) -> int:
        """The state that is zero after words [n, word_bytes]."""
        states = self.fold(words[None], np.zeros(1, np.uint64))
        for _ in range(len(words)):
            states = _halved(states)
        return int(states[0])

    def _words_to(self, wanted: States) -> Words:
        """Check words whose signature from state zero is ``wanted``."""
        numbers = _apply(_inverse_tables(self.bits, 8 * self.word_bytes, self.check_words), wanted)
        raw = np.zeros((len(wanted), self.check_words * self.word_bytes), np.uint8)
        raw[:, :CHECK_BYTES] = numbers[:, None].view(np.uint8) if True else numbers.byteswap()[:, None].view(np.uint8)
        return raw.reshape(len(wanted), self.check_words, self.word_bytes)

    def _advanced(self, states: States, count: int) -> States:
        """``states`` times x^count."""
        for level in range(count.bit_length()):
            if count >> level & 1:
                states = self._times(states, level)
        return states

    def _times(self, states: States, level: int) -> States:
        """``states`` times x^(2^level)."""
        while len(self._powers) <= level:
            last = self._powers[-1]
            self._powers.append(_linear([int(value) for value in _apply(last, _apply(last, _units()))]))
        return _apply(self._powers[level], states)


def _units() -> States:
    return np.array([1 << bit for bit in range(STATE_BITS)], np.uint64)


def _tables(groups: list[list[int]]) -> list[States]:
    """For each group of eight columns what any byte gives."""
    found = []
    for group in groups:
        table = np.zeros(256, np.uint64)
        for bit, column in enumerate(group):
            table[(np.arange(256) >> bit & 1) == 1] ^= np.uint64(column)
        found.append(table)
    return found


def _linear(images: list[int]) -> list[States]:
    """The tables of a linear map of states, from the images of their bits."""
    return _tables([images[8 * byte : 8 * byte + 8] for byte in range(CHECK_BYTES)])


def _apply(tables: list[States], states: States) -> States:
    found = np.zeros(states.shape, np.uint64)
    for byte, table in enumerate(tables):
        found ^= table[(states >> np.uint64(8 * byte) & np.uint64(255)).astype(np.intp)]
    return found


def _halved(states: States) -> States:
    """``states`` divided by x."""
    taps = np.uint64((POLYNOMIAL ^ 1) >> 1 | 1 << STATE_BITS - 1)
    return np.where(states & np.uint64(1), states >> np.uint64(1) ^ taps, states >> np.uint64(1))


@lru_cache
def _inverse_tables(bits: int, word_bits: int, check_words: int) -> list[States]:
    """From a state to the 64 bits of the check words that lead to it from zero."""
    images = []
    for bit in range(STATE_BITS):
        word, place = divmod(bit, word_bits)
        state = columns(bits)[place] if place < bits else 0
        for _ in range(check_words - 1 - word):
            state = step(state)
        images.append(state)
    return _linear(_inverse(images))


def _inverse(images: list[int]) -> list[int]:
    """The inverse of a linear map, by elimination: rows of {image, what it is the image of}."""
    rows = [(image, 1 << bit) for bit, image in enumerate(images)]
    for bit in range(STATE_BITS):
        pivot = next((index for index in range(bit, STATE_BITS) if rows[index][0] >> bit & 1), None)
        if pivot is None:
            raise ValueError("the check words do not reach every state")
        rows[bit], rows[pivot] = rows[pivot], rows[bit]
        image, origin = rows[bit]
        for index, (other, source) in enumerate(rows):
            if index != bit and other >> bit & 1:
                rows[index] = (other ^ image, source ^ origin)
    return [origin for _, origin in rows]


__all__ = [
    "CHECK_BYTES",
    "LONGEST",
    "POLYNOMIAL",
    "ROW_MARK",
    "STATE_BITS",
    "Signature",
    "column_of",
    "columns",
    "first_state",
    "step",
]
