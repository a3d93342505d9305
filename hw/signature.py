"""The check of a signature reads words in order, and reports whether the last state is the wanted state.

    word ─► (sums ─► register ─► columns ─►) register ─► state times x, plus columns ─► state ─► as wanted after the
                                                                                          last word? ─► done, bad

``model_ref.signature`` defines the signature. Each bit of a word is an input of the exclusive ors for three bits of the
state. The column of the bit names these three bits. If ``cells`` is true, the LUT4s are instantiated, because the
synthesis would use a fifth more LUT4s. A wide word of records has one signature for each of its slices. A wide beat of
trits is first reduced to sums, with 8 sums for 32 bits.

Cost of words of n bits up to 512: n + 50 LUT4 with ``cells``, and n + 48 flip-flops. Cost of wider beats: 1.4 n LUT4
and n / 4 + 95 flip-flops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.pipeline import fewer, lut4, parity
from lutern.model_ref.signature import STATE_BITS, TAPS, columns, slices_of, sum_columns, sums_of

SIMULATED_BITS = 32
"""Number of bits of a wide word that Verilator computes in one operation."""


def _members(bits: int) -> dict[str, Any]:
    """Return the members of a check of words of ``bits`` bits."""
    return {"valid": In(1), "word": In(bits), "last": In(1), "wanted": In(STATE_BITS), "done": Out(1), "bad": Out(1)}


class SignatureCheck(wiring.Component):
    """Computes the signature of a block of words, and compares the last state with ``wanted``.

    Parameters
    ----------
    bits : int
        Number of bits of a word.
    cells : bool
        Builds the exclusive ors of ECP5 LUT4s. If ``cells`` is false, any synthesis can build the exclusive ors.

    Members
    -------
    valid : 1 bit, input
        ``word`` is the next word.
    word : ``bits`` bits, input
        The word.
    last : 1 bit, input
        ``word`` ends a block. The next word begins the next block.
    wanted : 42 bits, input
        The wanted last state, ``latency`` - 1 cycles after the last word.
    done : 1 bit, output
        A block has ended.
    bad : 1 bit, output
        Valid if ``done`` is 1: the last state of the block was not the wanted state.

    Numerics
    --------
    Arithmetic over GF(2), exact.

    Latency
    -------
    ``latency`` by ``bits``: 3 for 32, 4 for 824. ``latency`` counts the cycles from the last word to ``done``, and a
    word that is reduced to sums takes one cycle more. A word enters in every cycle.

    Reference
    ---------
    ``model_ref.signature``.
    """

    def __init__(self, bits: int, *, cells: bool = False) -> None:
        self.bits, self.cells = bits, cells
        self.latency = 4 if sums_of(bits) else 3
        super().__init__(_members(bits))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        sums = sums_of(self.bits)
        word, valid, last = self.word, self.valid, self.last
        columns_of: Sequence[int] = columns(self.bits)
        if sums:  # the sums are near their bits, which come from all over the chip, so two registers follow
            word = self._parities(m, word, _places(sums, max(sums).bit_length()))
            word, valid, last = _registers(m, word, valid, last)
            word = self._parities(m, word, _places(sum_columns(len(word)), STATE_BITS))
            columns_of = [1 << place for place in range(STATE_BITS)]
        word, valid, last = _registers(m, word, valid, last)
        state, ended, first = Signal(STATE_BITS, reset_less=True), Signal(), Signal(init=1)
        m.d.sync += [ended.eq(valid & last), self.done.eq(ended), self.bad.eq(ended & self._differs(m, state))]
        following = []
        for place, bits in enumerate(_places(columns_of, STATE_BITS)):
            before = [state[place - 1]] if place else []
            before += [state[-1]] if place == 0 or place in TAPS else []
            following.append(self._next(m, first, before, word, bits))
        with m.If(valid):
            m.d.sync += [first.eq(last), state.eq(Cat(following))]
        return m

    def _parities(self, m: Module, word: Value, places: list[list[int]]) -> Value:
        """Return the exclusive or of the bits of a word at each of some lists of places."""
        if not self.cells:
            return Cat(_parity_of(word, bits) for bits in places)
        inputs = [[word[bit] for bit in bits] for bits in places]
        return Cat(fewer(m, values, 1, parity)[0] for values in inputs)

    def _differs(self, m: Module, state: Value) -> Value:
        """Return whether the state differs from ``wanted``."""
        if not self.cells:
            return state != self.wanted
        pairs = [[*state[place : place + 2], *self.wanted[place : place + 2]] for place in range(0, STATE_BITS, 2)]
        found = [lut4(m, pair, lambda values: values[:2] != values[2:]) for pair in pairs]
        return Cat(fewer(m, found, 3, any)).any()  # the last LUT4 has a free input for ``ended``

    def _next(self, m: Module, first: Value, before: list[Value], word: Value, bits: list[int]) -> Value:
        """Return a bit of the next state. It is the exclusive or of some ``bits`` of a word and, except with the
        ``first`` word, of the bits ``before`` of the previous state."""
        if not self.cells:
            return _parity_of(word, bits) ^ (Cat(before).xor() & ~first)
        inputs = [first, *before, *fewer(m, [word[bit] for bit in bits], 3 - len(before), parity)]
        return lut4(m, inputs, lambda values: parity(values[1 + values[0] * len(before) :]))


def _places(columns_of: Sequence[int], count: int) -> list[list[int]]:
    """Return for each of ``count`` bits of the columns the numbers of the columns that have this bit."""
    return [[number for number, column in enumerate(columns_of) if column >> place & 1] for place in range(count)]


def _registers(m: Module, word: Value, valid: Value, last: Value) -> tuple[Signal, Signal, Signal]:
    """Return a word with its flags, one cycle later."""
    held = Signal(len(word), name="word", reset_less=True), Signal(name="valid"), Signal(name="last", reset_less=True)
    m.d.sync += [register.eq(value) for register, value in zip(held, (word, valid, last), strict=True)]
    return held


def _parity_of(word: Value, bits: list[int]) -> Value:
    """Return the exclusive or of some bits of a word. The function uses a mask, because a simulation then computes many
    bits in one operation."""
    if not bits:
        return Const(0)
    begin = min(bits) // SIMULATED_BITS * SIMULATED_BITS
    some = word[begin : max(bits) + 1]
    return (some & sum(1 << bit - begin for bit in bits)).xor()


class WordCheck(wiring.Component):
    """Computes one signature for each slice of a word of records or rows.

    Parameters
    ----------
    bits : int
        Number of bits of a word.
    cells : bool
        Builds the exclusive ors of ECP5 LUT4s. If ``cells`` is false, any synthesis can build the exclusive ors.

    Members
    -------
    valid : 1 bit, input
        ``word`` is the next word.
    word : ``bits`` bits, input
        The word.
    last : 1 bit, input
        ``word`` ends a block. The next word begins the next block.
    wanted : 42 bits, input
        The wanted last state of slice 0, ``latency`` - 1 cycles after the last word. The wanted last state of slice k
        is ``wanted`` xor k.
    done : 1 bit, output
        A block has ended.
    bad : 1 bit, output
        Valid if ``done`` is 1: the last state of a slice was not the wanted state.

    Numerics
    --------
    Arithmetic over GF(2), exact.

    Latency
    -------
    ``latency`` = 3 cycles from the last word to ``done``. A word enters in every cycle.

    Reference
    ---------
    ``model_ref.signature.WordSignatures``.
    """

    def __init__(self, bits: int, *, cells: bool = False) -> None:
        self.bits = bits
        self.parts = [SignatureCheck(bits // slices_of(bits), cells=cells) for _ in range(slices_of(bits))]
        self.latency = self.parts[0].latency
        super().__init__(_members(bits))

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for index, part in enumerate(self.parts):
            m.submodules[f"slice_{index}"] = part
            m.d.comb += [
                part.valid.eq(self.valid),
                part.word.eq(self.word.word_select(index, part.bits)),
                part.last.eq(self.last),
                part.wanted.eq(self.wanted ^ index),
            ]
        m.d.comb += [self.done.eq(self.parts[0].done), self.bad.eq(Cat(part.bad for part in self.parts).any())]
        return m


__all__ = ["SignatureCheck", "WordCheck"]
