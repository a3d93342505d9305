"""The scalars of RMSNorm, one operation and stream at a time on one multiplier: R = 127 / largest, y = 1 /
sqrt(ss + eps), scale.

    i_op ─► 1 / producer_scale^2 * e1 [* e2] ─► largest ─► RECIPROCAL ─► R ─► o_factor     critical: 8 cycles
       each stream in turn                          │         └─► largest * K
                     squares of g ─► LeadingBits ─► + ..  * e2 ─┐
                               ss ─► LeadingBits ───────────────┴─► + ─► ROOT ─► y * (largest * K) ─► o_scale

The upper row and the sums only with an eps term (squares of g and the e2 behind them: O_PROJ; the e2 above: DOWN_PROJ);
ss and ROOT only with a new vector. `LeadingBits` and `FloatAdder` run all the time and have squares of g and their sum
with the term ready when R is there, ss a cycle later. Tables of both Newton iterations share a block RAM, with a
register behind it; the multiplier's operands and product are registered, so that a product takes three states. 1
multiplier, 1 block RAM, and with several streams a LUT RAM for the root and the last scale of each.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import KEY_BITS, QUANTISE_OP, factor_payload
from lutern.hw.norm.short_float import FloatAdder, LeadingBits, round_product, scalar_signal
from lutern.hw.norm.statistics import SQUARES_BITS, U_COUNT, Running, pick
from lutern.model_ref.fixed import (
    MANTISSA_BITS,
    MANTISSA_MAX,
    MANTISSA_ONE,
    RECIPROCAL_TABLE,
    RSQRT_TABLE,
    SCALAR_EXPONENT_BITS,
)
from lutern.model_ref.norm import KEY_EXPONENT_BIAS

G_SQUARES_BITS = 48
TABLE_WORDS = [0] * 128 + [int(y) for y in RSQRT_TABLE] + [int(y) for y in RECIPROCAL_TABLE]
"""Root at ``m >> 9`` (128 to 511), reciprocal at ``512 + m[15:8]``."""
ROUND_FACTOR = 1 << 6
"""Half of the last place of R: ``127 y`` has 7 bits more."""
RECIPROCAL_EXPONENT = -33
ROOT_EXPONENT = -25


class NormScalar(wiring.Component):
    """Factor and scale of each operation and each stream from 0 to ``final_stream``, in order.

    Members: ``i_op``; ``largest`` of ``stream`` with valid and take, ``squares`` of ``stream``, as `NormStatistics`
    offers them; ``g_squares``, ``state_shift`` of ``stream``, sampled from an O_PROJ operation's taking
    the vector until its factor is given; ``o_factor``, ``o_scale`` (a FIFO of 4 operations).

    ``stream`` names a stream for at least one cycle before anything of it is sampled. The first operation of a stream
    has no eps term. The largest keys are read again for every operation.

    Numerics: ``model_ref.norm.quantise`` (the factor), ``scale_of``, ``eps_term``, ``model_ref.model.o_eps``; exponents
    in 12 bits.

    Latency: ``factor_latency`` from ``largest_valid`` to ``o_factor.valid``. A vector is taken
    ``1 + preparation[eps]`` cycles after its operation is accepted at the earliest.
    """

    factor_latency = 8
    preparation = {layouts.Eps.NONE: 0, layouts.Eps.O_PROJ: 12, layouts.Eps.DOWN_PROJ: 15}
    """Cycles from the acceptance of an operation on for what its eps term needs of the scale before."""

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_op": In(stream.Signature(QUANTISE_OP)),
                "final_stream": In(config.stream_bits),
                "stream": Out(config.stream_bits),
                "g_squares": In(G_SQUARES_BITS),
                "state_shift": In(signed(7)),
                "largest": In(U_COUNT * KEY_BITS),
                "largest_valid": In(1),
                "largest_take": Out(1),
                "squares": In(SQUARES_BITS),
                "o_factor": Out(stream.Signature(factor_payload(config))),
                "o_scale": Out(stream.Signature(layouts.SCALAR)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        tokens = self.config.streams
        m.submodules.fifo = fifo = SyncFIFO(width=layouts.shape_bits(layouts.SCALAR), depth=4 * tokens)
        m.submodules.table = table = Memory(shape=MANTISSA_BITS, depth=1024, init=TABLE_WORDS)
        read = table.read_port()
        m.d.comb += [
            self.o_scale.valid.eq(fifo.r_rdy),
            self.o_scale.payload.as_value().eq(fifo.r_data),
            fifo.r_en.eq(self.o_scale.ready),
        ]

        op = Signal(QUANTISE_OP, reset_less=True)
        largest = Signal(KEY_BITS, reset_less=True)  # of the operation's slot
        state_shift = Signal(signed(7), reset_less=True)
        t = scalar_signal("t")
        preparing = Signal()  # the reciprocal is that of the producer's scale
        zero = Signal(reset_less=True)  # the vector's ss
        root = Signal(MANTISSA_BITS, reset_less=True)
        root_exponent = Signal(signed(SCALAR_EXPONENT_BITS), reset_less=True)
        inverse = Signal(MANTISSA_BITS, reset_less=True)
        ending = self.stream == self.final_stream if tokens > 1 else Const(1, 1)
        scaled = Signal()  # the operation's scale of this stream is ready, in t
        result = Mux(zero | (largest == 0), 0, t.as_value())
        previous_scale = Running(m, "previous", layouts.shape_bits(layouts.SCALAR), tokens, self.stream)
        previous_scale.replace(scaled, result)
        previous = data.View(layouts.SCALAR, previous_scale.value)
        roots = Cat(root, root_exponent, zero)
        if tokens > 1:
            kept_roots = Running(m, "roots", len(roots), tokens, self.stream)
            kept_roots.replace(scaled, roots)

        # The multiplier, and what its product is used as.
        a, b = Signal(signed(18), reset_less=True), Signal(signed(18), reset_less=True)
        product = Signal(signed(36), reset_less=True)
        m.d.sync += product.eq(a * b)
        rounded, high = round_product(product[:34])
        guess = Signal(MANTISSA_BITS, reset_less=True)
        newton = Signal(MANTISSA_BITS)
        stepped = guess + product[25:].as_signed() + product[24]
        m.d.comb += newton.eq(Mux(stepped > MANTISSA_MAX, MANTISSA_MAX, stepped))
        sum_exponent = Signal(signed(SCALAR_EXPONENT_BITS), reset_less=True)
        largest_k = scalar_signal("largest_k")

        # The table. The address of the reciprocal is that of the state before it.
        operand = Signal(18, reset_less=True)
        chosen = pick(self.largest, op.u_index)[:MANTISSA_BITS]
        for_root, for_largest = Signal(), Signal()
        reciprocal_of = Mux(for_largest, chosen, previous.mantissa)
        m.d.comb += read.addr.eq(Mux(for_root, operand[9:18], Cat(reciprocal_of[8:16], Const(2, 2))))

        # Leading bits are those of ss, which is there when the factor is; of an O_PROJ operation those of the squares
        # of g until the factor is given, however long that takes, and of ss in the state ADD.
        m.submodules.leading = leading = LeadingBits(SQUARES_BITS)
        m.submodules.adder = adder = FloatAdder()
        counting_g = Signal()
        m.d.comb += [
            leading.number.eq(Mux(counting_g, self.g_squares, self.squares)),
            adder.a.eq(leading.value),
            adder.b.eq(t),
        ]

        def multiply(
            state: str,
            left: Value,
            right: Value,
            exponent: Value,
            then: str,
            *,
            unless: Value | None = None,
            otherwise: str = "",
        ) -> None:
            """Three states: ``t = left * right``, short floats whose exponents add to ``exponent``."""
            with m.State(state):
                m.d.sync += [a.eq(left), b.eq(right), sum_exponent.eq(exponent)]
                m.next = f"{state} PRODUCT"
            with m.State(f"{state} PRODUCT"):
                m.next = f"{state} ROUND"
            with m.State(f"{state} ROUND"):
                m.d.sync += [t.mantissa.eq(rounded), t.exponent.eq(sum_exponent + 16 + high)]
                m.next = then
                if unless is not None:
                    with m.If(unless):
                        m.next = otherwise

        def wait(state: str, then: str) -> None:
            """The product of what the state before has loaded."""
            with m.State(state):
                m.next = then

        giving = Signal()
        with m.If(giving):
            m.d.sync += self.o_factor.valid.eq(1)
        with m.Elif(self.o_factor.ready):
            m.d.sync += self.o_factor.valid.eq(0)

        def begin(entering: data.View) -> None:
            """The first state of an operation on a stream."""
            m.d.sync += [preparing.eq(1), operand.eq(previous.mantissa | MANTISSA_ONE)]
            m.next = "VECTOR"
            with m.If(entering.eps.any()):
                m.next = "RECIPROCAL"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i_op.ready.eq(1)
                m.d.sync += op.eq(self.i_op.payload)
                with m.If(self.i_op.valid):
                    begin(self.i_op.payload)
            if tokens > 1:
                with m.State("NEXT STREAM"):
                    begin(op)

            # e1 / producer_scale^2, before the vector is complete; times e2 where nothing is added before that
            multiply("EPS SQUARE", inverse, inverse, (RECIPROCAL_EXPONENT - previous.exponent) << 1, "EPS E1")
            multiply(
                "EPS E1",
                t.mantissa,
                op.e1.mantissa,
                t.exponent + op.e1.exponent,
                "EPS E2",
                unless=op.eps == layouts.Eps.O_PROJ,
                otherwise="VECTOR",
            )
            multiply("EPS E2", t.mantissa, op.e2.mantissa, t.exponent + op.e2.exponent, "VECTOR")

            with m.State("VECTOR"):
                m.d.comb += [for_largest.eq(1), self.largest_take.eq(self.largest_valid & op.new_vector & ending)]
                m.d.sync += [
                    preparing.eq(0),
                    state_shift.eq(self.state_shift),
                    operand.eq(chosen | MANTISSA_ONE),
                    largest.eq(pick(self.largest, op.u_index)),
                ]
                if tokens > 1:
                    m.d.sync += roots.eq(kept_roots.value)
                with m.If(self.largest_valid | ~op.new_vector):
                    m.next = "RECIPROCAL"

            # fixed.reciprocal; largest * K behind it
            with m.State("RECIPROCAL"):
                m.d.sync += guess.eq(read.data)
                m.next = "RECIPROCAL TABLE"
            with m.State("RECIPROCAL TABLE"):
                m.d.sync += [a.eq(guess), b.eq(operand)]
                m.next = "RECIPROCAL PRODUCT"
            with m.State("RECIPROCAL PRODUCT"):
                with m.If(preparing):
                    m.d.sync += counting_g.eq(op.eps == layouts.Eps.O_PROJ)
                m.next = "RECIPROCAL RESIDUAL"
            with m.State("RECIPROCAL RESIDUAL"):
                m.d.sync += [a.eq(guess), b.eq(((1 << 33) - product)[8:26])]
                m.next = "RECIPROCAL STEP"
            with m.State("RECIPROCAL STEP"):
                m.d.sync += [a.eq(largest[:MANTISSA_BITS]), b.eq(op.k.mantissa)]
                m.d.sync += sum_exponent.eq(largest[MANTISSA_BITS:] - KEY_EXPONENT_BIAS + op.k.exponent)
                m.next = "RECIPROCAL RESULT"
            with m.State("RECIPROCAL RESULT"):
                m.d.sync += inverse.eq(newton)
                m.next = "FACTOR"
                with m.If(preparing):
                    m.next = "EPS SQUARE"

            with m.State("FACTOR"):
                m.d.sync += [largest_k.mantissa.eq(rounded), largest_k.exponent.eq(sum_exponent + 16 + high)]
                # 127 y as 128 y - y: no multiplier; at most 127/128 of 2^17, so that nothing saturates
                factor = Cat(Const(0, 7), inverse) - inverse + ROUND_FACTOR
                payload = self.o_factor.payload
                with m.If(~self.o_factor.valid | self.o_factor.ready):
                    m.d.comb += giving.eq(1)
                    m.d.sync += [
                        counting_g.eq(0),
                        payload.factor.eq(factor[7:]),
                        payload.exponent.eq(largest[MANTISSA_BITS:]),
                        payload.u_index.eq(op.u_index),
                        payload.stream.eq(self.stream),
                        payload.beats.eq(op.beats),
                    ]
                    m.next = "SCALE"
                    with m.If(op.new_vector):
                        m.next = "ROOT"
                        with m.If(op.eps == layouts.Eps.O_PROJ):
                            m.next = "EXTRA"
                        with m.If(op.eps == layouts.Eps.DOWN_PROJ):
                            m.next = "ADD"

            # squares of g + e1 / .. were added meanwhile: times e2, and that plus ss
            exponent = adder.total.exponent + op.e2.exponent - (state_shift << 1)
            multiply("EXTRA", adder.total.mantissa, op.e2.mantissa, exponent, "SQUARES")
            wait("SQUARES", "ADD")
            adding = ["ADD", *(f"ADD {place}" for place in range(1, FloatAdder.latency))]
            for state, then in zip(adding, [*adding[1:], "ROOT"], strict=True):
                wait(state, then)

            # fixed.rsqrt_float
            with m.State("ROOT"):
                of = Mux(op.eps.any(), adder.total.as_value(), leading.value.as_value())
                ss = data.View(layouts.SCALAR, of)
                mantissa = ss.mantissa | MANTISSA_ONE
                m.d.sync += [
                    operand.eq(Mux(ss.exponent[0], mantissa << 1, mantissa)),
                    root_exponent.eq(ROOT_EXPONENT - (ss.exponent >> 1)),
                    zero.eq(ss.mantissa == 0),
                ]
                m.next = "ROOT ADDRESS"
            with m.State("ROOT ADDRESS"):
                m.d.comb += for_root.eq(1)
                m.next = "ROOT GUESS"
            with m.State("ROOT GUESS"):
                m.d.sync += guess.eq(read.data)
                m.next = "ROOT TABLE"
            double = Signal(35, reset_less=True)
            with m.State("ROOT TABLE"):
                m.d.sync += [a.eq(guess), b.eq(guess)]
                m.next = "ROOT PRODUCT"
            wait("ROOT PRODUCT", "ROOT SQUARE")
            with m.State("ROOT SQUARE"):
                m.d.sync += [a.eq(product[MANTISSA_BITS:]), b.eq(operand[1:])]
                m.next = "ROOT HALF"
            wait("ROOT HALF", "ROOT DOUBLE")
            with m.State("ROOT DOUBLE"):
                m.d.sync += double.eq((product << 1) + Mux(operand[0], a, 0))
                m.next = "ROOT RESIDUAL"
            with m.State("ROOT RESIDUAL"):
                m.d.sync += [a.eq(guess), b.eq(((1 << 33) - double)[9:27])]
                m.next = "ROOT STEP"
            wait("ROOT STEP", "ROOT RESULT")
            with m.State("ROOT RESULT"):
                m.d.sync += root.eq(newton)
                m.next = "SCALE"

            # y * (largest * K)
            multiply("SCALE", largest_k.mantissa, root, largest_k.exponent + root_exponent, "PUSH")
            with m.State("PUSH"):
                m.d.comb += [fifo.w_en.eq(1), fifo.w_data.eq(result)]
                with m.If(fifo.w_rdy):
                    m.d.comb += scaled.eq(1)
                    m.next = "IDLE"
                    if tokens > 1:
                        m.d.sync += self.stream.eq(Mux(ending, 0, self.stream + 1))
                        with m.If(~ending):
                            m.next = "NEXT STREAM"

        return m
