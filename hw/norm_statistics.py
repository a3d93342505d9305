"""What RMSNorm gathers while its vector arrives: u_k = x G_k, the largest |u_k| and the sum of squares of p = x w1.

    register  1           2, 3        4        5         6             7
    x ─► magnitude ─► normalise ─► round ─┬─► X*G_k ─► round ─┬─► u (to the quantiser's memory)
    gains ─────────────────► |mantissa| ──┤                   └─► largest key, three of them
                                          └─► X*w1 ──► round ─or X─► p*p ─► shift, shift ─► low half ─► high half
                                                                    7        8      9          10          11

Nothing in it ever waits: a vector is refused at the door (``i_x.ready``) while the statistics of the one before are
still untaken. Cost of an element a cycle: 5 multipliers.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import View
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.short_float import normalise_coarse, normalise_fine, round_product, round_up
from lutern.hw.stages import Stages, magnitude
from lutern.model_ref.fixed import MANTISSA_BITS
from lutern.model_ref.norm import KEY_EXPONENT_BIAS, X_BITS

SLOTS = 3
KEY_BITS = MANTISSA_BITS + 6
"""Key of a short float: mantissa (17 bits, low) and biased exponent (6 bits); 0 for 0."""
U_BITS = KEY_BITS + 1
"""An element of u: its key and its sign (top bit)."""
SQUARE_BITS = 68
"""A square in units of x's last place: 34 bits, moved up by at most 2 * 17."""
SQUARES_BITS = 82
LOW_BITS = 41
"""The accumulator is added in two halves, one cycle apart."""
TOP_EXPONENT = X_BITS - 1 - MANTISSA_BITS
"""Exponent of an x of full width; each zero above x's leading bit takes one off."""


class NormStatistics(wiring.Component):
    """Statistics of one vector after the other.

    Parameters: ``config`` (``results_per_cycle`` elements a beat).

    Members: ``i_x``; ``u``, ``u_valid``, ``u_last`` (P x 3 elements of u, element-major, a beat each cycle);
    ``largest`` (3 keys) holds from ``largest_valid`` until ``largest_take``, ``squares`` likewise.

    Numerics: exact, ``model_ref.norm.gather``. ``|x| < 2^34``; gains' mantissas are symmetric 18-bit numbers.

    Latency: `largest_latency` from the last beat to ``largest_valid``, four cycles more to ``squares_valid``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_x": In(stream.Signature(layouts.gathered_payload(config))),
                "u": Out(config.results_per_cycle * SLOTS * U_BITS),
                "u_valid": Out(1),
                "u_last": Out(1),
                "largest": Out(SLOTS * KEY_BITS),
                "largest_valid": Out(1),
                "largest_take": In(1),
                "squares": Out(SQUARES_BITS),
                "squares_valid": Out(1),
                "squares_take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        levels = exact_log2(self.config.results_per_cycle)
        s = Stages(m, Const(1))
        beat = self.i_x.payload
        pending, first = Signal(), Signal(init=1)
        m.d.comb += self.i_x.ready.eq(~pending)
        accepted = self.i_x.valid & ~pending
        with m.If(self.squares_take):
            m.d.sync += pending.eq(0)
        with m.If(accepted):
            m.d.sync += [first.eq(beat.last), pending.eq(beat.last)]

        elements = [self._element(s, index) for index in range(self.config.results_per_cycle)]
        valid = s.valid(accepted, 6)
        last = s.delay(beat.last, 6)
        begins = s.delay(first, 6)
        m.d.comb += [
            self.u.eq(Cat(*[u for us, _ in elements for u in us])),
            self.u_valid.eq(valid),
            self.u_last.eq(last),
        ]

        # Largest keys: a tree over the beat, then the running one.
        tree = [[u[:KEY_BITS] for u in us] for us, _ in elements]
        while len(tree) > 1:
            tree = [[s.register(larger(a, b)) for a, b in zip(left, right, strict=True)]
                    for left, right in zip(tree[::2], tree[1::2], strict=True)]
        go = s.valid(valid, levels)
        start, stop = s.delay(begins, levels), s.delay(last, levels)
        running = [Signal(KEY_BITS, name=f"largest_{slot}", reset_less=True) for slot in range(SLOTS)]
        with m.If(go):
            for key, new in zip(running, tree[0], strict=True):
                m.d.sync += key.eq(Mux(start | (new > key), new, key))
        m.d.comb += self.largest.eq(Cat(*running))
        self._flag(m, self.largest_valid, go & stop, self.largest_take)

        # Squares: halves have their own trees, the carry between them is added a cycle later.
        halves = [(square[:LOW_BITS], square[LOW_BITS:]) for square in (self._square(s, p) for _, p in elements)]
        while len(halves) > 1:
            halves = [(s.register(a[0] + b[0]), s.register(a[1] + b[1]))
                      for a, b in zip(halves[::2], halves[1::2], strict=True)]
        go, start, stop = s.valid(go, 3), s.delay(start, 3), s.delay(stop, 3)
        low = Signal(LOW_BITS, reset_less=True)
        carry = Signal(levels + 1, reset_less=True)
        with m.If(go):
            m.d.sync += Cat(low, carry).eq(Mux(start, 0, low) + halves[0][0])
        go, start, stop, high_part = s.valid(go, 1), s.register(start), s.register(stop), s.register(halves[0][1])
        high = Signal(SQUARES_BITS - LOW_BITS, reset_less=True)
        with m.If(go):
            m.d.sync += high.eq(Mux(start, 0, high) + high_part + carry)
        m.d.comb += self.squares.eq(Cat(low, high))
        self._flag(m, self.squares_valid, go & stop, self.squares_take)
        return m

    @staticmethod
    def _flag(m: Module, flag: Signal, rises: Value, falls: Value) -> None:
        with m.If(rises):
            m.d.sync += flag.eq(1)
        with m.Elif(falls):
            m.d.sync += flag.eq(0)

    def _element(self, s: Stages, index: int) -> tuple[list[Value], tuple[Value, Value]]:
        """Register 6 of one element: three of u, and p as (mantissa, how many bits its exponent lies below the top)."""
        payload = self.i_x.payload
        x = payload.x.word_select(index, X_BITS).as_signed()
        size, negative = s.register(magnitude(x)), s.delay(x[-1], 3)
        moved, eights = normalise_coarse(size)
        moved, eights = s.register(moved), s.register(eights)
        moved, ones = normalise_fine(moved)
        moved, zeros = s.register(moved), s.register(Cat(ones, eights))
        mantissa = s.register(round_up(moved[MANTISSA_BITS:], moved[MANTISSA_BITS - 1]))
        gains = s.delay(payload.gains.word_select(index, layouts.TUPLE_GAINS * layouts.GAIN_BITS), 3)
        products = []
        for item in range(layouts.TUPLE_GAINS):
            gain = View(layouts.GAIN, gains.word_select(item, layouts.GAIN_BITS))
            factor = s.register(magnitude(gain.mantissa))
            zero = s.delay(~moved[-1] | (gain.mantissa == 0), 2)
            below = s.delay(zeros + gain.exponent, 2)
            sign = s.delay(negative ^ gain.mantissa[-1], 3)
            rounded, high = round_product(s.register(mantissa * factor))
            products.append((rounded, high, zero, below, sign))
        us = []
        for rounded, high, zero, below, sign in products[1:]:
            # exponent of X is TOP - zeros, of the gain -17 - e; the product's is their sum + 16 + high
            exponent = (TOP_EXPONENT - 1 + KEY_EXPONENT_BIAS + high - below)[:6]
            us.append(Cat(s.register(rounded), s.register(Mux(zero, 0, exponent)), sign))
        rounded, high, _, below, _ = products[0]
        outer = s.delay(payload.outer, 5)
        p = s.register(Mux(outer, rounded, s.register(mantissa)))
        distance = s.register(Mux(outer, (below + 1 - high)[:6], s.delay(zeros, 2)))
        return us, (p, distance)

    @staticmethod
    def _square(s: Stages, p: tuple[Value, Value]) -> Value:
        """Register 9 of one element: ``p^2`` in units of x's last place, truncated. Fine shifts first: fewer muxes."""
        mantissa, distance = p
        moved = Cat(Const(0, SQUARE_BITS - 2 * MANTISSA_BITS), s.register(mantissa * mantissa))
        distance = s.register(distance)
        for step in range(3):
            moved = Mux(distance[step], moved >> (2 << step), moved)[:SQUARE_BITS]
        moved, distance = s.register(moved), s.register(distance)
        for step in range(3, 6):
            moved = Mux(distance[step], moved >> (2 << step), moved)[:SQUARE_BITS]
        return s.register(moved)


def largest_latency(config: HwConfig) -> int:
    """Cycles from a vector's last beat until its largest keys are there."""
    return 7 + exact_log2(config.results_per_cycle)


def pick(slots: Value, slot: Value) -> Value:
    """Word ``slot`` (0 to 2) of three; a selection by index would become a barrel shift."""
    words = [slots.word_select(index, len(slots) // SLOTS) for index in range(SLOTS)]
    return Mux(slot[1], words[2], Mux(slot[0], words[1], words[0]))


def larger(a: Value, b: Value) -> Value:
    """The larger of two keys."""
    return Mux(a > b, a, b)
