"""The scalars of RMSNorm, one operation and stream at a time on one multiplier: R = 127 / largest, y = 1 /
sqrt(ss + eps), scale.

    i_op ─► [1 / producer_scale^2 * e1] ─► largest ─► RECIPROCAL ─► R ─► o_factor          critical: 9 cycles
       each stream in turn                              │
              LeadingBits(squares of g, ss) ─► [extra + .. ] ─► [* e2 + ss] ─► ROOT ─► largest * y * K ─► o_scale

[..] only with an eps term; ss and ROOT only with a new vector. Tables of both Newton iterations share a block RAM; the
multiplier's operands and product are registered, so that a product takes three states. 1 multiplier, 1 block RAM, and
with several streams a LUT RAM for the root and the last scale of each.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import QUANTISE_OP
from lutern.hw.norm_statistics import KEY_BITS, SLOTS, SQUARES_BITS, Running, pick
from lutern.hw.short_float import LeadingBits, add_states, round_product, scalar_signal
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


def factor_payload(config: HwConfig) -> data.StructLayout:
    """A code pass: R, the biased exponent of the largest, which u of which stream, how many beats."""
    return data.StructLayout({"factor": MANTISSA_BITS, "exponent": KEY_BITS - MANTISSA_BITS, "slot": 2, "beats": 16,
                              "stream": config.stream_bits})


class NormScalar(wiring.Component):
    """Factor and scale of each operation and each stream from 0 to ``final_stream``, in order.

    Members: ``i_op``; ``largest``, ``squares`` of ``stream`` with valid and take as `NormStatistics` offers them;
    ``g_squares``, ``state_shift`` of ``stream``, sampled with the vector of an O_PROJ operation; ``o_factor``,
    ``o_scale`` (a FIFO of 4 operations).

    ``stream`` names a stream for at least one cycle before anything of it is sampled. The first operation of a stream
    has no eps term. The largest keys are read again for every operation.

    Numerics: ``model_ref.norm.quantise`` (the factor), ``scale_of``, ``eps_term``, ``model_ref.model.o_eps``; exponents
    in 12 bits.

    Latency: ``factor_latency`` from ``largest_valid`` to ``o_factor.valid``. A vector is taken 1 cycle
    after its operation is accepted at the earliest, 13 with an eps term.
    """

    factor_latency = 9

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_op": In(stream.Signature(QUANTISE_OP)),
                "final_stream": In(config.stream_bits),
                "stream": Out(config.stream_bits),
                "g_squares": In(G_SQUARES_BITS),
                "state_shift": In(signed(7)),
                "largest": In(SLOTS * KEY_BITS),
                "largest_valid": In(1),
                "largest_take": Out(1),
                "squares": In(SQUARES_BITS),
                "squares_valid": In(1),
                "squares_take": Out(1),
                "o_factor": Out(stream.Signature(factor_payload(config))),
                "o_scale": Out(stream.Signature(layouts.SCALAR)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        tokens = self.config.tokens
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
        newton = Signal(MANTISSA_BITS)
        stepped = a + product[25:].as_signed() + product[24]
        m.d.comb += newton.eq(Mux(stepped > MANTISSA_MAX, MANTISSA_MAX, stepped))

        operand = Signal(18, reset_less=True)
        for_root = Signal()
        m.d.comb += read.addr.eq(Mux(for_root, operand[9:18], Cat(operand[8:16], Const(2, 2))))

        augend = scalar_signal("augend")
        beginning = Signal()  # the vector's largest is there: its stream's squares follow
        squares_mantissa, squares_exponent, extra_ready, squares_ready = self._leading_bits(
            m, op, augend, beginning, ending
        )
        adding_squares = Signal(reset_less=True)
        sum_exponent = Signal(signed(SCALAR_EXPONENT_BITS), reset_less=True)

        def multiply(state: str, left: Value, right: Value, exponent: Value, then: str) -> None:
            """Three states: ``t = left * right``, short floats whose exponents add to ``exponent``."""
            with m.State(state):
                m.d.sync += [a.eq(left), b.eq(right), sum_exponent.eq(exponent)]
                m.next = f"{state} PRODUCT"
            with m.State(f"{state} PRODUCT"):
                m.next = f"{state} ROUND"
            with m.State(f"{state} ROUND"):
                m.d.sync += [t.mantissa.eq(rounded), t.exponent.eq(sum_exponent + 16 + high)]
                m.next = then

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
            m.d.sync += [preparing.eq(entering.eps.any()), operand.eq(previous.mantissa | MANTISSA_ONE)]
            m.next = "LARGEST"
            with m.If(entering.new_vector):
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

            # e1 / producer_scale^2, before the vector is complete
            multiply("EPS SQUARE", inverse, inverse, (RECIPROCAL_EXPONENT - previous.exponent) << 1, "EPS E1")
            multiply("EPS E1", t.mantissa, op.e1.mantissa, t.exponent + op.e1.exponent, "VECTOR")

            with m.State("VECTOR"):
                m.d.comb += [beginning.eq(self.largest_valid), self.largest_take.eq(beginning & ending)]
                m.d.sync += [state_shift.eq(self.state_shift), preparing.eq(0)]
                with m.If(beginning):
                    m.next = "LARGEST"
            with m.State("LARGEST"):
                chosen = pick(self.largest, op.slot)
                m.d.sync += [largest.eq(chosen), operand.eq(chosen[:MANTISSA_BITS] | MANTISSA_ONE)]
                if tokens > 1:
                    m.d.sync += roots.eq(kept_roots.value)
                m.next = "RECIPROCAL"

            # fixed.reciprocal
            wait("RECIPROCAL", "RECIPROCAL TABLE")
            with m.State("RECIPROCAL TABLE"):
                m.d.sync += [a.eq(operand), b.eq(read.data)]
                m.next = "RECIPROCAL PRODUCT"
            wait("RECIPROCAL PRODUCT", "RECIPROCAL RESIDUAL")
            with m.State("RECIPROCAL RESIDUAL"):
                m.d.sync += [a.eq(b), b.eq(((1 << 33) - product)[8:26])]
                m.next = "RECIPROCAL STEP"
            wait("RECIPROCAL STEP", "RECIPROCAL RESULT")
            with m.State("RECIPROCAL RESULT"):
                m.d.sync += inverse.eq(newton)
                m.next = "FACTOR"
                with m.If(preparing):
                    m.next = "EPS SQUARE"

            with m.State("FACTOR"):
                # 127 y as 128 y - y: no multiplier; at most 127/128 of 2^17, so that nothing saturates
                factor = Cat(Const(0, 7), inverse) - inverse + ROUND_FACTOR
                payload = self.o_factor.payload
                with m.If(~self.o_factor.valid | self.o_factor.ready):
                    m.d.comb += giving.eq(1)
                    m.d.sync += [
                        payload.factor.eq(factor[7:]),
                        payload.exponent.eq(largest[MANTISSA_BITS:]),
                        payload.slot.eq(op.slot),
                        payload.stream.eq(self.stream),
                        payload.beats.eq(op.beats),
                    ]
                    m.next = "SCALE"
                    with m.If(op.new_vector):
                        m.next = "SQUARES"
                        with m.If(op.eps.any()):
                            m.next = "EXTRA"

            # fixed.add_float of augend and t, twice: extra + e1 / .., then ss + e2 * (..)
            with m.State("EXTRA"):
                m.d.sync += adding_squares.eq(0)
                with m.If(extra_ready):
                    m.next = "ADD"
            add_states(m, augend, t, adding_squares)
            exponent = t.exponent + op.e2.exponent - Mux(op.eps == layouts.Eps.O_PROJ, state_shift << 1, 0)
            multiply("EPS E2", t.mantissa, op.e2.mantissa, exponent, "SQUARES")
            with m.State("SQUARES"):
                m.d.sync += adding_squares.eq(1)
                with m.If(squares_ready):
                    m.next = "ROOT"
                    with m.If(op.eps.any()):
                        m.d.sync += [augend.mantissa.eq(squares_mantissa), augend.exponent.eq(squares_exponent)]
                        m.next = "ADD"
                    with m.Else():
                        m.d.sync += [t.mantissa.eq(squares_mantissa), t.exponent.eq(squares_exponent)]

            # fixed.rsqrt_float
            with m.State("ROOT"):
                mantissa = t.mantissa | MANTISSA_ONE
                m.d.sync += [
                    operand.eq(Mux(t.exponent[0], mantissa << 1, mantissa)),
                    root_exponent.eq(ROOT_EXPONENT - (t.exponent >> 1)),
                    zero.eq(t.mantissa == 0),
                ]
                m.next = "ROOT ADDRESS"
            with m.State("ROOT ADDRESS"):
                m.d.comb += for_root.eq(1)
                m.next = "ROOT TABLE"
            guess = Signal(MANTISSA_BITS, reset_less=True)
            double = Signal(35, reset_less=True)
            with m.State("ROOT TABLE"):
                m.d.sync += [guess.eq(read.data), a.eq(read.data), b.eq(read.data)]
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

            # largest * y * K
            largest_exponent = largest[MANTISSA_BITS:] - KEY_EXPONENT_BIAS
            multiply("SCALE", largest[:MANTISSA_BITS], root, largest_exponent + root_exponent, "SCALE K")
            multiply("SCALE K", t.mantissa, op.k.mantissa, t.exponent + op.k.exponent, "PUSH")
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

    def _leading_bits(
        self, m: Module, op: data.View, augend: data.View, beginning: Value, ending: Value
    ) -> tuple[Value, Value, Value, Value]:
        """Normalises first the squares of g into ``augend`` (O_PROJ; else that is 0), then those of the vector.

        Returns ss as mantissa and exponent, "augend is extra" and "ss is ready"; both fall when a vector begins.
        """
        m.submodules.leading = leading = LeadingBits(SQUARES_BITS)
        extra_ready = Signal()
        spare = SQUARES_BITS - G_SQUARES_BITS
        with m.FSM() as fsm:
            with m.State("READY"):
                m.d.comb += leading.number.eq(self.g_squares << spare)
                with m.If(beginning):
                    m.d.comb += leading.load.eq(1)
                    m.d.sync += [augend.mantissa.eq(0), extra_ready.eq(1)]
                    m.next = "SQUARES"
                    with m.If(op.eps == layouts.Eps.O_PROJ):
                        m.d.sync += extra_ready.eq(0)
                        m.next = "EXTRA"
            with m.State("EXTRA"):
                exponent = G_SQUARES_BITS - MANTISSA_BITS - leading.zeros
                with m.If(leading.done):
                    m.d.sync += [augend.mantissa.eq(leading.mantissa), augend.exponent.eq(exponent), extra_ready.eq(1)]
                    m.next = "SQUARES"
            with m.State("SQUARES"):
                m.d.comb += [leading.number.eq(self.squares), self.squares_take.eq(self.squares_valid & ending)]
                with m.If(self.squares_valid):
                    m.d.comb += leading.load.eq(1)
                    m.next = "READY"
        exponent = SQUARES_BITS - MANTISSA_BITS - leading.zeros
        return leading.mantissa, exponent, extra_ready, fsm.ongoing("READY") & leading.done
