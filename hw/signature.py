"""The signature of words that are read in order, as ``model_ref.signature`` has it: whether the last state is zero.

    i {word, first, last}, init ─► register ─► times x, plus columns ─► state ─► zero after the last word? ─► done, bad

Cost of words of n bits: n + 70 LUT4 (a column is three inputs of exclusive ors), n + 70 FF.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.model_ref.signature import POLYNOMIAL, STATE_BITS, columns


class SignatureCheck(wiring.Component):
    """See above.

    Members: ``valid``: ``word`` is the next; ``first``, ``last``: it begins a block with the state ``init``, or ends
    it; ``done`` a block has ended, ``bad``: and its state was not zero.

    Latency: 3 from the last word to ``done``. A word a cycle.
    """

    latency = 3

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(
            {
                "valid": In(1),
                "word": In(bits),
                "first": In(1),
                "last": In(1),
                "init": In(STATE_BITS),
                "done": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        word, init = (Signal(bits, reset_less=True) for bits in (self.bits, STATE_BITS))
        valid, first, last, ended = Signal(), Signal(reset_less=True), Signal(reset_less=True), Signal()
        state, before = Signal(STATE_BITS, reset_less=True), Signal(STATE_BITS)
        m.d.sync += [valid.eq(self.valid), word.eq(self.word), first.eq(self.first), last.eq(self.last)]
        m.d.sync += [init.eq(self.init), ended.eq(valid & last), self.done.eq(ended), self.bad.eq(ended & state.any())]
        m.d.comb += before.eq(Mux(first, init, state))
        with m.If(valid):
            m.d.sync += state.eq(_times_x(before) ^ _columns(word))
        return m


def _times_x(state: Value) -> Value:
    """Modulo the polynomial."""
    shifted, top = Cat(0, state[:-1]), state[-1]
    return Cat(shifted[bit] ^ top if POLYNOMIAL >> bit & 1 else shifted[bit] for bit in range(STATE_BITS))


def _columns(word: Value) -> Value:
    """The columns of the word's bits that are 1, added up."""
    inputs: list[list[Value]] = [[] for _ in range(STATE_BITS)]
    for bit, column in enumerate(columns(len(word))):
        for place in range(STATE_BITS):
            if column >> place & 1:
                inputs[place].append(word[bit])
    return Cat(Cat(some).xor() if some else 0 for some in inputs)


__all__ = ["SignatureCheck"]
