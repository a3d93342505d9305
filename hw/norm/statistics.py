"""The statistics of vectors for RMSNorm are computed while the vectors arrive.

The statistics are u_k = x G_k, the largest |u_k|, and the sum of squares of p, where G_k and w1 are gains. p is x w1 if
``outer`` is 1, otherwise p is x. X is the rounded mantissa of |x|.

    register  1           2, 3        4        5         6             7
    x ─► magnitude ─► normalise ─► round ─┬─► X*G_k ─► round ─┬─► u (to the quantiser's memory)
    gains ─────────────────► |mantissa| ──┤                   └─► largest key of each u_k
                                          └─► X*w1 ──► round ─or X─► p*p ─► shift, shift ─► low half ─► high half
                                                                    7        8      9          10          11

Keys (``layouts.KEY_BITS``) compare like the magnitudes of their short floats. Largest keys and halves of sums are
running values. Each stream has separate running values. A running value is read and replaced in the same cycle, so
beats of different streams may follow one another without a gap. The pipeline never stalls, because ``i_x.ready`` is low
until the statistics of the previous vectors have been taken.

Cost: 5 multipliers for each element per cycle.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import View
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import KEY_BITS
from lutern.hw.norm.short_float import normalise_coarse, normalise_fine, round_product, round_up
from lutern.hw.pipeline import Stages, magnitude, new_memory
from lutern.model_ref.fixed import MANTISSA_BITS
from lutern.model_ref.norm import GAIN_LOW_BITS, KEY_EXPONENT_BIAS, X_BITS

U_COUNT = 3
U_BITS = KEY_BITS + 1
"""Number of bits of an element of u. The element consists of its key and, in the top bit, its sign."""
SQUARE_BITS = 68
"""Number of bits of a square in units of x's last place. The square has 34 bits and is shifted left by at most 2 * 17
bits."""
SQUARES_BITS = 82
ADDRESS_BITS = 8
"""Number of bits of a key that address the table of reciprocals."""
LOW_BITS = 41
"""Number of bits of the low half of the accumulator. The two halves are added one cycle apart."""
TOP_EXPONENT = X_BITS - 1 - MANTISSA_BITS
"""Exponent of an x of full width. Each zero above x's leading bit subtracts 1 from the exponent."""


class NormStatistics(wiring.Component):
    """Computes the statistics of sets of vectors, one set after the other. A set has one vector of each active stream.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` P elements per beat, ``streams`` T.

    Members
    -------
    i_x : stream of ``layouts.gathered_payload``, input
        P elements and their gains. A vector begins at index 0. The last beat of ``final_stream`` is the last beat of
        all streams and ends the set. ``|x| < 2^34``, and the mantissas of gains are symmetric 12-bit numbers.
    final_stream : ``stream_bits``, input
        Number of the last active stream.
    u : P x 3 elements of ``U_BITS``, output
        The elements of u, one beat per cycle. The three u of an element follow one another.
    u_valid : 1 bit, output
        ``u`` is valid in this cycle.
    u_stream : ``stream_bits``, output
        The stream of ``u``.
    u_index : ``index_bits``, output
        The index of the beat ``u`` in its vector.
    stream : ``stream_bits``, input
        Selects the stream of ``largest``, ``early`` and ``squares``, which follow one cycle later.
    largest : 3 keys, output
        The largest key of each u. The keys of all streams of a set are valid from the cycle after ``largest_valid``
        until 5 cycles after the first beat of the next set is accepted.
    largest_valid : 1 bit, output
        The statistics of a set are complete, except ``squares``.
    largest_take : 1 bit, input
        Ends ``largest_valid``. Vectors of the next set are accepted from the next cycle on.
    squares : 82 bits, output
        Sum of squares, valid from at most five cycles after ``largest`` until 8 cycles after the first beat of the next
        set is accepted.

    Numerics
    --------
    Exact, equal to ``model_ref.norm.gather``.

    Latency
    -------
    `largest_latency` cycles from the last beat to ``largest_valid``: 6 with one stream, 7 with several, and one more
    for each doubling of P beyond 2.

    Reference
    ---------
    ``model_ref.norm.gather`` and ``square_sum``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_x": In(stream.Signature(layouts.gathered_payload(config))),
                "final_stream": In(config.stream_bits),
                "u": Out(config.results_per_cycle * U_COUNT * U_BITS),
                "u_valid": Out(1),
                "u_stream": Out(config.stream_bits),
                "u_index": Out(config.index_bits),
                "stream": In(config.stream_bits),
                "largest": Out(U_COUNT * KEY_BITS),
                "largest_valid": Out(1),
                "largest_take": In(1),
                "squares": Out(SQUARES_BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        streams = self.config.streams
        levels = exact_log2(self.config.results_per_cycle)
        s = Stages(m)
        beat = self.i_x.payload
        of = beat.stream if streams > 1 else Const(0, 1)
        ends = beat.last & ((of == self.final_stream) if streams > 1 else 1)
        pending = Signal()
        m.d.comb += self.i_x.ready.eq(~pending)
        accepted = self.i_x.valid & ~pending
        with m.If(self.largest_take):
            m.d.sync += pending.eq(0)
        with m.If(accepted):
            m.d.sync += pending.eq(ends)

        def place(came: Value, stream: Value, stages: int) -> Value:
            """Return the stream of the beat that came ``stages`` + 1 cycles ago, or ``self.stream`` if no beat came."""
            return s.register(Mux(came, s.delay(stream, stages), self.stream)) if streams > 1 else of

        elements = [self._element(s, index) for index in range(self.config.results_per_cycle)]
        m.d.comb += [
            self.u.eq(Cat(*[u for us, _ in elements for u in us])),
            self.u_valid.eq(s.valid(accepted, 6)),
            self.u_stream.eq(s.delay(of, 6) if streams > 1 else of),
            self.u_index.eq(s.delay(beat.index, 6)),
        ]

        # Largest keys: a tree reduces each beat to two keys. Then these keys are compared with the running key.
        tree = [[u[:KEY_BITS] for u in us] for us, _ in elements]
        while len(tree) > 2:
            tree = [
                [s.register(larger(a, b)) for a, b in zip(left, right, strict=True)]
                for left, right in zip(tree[::2], tree[1::2], strict=True)
            ]
        above = max(levels - 1, 0)
        came = s.valid(accepted, 5 + above)
        stream = place(came, of, 5 + above)
        go, start, stop = s.valid(came, 1), s.delay(beat.index == 0, 6 + above), s.delay(ends, 6 + above)
        keys = Running(m, "keys", U_COUNT * KEY_BITS, streams, stream)
        olds = [keys.value.word_select(u_index, KEY_BITS) for u_index in range(U_COUNT)]
        largest = [largest_of(list(news), old, start) for *news, old in zip(*tree, olds, strict=True)]
        keys.replace(go, Cat(*largest))
        m.d.comb += self.largest.eq(keys.value)
        waits = Signal()
        if streams == 1:  # the keys are read in the next cycle
            m.d.comb += self.largest_valid.eq((go & stop) | waits)
            m.d.sync += waits.eq(self.largest_valid & ~self.largest_take)
        else:
            m.d.comb += self.largest_valid.eq(waits)
            m.d.sync += waits.eq((go & stop) | (waits & ~self.largest_take))

        # Squares: each half has a separate adder tree. The carry between the halves is added one cycle later.
        halves = [(square[:LOW_BITS], square[LOW_BITS:]) for square in (self._square(s, p) for _, p in elements)]
        while len(halves) > 1:
            halves = [
                (s.register(a[0] + b[0]), s.register(a[1] + b[1]))
                for a, b in zip(halves[::2], halves[1::2], strict=True)
            ]
        behind = 2 + levels - above
        came = s.valid(go, behind)
        stream = place(came, stream, behind)
        go, start = s.valid(came, 1), s.delay(start, behind + 1)
        low = Running(m, "low", LOW_BITS, streams, stream)
        total = (Mux(start, 0, low.value) + halves[0][0])[: LOW_BITS + levels + 1]
        carry = s.register(total[LOW_BITS:])
        low.replace(go, total[:LOW_BITS])
        stream = place(go, stream, 0)
        go, start, high_part = s.valid(go, 1), s.register(start), s.register(halves[0][1])
        high = Running(m, "high", SQUARES_BITS - LOW_BITS, streams, stream)
        high.replace(go, (Mux(start, 0, high.value) + high_part + carry)[: SQUARES_BITS - LOW_BITS])
        m.d.comb += self.squares.eq(Cat(low.value, high.value))
        return m

    def _element(self, s: Stages, index: int) -> tuple[list[Value], tuple[Value, Value]]:
        """Return the values of register 6 of one element.

        These are the three u of the element, and p as (mantissa, distance of the exponent from the top).
        """
        payload = self.i_x.payload
        x = payload.x.word_select(index, X_BITS).as_signed()
        # |x|. Its carry is added after the next register, because x comes from a FIFO through a multiplexer with three
        # inputs
        flipped, minus = s.register(Mux(x[-1], ~x, x)[: X_BITS - 1]), s.register(x[-1])
        moved, eights = normalise_coarse((flipped + minus)[: X_BITS - 1])
        negative = s.delay(minus, 2)
        moved, eights = s.register(moved), s.register(eights)
        moved, ones = normalise_fine(moved)
        moved, zeros = s.register(moved), s.register(Cat(ones, eights))
        mantissa = s.register(round_up(moved[MANTISSA_BITS:], moved[MANTISSA_BITS - 1]))
        gains = s.delay(payload.gains.word_select(index, layouts.TUPLE_GAINS * layouts.ITEM_BITS), 3)
        products = []
        for item in range(layouts.TUPLE_GAINS):
            gain = View(layouts.ITEM, gains.word_select(item, layouts.ITEM_BITS))
            factor = s.register(magnitude(gain.mantissa))
            zero = s.delay(~moved[-1] | (gain.mantissa == 0), 2)
            below = s.delay(zeros + gain.exponent, 2)
            sign = s.delay(negative ^ gain.mantissa[-1], 3)
            rounded, high = round_product(Cat(Const(0, GAIN_LOW_BITS), s.register(mantissa * factor)))
            products.append((rounded, high, zero, below, sign))
        us: list[Value] = []
        for rounded, high, zero, below, sign in products[1:]:
            # X has the exponent TOP - zeros, the gain has -17 - e, and the product has the sum of these two exponents +
            # 16 + high
            exponent = (TOP_EXPONENT - 1 + KEY_EXPONENT_BIAS + high - below)[:6]
            us.append(Cat(s.register(rounded), s.register(Mux(zero, 0, exponent)), sign))
        rounded, high, _, below, _ = products[0]
        outer = s.delay(payload.outer, 5)
        p = s.register(Mux(outer, rounded, s.register(mantissa)))
        distance = s.register(Mux(outer, (below + 1 - high)[:6], s.delay(zeros, 2)))
        return us, (p, distance)

    @staticmethod
    def _square(s: Stages, p: tuple[Value, Value]) -> Value:
        """Return the value of register 9 of one element, which is ``p^2`` in units of x's last place, truncated.

        Fine shifts come first, because this order takes fewer multiplexers.
        """
        mantissa, distance = p
        moved: Value = Cat(Const(0, SQUARE_BITS - 2 * MANTISSA_BITS), s.register(mantissa * mantissa))
        distance = s.register(distance)
        for step in range(3):
            moved = Mux(distance[step], moved >> (2 << step), moved)[:SQUARE_BITS]
        moved, distance = s.register(moved), s.register(distance)
        for step in range(3, 6):
            moved = Mux(distance[step], moved >> (2 << step), moved)[:SQUARE_BITS]
        return s.register(moved)


class Running:
    """Holds a value for each stream. `replace` writes a value in the cycle in which the value is read.

    If there is one stream, its value is in a register, otherwise the values are in LUT RAM. A reset does not clear the
    values.

    Parameters
    ----------
    m : Module
        The module that receives the logic.
    name : str
        Name of the register or memory in the netlist.
    bits : int
        Width of a value.
    streams : int
        Number of values.
    place : Value
        The stream whose value is read and written.

    Attributes
    ----------
    value : ``bits``
        The present value of the stream at ``place``.
    """

    def __init__(self, m: Module, name: str, bits: int, streams: int, place: Value) -> None:
        self._m, self._place, self._write = m, place, None
        if streams == 1:
            self.value = Signal(bits, name=name, reset_less=True)
            return
        m.submodules[name] = memory = new_memory(bits, streams, attrs={"ram_style": "distributed"})
        self._write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += read.addr.eq(place)
        self.value = read.data

    def replace(self, enable: Value, value: Value) -> None:
        """Set the value of the stream at ``place`` from the next cycle on, if ``enable`` is 1."""
        if self._write is None:
            with self._m.If(enable):
                self._m.d.sync += self.value.eq(value)
        else:
            self._m.d.comb += [self._write.en.eq(enable), self._write.addr.eq(self._place), self._write.data.eq(value)]


def largest_latency(config: HwConfig) -> int:
    """Return the number of cycles from the last beat of a vector until its largest keys are valid.

    If there are several streams, the keys are read from memory again, so the latency is one cycle longer.
    """
    return (6 if config.streams == 1 else 7) + max(exact_log2(config.results_per_cycle) - 1, 0)


def pick(words_of_u: Value, u_index: Value) -> Value:
    """Select word ``u_index`` (0 to 2) of three words. A selection by index would become a barrel shifter."""
    words = [words_of_u.word_select(index, len(words_of_u) // U_COUNT) for index in range(U_COUNT)]
    return Mux(u_index[1], words[2], Mux(u_index[0], words[1], words[0]))


def leading_bits(mantissa: Value) -> Value:
    """Return the bits of a mantissa, or of a key, that address a table of reciprocals."""
    return mantissa[MANTISSA_BITS - 1 - ADDRESS_BITS : MANTISSA_BITS - 1]


def largest_of(news: list[Value], old: Value, start: Value) -> Value:
    """Return the largest of new keys and an old key. All comparisons are done in parallel.

    Parameters
    ----------
    news : list[Value]
        One or two new keys.
    old : Value
        The old key.
    start : Value
        The old key is ignored.
    """
    *others, last = news
    found = Mux(start | (last > old), last, old)
    for other in others:
        found = Mux(other > last, Mux(start | (other > old), other, old), found)
    return found


def larger(a: Value, b: Value) -> Value:
    """Return the larger of two keys."""
    return Mux(a > b, a, b)
