"""The scalar unit computes the scalars of RMSNorm with one multiplier, for one operation and stream after another.

The scalars are R = 127 / largest, y = 1 / sqrt(ss + eps), and the scale of the codes. Here largest is the largest |u|
of a vector, and ss is the sum of squares of this vector.

    i_op ─► 1 / producer_scale^2 * e1 [* e2] ─► largest ─► TABLE, RECIPROCAL ─► R ─► factor   critical: 7 cycles
       each stream in turn                          │  │           └─► largest * K
                                                    │  └─► o_pass, 5 cycles before R
                     squares of g ─► LeadingBits ─► + ..  * e2 ─┐
                               ss ─► LeadingBits ───────────────┴─► + ─► ROOT ─► y * (largest * K) ─► o_scale

K, e1 and e2 are constants of the operation (``model_ref.norm.ScaleConstants``), and producer_scale is the scale of the
stream's previous operation. Only operations with an eps term use the upper row and the additions. O_PROJ adds the
squares of g, then multiplies by e2. DOWN_PROJ multiplies by e2 directly. Only an operation with a new vector uses ss
and ROOT. `LeadingBits` and `FloatAdder` run in every cycle. The sum of the eps term and the squares of g is ready
together with R, and ss is ready three cycles later.

R is 127 * inverse, and the multiplier gives inverse as guess + step. So 127 * guess is computed while the step is
computed, and R is ready in the same cycle as inverse.

The tables of the Newton iterations for reciprocal and root share a block RAM with an output register. The operands and
the product of the multiplier are registered, so a product takes three states. The first product of a reciprocal takes
only two states, because the guess goes to the multiplier directly from the register of the guess.

Cost: 1 multiplier and 1 block RAM. With several streams, LUT RAM stores the root and the last scale of each stream.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import KEY_BITS, QUANTISE_OP, pass_payload
from lutern.hw.norm.scalar_path import ScalarPath
from lutern.hw.norm.short_float import FloatAdder
from lutern.hw.norm.statistics import SQUARES_BITS, U_COUNT, pick
from lutern.model_ref.fixed import MANTISSA_BITS, MANTISSA_ONE
from lutern.model_ref.norm import KEY_EXPONENT_BIAS

G_SQUARES_BITS = 48
RECIPROCAL_EXPONENT = -33
ROOT_EXPONENT = -25

PATH = {
    "IDLE": 1,
    "NEXT STREAM": 1,
    "EPS SQUARE": 3,
    "EPS E1": 3,
    "EPS E2": 3,
    "VECTOR": 1,
    "TABLE": 1,
    "RECIPROCAL": 5,
    "LARGEST K": 1,
    "SUM": 2,
    "EXTRA": 3,
    "ADD": FloatAdder.latency,
    "ROOT": 11,
    "SCALE": 3,
    "PUSH": 1,
}
"""Number of cycles of each step of the state machine. Each cycle of a step is a state, such as ``RECIPROCAL`` and
``RECIPROCAL PRODUCT``."""


def cycles_of(*steps: str) -> int:
    """Return the sum of the cycles of some steps of ``PATH``."""
    return sum(PATH[step] for step in steps)


class NormScalar(wiring.Component):
    """Computes factor and scale of each operation, for the streams from 0 to ``final_stream`` in order.

    Parameters
    ----------
    config : HwConfig
        ``streams`` T.

    Members
    -------
    i_op : stream of ``layouts.QUANTISE_OP``, input
        The operations. The first operation of a stream has no eps term.
    final_stream : ``stream_bits``, input
        Number of the last active stream.
    stream : ``stream_bits``, output
        The stream that is computed. ``stream`` changes at least one cycle before an input of the new stream is sampled.
    g_squares : 48 bits, input
        Sum of squares of g of ``stream``. ``g_squares`` is sampled from the cycle in which an O_PROJ operation takes
        its vector until the factor of this operation is computed.
    state_shift : 7 bits signed, input
        The right shift of the state of ``stream``, sampled in the cycle in which an O_PROJ operation takes its vector.
    largest : 3 keys, input
        The largest key of each u of ``stream``, from `NormStatistics`. The keys are read again for every operation.
    largest_valid : 1 bit, input
        The statistics of the next vectors are complete.
    largest_take : 1 bit, output
        The vectors are taken, so their statistics may be overwritten.
    squares : 82 bits, input
        Sum of squares ss of ``stream``.
    o_pass : stream of ``layouts.pass_payload``, output
        A code pass that may begin.
    factor : 17 bits, output
        R of the code pass at ``o_pass``. R is valid from 5 cycles after ``o_pass.valid`` until at least 5 cycles after
        ``o_pass`` is taken.
    o_scale : stream of ``layouts.SCALAR``, output
        The scales, from a FIFO that holds the scales of 4 operations.

    Numerics
    --------
    Exact, with exponents of 12 bits. Equal to ``model_ref.norm.quantise`` (the factor), ``scale_of`` and ``eps_term``.

    Latency
    -------
    ``pass_latency`` = 2 cycles from ``largest_valid`` to ``o_pass.valid``, ``factor_latency`` = 7 cycles to ``factor``.
    A vector is taken at the earliest ``1 + preparation[eps]`` cycles after its operation is accepted.

    Reference
    ---------
    ``model_ref.norm``; ``model_ref.model.o_eps``; ``model_ref.fixed.reciprocal`` and ``rsqrt_float``.
    """

    pass_latency = cycles_of("VECTOR", "TABLE")
    factor_latency = cycles_of("VECTOR", "TABLE", "RECIPROCAL")
    preparation = {
        layouts.Eps.NONE: 0,
        layouts.Eps.O_PROJ: cycles_of("RECIPROCAL", "EPS SQUARE", "EPS E1"),
        layouts.Eps.DOWN_PROJ: cycles_of("RECIPROCAL", "EPS SQUARE", "EPS E1", "EPS E2"),
    }
    """Number of cycles from the acceptance of an operation until the part of its eps term that depends on the previous
    scale is ready."""
    adding = {
        layouts.Eps.NONE: cycles_of("LARGEST K", "SUM"),
        layouts.Eps.O_PROJ: cycles_of("LARGEST K", "EXTRA", "ADD"),
        layouts.Eps.DOWN_PROJ: cycles_of("LARGEST K", "SUM", "ADD"),
    }
    """Number of cycles between the factor and the root. In these cycles ss becomes ready, and the eps term is added to
    ss."""

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
                "o_pass": Out(stream.Signature(pass_payload(config))),
                "factor": Out(MANTISSA_BITS),
                "o_scale": Out(stream.Signature(layouts.SCALAR)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        several = self.config.streams > 1
        m.submodules.fifo = fifo = SyncFIFO(width=layouts.shape_bits(layouts.SCALAR), depth=4 * self.config.streams)
        m.d.comb += [
            self.o_scale.valid.eq(fifo.r_rdy),
            self.o_scale.payload.as_value().eq(fifo.r_data),
            fifo.r_en.eq(self.o_scale.ready),
        ]
        path = ScalarPath(m, self.config, self)
        giving = Signal()
        with m.If(giving):
            m.d.sync += self.o_pass.valid.eq(1)
        with m.Elif(self.o_pass.ready):
            m.d.sync += self.o_pass.valid.eq(0)

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i_op.ready.eq(1)
                m.d.sync += path.op.eq(self.i_op.payload)
                with m.If(self.i_op.valid):
                    self._begin(m, path, self.i_op.payload)
            if several:
                with m.State("NEXT STREAM"):
                    self._begin(m, path, path.op)
            self._eps_states(m, path)
            self._vector_state(m, path)
            self._table_state(m, path, giving)
            self._reciprocal_states(m, path)
            self._largest_k_state(m, path)
            self._sum_states(m, path)
            self._root_states(m, path)
            # y * (largest * K)
            exponent = path.largest_k.exponent + path.root_exponent
            self._multiply(m, path, "SCALE", path.largest_k.mantissa, path.root, exponent, "PUSH")
            self._push_state(m, path, fifo)
        made = Counter(next(name for name in PATH if f"{state} ".startswith(f"{name} ")) for state in fsm.encoding)
        assert all(PATH[name] == count for name, count in made.items()), f"the states are {made}, PATH says {PATH}"
        return m

    @staticmethod
    def _multiply(
        m: Module,
        path: ScalarPath,
        state: str,
        left: Value,
        right: Value,
        exponent: Value,
        then: str,
        *,
        unless: Value | None = None,
        otherwise: str = "",
    ) -> None:
        """Add three states that compute ``t = left * right``. The operands are short floats, and ``exponent`` is the
        sum of their exponents."""
        with m.State(state):
            m.d.sync += [path.a.eq(left), path.b.eq(right), path.sum_exponent.eq(exponent)]
            m.next = f"{state} PRODUCT"
        with m.State(f"{state} PRODUCT"):
            m.next = f"{state} ROUND"
        with m.State(f"{state} ROUND"):
            m.d.sync += [path.t.mantissa.eq(path.rounded), path.t.exponent.eq(path.rounded_exponent)]
            m.next = then
            if unless is not None:
                with m.If(unless):
                    m.next = otherwise

    @staticmethod
    def _wait(m: Module, state: str, then: str) -> None:
        """Add a state that only waits, for a product or sum whose operands an earlier state has loaded."""
        with m.State(state):
            m.next = then

    @staticmethod
    def _begin(m: Module, path: ScalarPath, entering: Any) -> None:
        """Add the first state of an operation on a stream."""
        m.d.sync += [path.preparing.eq(1), path.b.eq(path.previous.mantissa | MANTISSA_ONE)]
        m.next = "VECTOR"
        with m.If(entering.eps.any()):
            m.next = "RECIPROCAL"

    def _eps_states(self, m: Module, path: ScalarPath) -> None:
        """Compute e1 / producer_scale^2 before the vector is complete. DOWN_PROJ also multiplies by e2 here, because no
        other term is added first."""
        op, t, inverse = path.op, path.t, path.inverse
        exponent = (RECIPROCAL_EXPONENT - path.previous.exponent) << 1
        self._multiply(m, path, "EPS SQUARE", inverse, inverse, exponent, "EPS E1")
        self._multiply(
            m,
            path,
            "EPS E1",
            t.mantissa,
            op.e1.mantissa,
            t.exponent + op.e1.exponent,
            "EPS E2",
            unless=op.eps == layouts.Eps.O_PROJ,
            otherwise="VECTOR",
        )
        exponent = t.exponent + op.e2.exponent
        self._multiply(m, path, "EPS E2", t.mantissa, op.e2.mantissa, exponent, "VECTOR")

    def _vector_state(self, m: Module, path: ScalarPath) -> None:
        """Wait for the largest |u| of a new vector."""
        op = path.op
        with m.State("VECTOR"):
            m.d.comb += self.largest_take.eq(self.largest_valid & op.new_vector & path.ending)
            m.d.sync += [path.preparing.eq(0), path.state_shift.eq(self.state_shift)]
            if self.config.streams > 1:
                m.d.sync += path.roots.eq(path.kept_roots.value)
            with m.If(self.largest_valid | ~op.new_vector):
                m.next = "TABLE"

    def _table_state(self, m: Module, path: ScalarPath, giving: Signal) -> None:
        """Read the table at the largest |u|, and offer the code pass to the quantiser.

        The code pass is offered after the previous code pass has left. R follows after the code pass.
        """
        op, payload = path.op, self.o_pass.payload
        with m.State("TABLE"):
            chosen = pick(self.largest, op.u_index)
            m.d.comb += [path.for_largest.eq(1), giving.eq(~self.o_pass.valid | self.o_pass.ready)]
            m.d.sync += [path.largest.eq(chosen), path.b.eq(chosen[:MANTISSA_BITS] | MANTISSA_ONE)]
            with m.If(giving):
                m.d.sync += [
                    payload.exponent.eq(chosen[MANTISSA_BITS:]),
                    payload.u_index.eq(op.u_index),
                    payload.stream.eq(self.stream),
                    payload.beats.eq(op.beats),
                ]
                m.next = "RECIPROCAL"

    def _reciprocal_states(self, m: Module, path: ScalarPath) -> None:
        """Compute ``fixed.reciprocal`` and R, and begin the product of largest and K after it.

        The previous code pass does not need its R any more, because the last element of this code pass was read at
        least 6 cycles ago.
        """
        op, largest, a, b, guess = path.op, path.largest, path.a, path.b, path.guess
        with m.State("RECIPROCAL"):
            m.d.sync += [guess.eq(path.read.data), path.of_guess.eq(1)]
            m.next = "RECIPROCAL PRODUCT"
        with m.State("RECIPROCAL PRODUCT"):
            with m.If(path.preparing):
                m.d.sync += path.counting_g.eq(op.eps == layouts.Eps.O_PROJ)
            m.d.sync += path.of_guess.eq(0)
            m.next = "RECIPROCAL RESIDUAL"
        with m.State("RECIPROCAL RESIDUAL"):
            m.d.sync += [a.eq(guess), b.eq(((1 << 33) - path.product)[8:26])]
            m.next = "RECIPROCAL STEP"
        with m.State("RECIPROCAL STEP"):
            m.d.sync += [a.eq(largest[:MANTISSA_BITS]), b.eq(op.k.mantissa)]
            m.d.sync += path.sum_exponent.eq(largest[MANTISSA_BITS:] - KEY_EXPONENT_BIAS + op.k.exponent)
            m.next = "RECIPROCAL RESULT"
        with m.State("RECIPROCAL RESULT"):
            m.d.sync += path.inverse.eq(path.newton)
            m.next = "EPS SQUARE"
            with m.If(~path.preparing):
                m.d.sync += [path.counting_g.eq(0), self.factor.eq(path.factor)]
                m.next = "LARGEST K"

    def _largest_k_state(self, m: Module, path: ScalarPath) -> None:
        """Store the product of largest and K."""
        op = path.op
        with m.State("LARGEST K"):
            m.d.sync += [path.largest_k.mantissa.eq(path.rounded), path.largest_k.exponent.eq(path.rounded_exponent)]
            m.next = "SCALE"
            with m.If(op.new_vector):
                m.next = "SUM"
                with m.If(op.eps == layouts.Eps.O_PROJ):
                    m.next = "EXTRA"

    def _sum_states(self, m: Module, path: ScalarPath) -> None:
        """Wait for ss. For O_PROJ, add the squares of g to the eps term and multiply the sum by e2. With an eps term,
        add the term and ss."""
        op, total = path.op, path.adder.total
        self._wait(m, "SUM", "SUM READY")
        with m.State("SUM READY"):
            m.next = "ROOT"
            with m.If(op.eps.any()):
                m.next = "ADD"
        exponent = total.exponent + op.e2.exponent - (path.state_shift << 1)
        self._multiply(m, path, "EXTRA", total.mantissa, op.e2.mantissa, exponent, "ADD")
        adding = ["ADD", *(f"ADD {place}" for place in range(1, PATH["ADD"]))]
        for state, then in zip(adding, [*adding[1:], "ROOT"], strict=True):
            self._wait(m, state, then)

    def _root_states(self, m: Module, path: ScalarPath) -> None:
        """Compute ``fixed.rsqrt_float`` of ss, or of its sum with the eps term."""
        a, b, guess, operand, product = path.a, path.b, path.guess, path.operand, path.product
        with m.State("ROOT"):
            of = Mux(path.op.eps.any(), path.adder.total.as_value(), path.leading.value.as_value())
            ss = data.View(layouts.SCALAR, of)
            mantissa = ss.mantissa | MANTISSA_ONE
            m.d.sync += [
                operand.eq(Mux(ss.exponent[0], mantissa << 1, mantissa)),
                path.root_exponent.eq(ROOT_EXPONENT - (ss.exponent >> 1)),
                path.zero.eq(ss.mantissa == 0),
            ]
            m.next = "ROOT ADDRESS"
        with m.State("ROOT ADDRESS"):
            m.d.comb += path.for_root.eq(1)
            m.next = "ROOT GUESS"
        with m.State("ROOT GUESS"):
            m.d.sync += guess.eq(path.read.data)
            m.next = "ROOT TABLE"
        double = Signal(35, reset_less=True)
        with m.State("ROOT TABLE"):
            m.d.sync += [a.eq(guess), b.eq(guess)]
            m.next = "ROOT PRODUCT"
        self._wait(m, "ROOT PRODUCT", "ROOT SQUARE")
        with m.State("ROOT SQUARE"):
            m.d.sync += [a.eq(product[MANTISSA_BITS:]), b.eq(operand[1:])]
            m.next = "ROOT HALF"
        self._wait(m, "ROOT HALF", "ROOT DOUBLE")
        with m.State("ROOT DOUBLE"):
            m.d.sync += double.eq((product << 1) + Mux(operand[0], a, 0))
            m.next = "ROOT RESIDUAL"
        with m.State("ROOT RESIDUAL"):
            m.d.sync += [a.eq(guess), b.eq(((1 << 33) - double)[9:27])]
            m.next = "ROOT STEP"
        self._wait(m, "ROOT STEP", "ROOT RESULT")
        with m.State("ROOT RESULT"):
            m.d.sync += path.root.eq(path.newton)
            m.next = "SCALE"

    def _push_state(self, m: Module, path: ScalarPath, fifo: SyncFIFO) -> None:
        """Write the scale to the FIFO, and begin the next stream."""
        with m.State("PUSH"):
            m.d.comb += [fifo.w_en.eq(1), fifo.w_data.eq(path.result)]
            with m.If(fifo.w_rdy):
                m.d.comb += path.scaled.eq(1)
                m.next = "IDLE"
                if self.config.streams > 1:
                    m.d.sync += self.stream.eq(Mux(path.ending, 0, self.stream + 1))
                    with m.If(~path.ending):
                        m.next = "NEXT STREAM"
