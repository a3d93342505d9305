"""Computes the signature of words that are read in order: a state of 42 bits whose last value in a block is known.

    state 0 ─► for each word: state = state * x + columns of the word's bits that are 1     in GF(2^42), + is xor
            ─► after the last word: state == last_state(image, place)?

In each step the state is multiplied by x modulo POLYNOMIAL, and each bit of the word is added to three bits of the
state, which are the *column* of this bit. So a word of any width costs a machine one LUT per bit of the word, but a CRC
of the same strength costs five LUTs per bit. A word of records or of a row that has more than WIDE bits is divided into
slices of SLICE bits, and each slice has its own signature (``WordSignatures``). A resident machine with many lanes has
beats of more than WIDE bits. Such beats are first made narrower (``sums_of``), and have no check bytes.

A block contains ``CHECK_BYTES`` check bytes. The layout chooses these bytes so that the last state is
``last_state(image, place)``. These errors are always detected in a block of up to ``LONGEST`` words:

- any odd number of wrong bits, because the polynomial has the factor x + 1 and columns have an odd number of ones
- two wrong bits, because no two bits of a block have the same syndrome (for the presets that have wide beats: no
two bits of the beats of a pass)
- four wrong bits in one word of up to ``FOURS`` bits, because no four columns cancel
- a burst of ``BURST`` bits in words of up to 512 bits
- a correct block of another place or of another image

Random words are accepted as a block with a probability of 2^-41. A correct block whose place and image are both wrong
is accepted with a probability of 2^-32. Of all groups of four wrong bits in 1,024 words of 72 bits, a share of 2^-37 is
not detected. Nearly all of these groups are in neighbouring words: of the groups within 49 successive words, a share of
2^-25 is not detected.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

STATE_BITS = 42
CHECK_BYTES = -(-STATE_BITS // 8)
"""Number of check bytes of a block."""
TAPS = (6, 11, 29, 37)
"""The exponents between 0 and 42 of the polynomial's terms. The polynomial divided by x + 1 is primitive."""
POLYNOMIAL = 1 | sum(1 << tap for tap in TAPS)
"""The polynomial without x^42."""
LONGEST = 1 << 16
"""The largest number of words in a block."""
FOURS = 256
"""The largest number of bits in a word for which no four columns cancel."""
BURST = 9
"""Among the columns of this many neighbouring bits, within one word or two words, no sum is zero."""
WIDE = 512
"""The largest number of bits of a word that has one signature. Wider words have several signatures, and wider beats are
first made narrower (``sums_of``)."""
SLICE = 256
"""Number of bits in a slice of a word of more than WIDE bits."""
GROUP, GROUP_SUMS = 32, 8
SUM_BITS, SUM_SEED = 5, 5
PLACE_BITS = 18
"""Number of bits for the number of a block, or for the token of a row."""
PLACE_SHIFT = 20
BLOCK_MARK = 1 << 41
"""The bit that is set in the last state of a block of records."""
ROW_MARK = 1 << 40
"""The bit that is set in the last state of a row of the embedding table."""
MASK = (1 << STATE_BITS) - 1
_STRIDE = 977
"""A prime step through the list of all columns, so that neighbouring bits get columns from distant places."""

Words = NDArray[np.uint8]
States = NDArray[np.uint64]


def sums_of(bits: int) -> list[int]:
    """Return for each bit of a word a mask of the sums to which the bit contributes. The list is empty for words of up
    to WIDE bits.

    Each group of GROUP bits has ``GROUP_SUMS`` sums. A bit contributes to one or three sums of its group, and no two
    bits contribute to the same set of sums. A machine computes the sums near the bits, so fewer long wires are needed.
    """
    ones = [1 << place for place in range(GROUP_SUMS)]
    threes = [sum(ones[place] for place in places) for places in combinations(range(GROUP_SUMS), 3)]
    of_group = [*ones, *threes[:: len(threes) // (GROUP - GROUP_SUMS)][: GROUP - GROUP_SUMS]]
    groups = range(-(-bits // GROUP)) if bits > WIDE else ()
    return [some << GROUP_SUMS * group for group in groups for some in of_group][:bits]


@lru_cache
def columns(bits: int) -> tuple[int, ...]:
    """Return the column of each bit of a word of ``bits`` bits. In a wide word, the column of a bit is the sum of the
    columns of the bit's sums.
    """
    sums = sums_of(bits)
    if not sums:
        return _columns(bits)
    of_sums = sum_columns(max(sums).bit_length())
    return tuple(_added(of_sums, some) for some in sums)


@lru_cache
def sum_columns(count: int) -> tuple[int, ...]:
    """Return the column of each of ``count`` sums of a wide word. Each column consists of five bits of the state.

    The seed is chosen so that no two bits of a pass have the same syndrome in the presets that have wide words.
    """
    draw = random.Random(SUM_SEED)
    found: list[int] = []
    while len(found) < count:
        places: set[int] = set()
        while len(places) < SUM_BITS:
            places.add(int(draw.random() * STATE_BITS))
        column = sum(1 << place for place in places)
        if column not in found:
            found.append(column)
    return tuple(found)


def _added(of_bits: tuple[int, ...], word: int) -> int:
    total = 0
    for bit, column in enumerate(of_bits):
        total ^= column if word >> bit & 1 else 0
    return total


@lru_cache
def _columns(bits: int) -> tuple[int, ...]:
    """Return the column of each bit of a word: three bits of the state, or five bits after all triples are used.

    No two columns have the same distances between their bits, no four columns cancel in words of up to FOURS bits, and
    the bits of check words reach every state. Among the places that fulfil these rules, each column uses the place with
    the fewest additional LUT4.
    """
    check_words = -(-STATE_BITS // bits)
    found: list[int] = []
    later: set[int] = set()  # the values of the found columns after 0, 1, 2, ... more words
    sums: set[int] = set()  # sums of any two columns
    reached: dict[int, int] = {}  # states that the check words reach, by highest bit
    load: list[int] = [0] * STATE_BITS

    def fits(column: int) -> bool:
        own = set(_multiples(column))
        new = {column ^ other for other in found} if bits <= FOURS else set()
        if column in later or own & set(found) or new & sums or (new and len(new) < len(found)):
            return False
        if len(found) * check_words < STATE_BITS and not _reach(reached, column, check_words):
            return False
        later.update(own)
        sums.update(new)
        return True

    for shape in _shapes():
        if len(found) == bits:
            return tuple(found)
        places = [tuple(place + distance for distance in shape) for place in range(STATE_BITS - shape[-1])]
        for places_of in sorted(places, key=lambda some: _price(load, some)):
            if fits(column := sum(1 << place for place in places_of)):
                found.append(column)
                for place in places_of:
                    load[place] += 1
                break
    raise ValueError(f"words of {bits} bits have no signature: there are no more columns")


def _multiples(column: int) -> list[int]:
    """Return the value of a column after 0, 1, 2, ... more words. Values after still more words differ, because the
    shapes of the columns differ."""
    found = [column]
    for _ in range(3 * STATE_BITS):
        found.append(step(found[-1]))
    return found


def _shapes() -> Iterator[tuple[int, ...]]:
    """Yield the distances of a column's bits from its lowest bit: all triples, then some groups of five."""
    threes = [(0, a, a + b) for a in range(1, STATE_BITS - 1) for b in range(1, STATE_BITS - a)]
    yield from (threes[index * _STRIDE % len(threes)] for index in range(len(threes)))
    for a, b, c, d in product(range(1, 8), range(2, 10), range(1, 8), range(3, 8)):
        yield 0, a, a + b, a + b + c, a + b + c + d


def _price(load: list[int], places: tuple[int, ...]) -> tuple[int, list[int]]:
    """Return how many LUT4 are added if each of these state bits gets one more input, and how many inputs these bits
    have now.

    The last LUT4 of a bit also has these inputs: a signal that marks a block's first word, the previous bit of the
    state, and the highest bit of the state if the bit is in TAPS. Every other LUT4 adds three inputs.
    """
    free = [2 - (place in TAPS) for place in places]
    full = sum(load[place] >= room and (load[place] - room) % 3 == 0 for place, room in zip(places, free, strict=True))
    return full, sorted((load[place] for place in places), reverse=True)


def _reach(reached: dict[int, int], column: int, check_words: int) -> bool:
    """Return whether a column reaches a new state in each of ``check_words`` successive words. If so, add these states
    to ``reached``.
    """
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
    """Return the state multiplied by x."""
    return (state << 1 & MASK) ^ (POLYNOMIAL if state >> STATE_BITS - 1 else 0)


def column_of(word: int, bits: int) -> int:
    """Return the sum of the columns of a word's bits that are 1."""
    return _added(columns(bits), word)


def last_state(image: int, place: int, mark: int = BLOCK_MARK) -> int:
    """Return the state after the last word of block ``place`` of an image. If ``mark`` is ROW_MARK, return the state
    after the last word of the row of token ``place``.

    Places are counted modulo 2^PLACE_BITS, so blocks whose numbers differ by a multiple of 2^PLACE_BITS have the same
    last state.
    """
    return mark ^ image ^ (place & (1 << PLACE_BITS) - 1) << PLACE_SHIFT


def slices_of(bits: int) -> int:
    """Return the number of signatures that check words of ``bits`` bits in records or rows: one, or one for each slice
    if the words have more than WIDE bits."""
    return 1 if bits <= WIDE else bits // SLICE


class WordSignatures:
    """Computes and verifies the check words of records and rows, for all slices.

    The last state of slice k must be the block's ``last_state``, with k added to its lowest bits by exclusive or. So
    exchanged slices are detected.
    """

    def __init__(self, word_bytes: int) -> None:
        self._slices = slices_of(8 * word_bytes)
        self._signature = Signature(word_bytes // self._slices)
        self.word_bytes, self.check_words = word_bytes, self._signature.check_words

    def block_check(self, words: Words, image: int, place: int) -> Words:
        """Return the check words [check_words, word_bytes] of block ``place`` of an image, which follow n words [n,
        word_bytes]."""
        states = self._signature.fold(self._cut(words[None]), np.zeros(self._slices, np.uint64))
        check: Words = self._joined(self._signature.checks(states, self._wanted(image, [place], BLOCK_MARK)))[0]
        return check

    def row_checks(self, words: Words, image: int, tokens: Iterable[int]) -> Words:
        """Return the check words [rows, check_words, word_bytes] at the beginning of the rows of ``tokens``. ``words``
        [rows, n, word_bytes] follow the check words."""
        wanted = self._wanted(image, tokens, ROW_MARK)
        return self._joined(self._signature.leading_checks(wanted, self._cut(words)))

    def is_right(self, words: Words, image: int, place: int, mark: int = BLOCK_MARK) -> bool:
        """Return whether words [n, word_bytes], including their check words, are block or row ``place``."""
        states = self._signature.fold(self._cut(words[None]), np.zeros(self._slices, np.uint64))
        return bool((states == self._wanted(image, [place], mark)).all())

    def _wanted(self, image: int, places: Iterable[int], mark: int) -> States:
        """Return the last states of all slices of all places."""
        return np.array(
            [last_state(image, place, mark) ^ part for place in places for part in range(self._slices)], np.uint64
        )

    def _cut(self, words: Words) -> Words:
        """Divide words [blocks, n, word_bytes] into slices [blocks x slices, n, bytes of a slice]."""
        blocks, count, _ = words.shape
        cut = words.reshape(blocks, count, self._slices, self._signature.word_bytes)
        return np.asarray(cut.swapaxes(1, 2).reshape(blocks * self._slices, count, self._signature.word_bytes))

    def _joined(self, words: Words) -> Words:
        """Join slices to words, which is the inverse of ``_cut``."""
        blocks, count = len(words) // self._slices, words.shape[1]
        cut = words.reshape(blocks, self._slices, count, self._signature.word_bytes)
        return np.asarray(cut.swapaxes(1, 2).reshape(blocks, count, self.word_bytes))


class Signature:
    """The signatures of words of ``word_bytes`` bytes, of which only the lowest ``bits`` bits are used."""

    def __init__(self, word_bytes: int, bits: int | None = None) -> None:
        self.word_bytes, self.bits = word_bytes, bits or 8 * word_bytes
        self.check_words = -(-CHECK_BYTES // word_bytes)
        of_bits = [*columns(self.bits), *[0] * (8 * word_bytes - self.bits)]
        self._tables = _tables([of_bits[8 * byte : 8 * byte + 8] for byte in range(word_bytes)])
        self._powers = [_linear([step(1 << bit) for bit in range(STATE_BITS)])]

    def fold(self, words: Words, states: States) -> States:
        """Return the states [blocks] after words [blocks, n, word_bytes]. ``states``: the states before these words."""
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

    def checks(self, states: States, wanted: States) -> Words:
        """Return the check words [blocks, check_words, word_bytes] that change ``states`` to ``wanted``."""
        return self._words_to(self._advanced(states, self.check_words) ^ wanted)

    def leading_checks(self, wanted: States, words: Words) -> Words:
        """Return the check words that change state zero to ``wanted`` if words [blocks, n, word_bytes] follow the check
        words."""
        before = wanted ^ self.fold(words, np.zeros(len(words), np.uint64))
        for _ in range(words.shape[1]):
            before = _halved(before)
        return self._words_to(before)

    def _words_to(self, wanted: States) -> Words:
        """Return the check words that change state zero to ``wanted``."""
        numbers = _apply(_inverse_tables(self.bits, self.check_words), wanted)
        each = STATE_BITS // self.check_words  # number of used bits of a check word, which are its lowest bits
        raw = np.zeros((len(wanted), self.check_words, self.word_bytes), np.uint8)
        for word in range(self.check_words):
            part = numbers >> np.uint64(word * each) & np.uint64((1 << each) - 1)
            used = min(8, self.word_bytes)
            raw[:, word, :used] = part.astype("<u8")[:, None].view(np.uint8)[:, :used]
        return raw

    def _advanced(self, states: States, count: int) -> States:
        """Return ``states`` times x^count."""
        for level in range(count.bit_length()):
            if count >> level & 1:
                states = self._times(states, level)
        return states

    def _times(self, states: States, level: int) -> States:
        """Return ``states`` times x^(2^level)."""
        while len(self._powers) <= level:
            last = self._powers[-1]
            self._powers.append(_linear([int(value) for value in _apply(last, _apply(last, _units()))]))
        return _apply(self._powers[level], states)


def _units() -> States:
    return np.array([1 << bit for bit in range(STATE_BITS)], np.uint64)


def _tables(groups: list[list[int]]) -> list[States]:
    """Return for each group of eight columns a table with the sum of columns for every value of a byte."""
    found = []
    for group in groups:
        table = np.zeros(256, np.uint64)
        for bit, column in enumerate(group):
            table[(np.arange(256) >> bit & 1) == 1] ^= np.uint64(column)
        found.append(table)
    return found


def _linear(images: list[int]) -> list[States]:
    """Return the tables of a linear map of states. ``images``: the image of each single bit."""
    return _tables([images[8 * byte : 8 * byte + 8] for byte in range(CHECK_BYTES)])


def _apply(tables: list[States], states: States) -> States:
    found = np.zeros(states.shape, np.uint64)
    for byte, table in enumerate(tables):
        found ^= table[(states >> np.uint64(8 * byte) & np.uint64(255)).astype(np.intp)]
    return found


def _halved(states: States) -> States:
    """Return ``states`` divided by x."""
    taps = np.uint64((POLYNOMIAL ^ 1) >> 1 | 1 << STATE_BITS - 1)
    return np.where(states & np.uint64(1), states >> np.uint64(1) ^ taps, states >> np.uint64(1))


@lru_cache
def _inverse_tables(bits: int, check_words: int) -> list[States]:
    """Return the tables of a map from a state to the used bits of the check words that change zero to this state."""
    images = []
    for bit in range(STATE_BITS):
        word, place = divmod(bit, STATE_BITS // check_words)
        state = columns(bits)[place]
        for _ in range(check_words - 1 - word):
            state = step(state)
        images.append(state)
    return _linear(_inverse(images))


def _inverse(images: list[int]) -> list[int]:
    """Return the inverse of a linear map, by elimination on pairs of an image and its origin."""
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
    "BLOCK_MARK",
    "BURST",
    "CHECK_BYTES",
    "LONGEST",
    "PLACE_BITS",
    "PLACE_SHIFT",
    "POLYNOMIAL",
    "ROW_MARK",
    "SLICE",
    "STATE_BITS",
    "TAPS",
    "Signature",
    "WordSignatures",
    "column_of",
    "columns",
    "last_state",
    "slices_of",
    "step",
    "sum_columns",
    "sums_of",
]
