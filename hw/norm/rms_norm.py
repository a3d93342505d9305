"""RMSNorm and the int8 codes of a BitLinear. The results are equal to the results of ``model_ref.norm``, bit for bit.

    i_x, P per cycle ─► NormStatistics ─┬─ u ─────────────────────────► Quantiser ─► o_codes, Q per cycle
                                        └─ largest, ss ─► NormScalar ─ pass, R ─┘
    i_op ─────────────────────────────────────────────────────┴─────────────────────► o_scale

u is a vector times its gains, largest is the largest |u|, ss is the sum of squares, and R is the factor 127 / largest.
Each operation has one code pass and one value of o_scale for each stream.

Cost in time: each element takes 1/P cycle when it arrives and 1/Q cycle when its code is computed. An operation takes 8
cycles from the largest |u| of its vector to its first codes (``NormScalar.pass_latency`` + ``Quantiser.latency``). The
next operation on the same vector overlaps with the codes of the previous operation. No cycle is lost if these codes
take at least `first_interval` cycles.

Streams share all hardware. The scalars of the next code pass are computed during the present code pass. Each stream has
separate u, running statistics and last scale. `schedule` computes the cycles of all code passes. For example, 8 streams
of 256 elements at P = 2 and Q = 4 have their last codes 526 cycles after the last x. The code passes take 512 of these
cycles. The scalars of a stream take 26 cycles without an eps term, 42 cycles with the eps term of O_PROJ, and 44 cycles
with the eps term of DOWN_PROJ.

Cost on ECP5 (``lutern cost norm``), with P = 1 and Q = 4:

    sim-64       512 elements                2,754 LUT4, 471 CCU2C, 2,393 FF, 10 multipliers, 9 block RAMs
    stream-x16   1,024 elements, 8 streams   2,979 LUT4, 484 CCU2C, 2,486 FF, 10 multipliers, 33 block RAMs

The norm of stream-x16 also has 71 distributed RAMs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Elaboratable, Module, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw import layouts
from lutern.hw.config import HwConfig
from lutern.hw.layouts import QUANTISE_OP
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.scalar import G_SQUARES_BITS, PATH, NormScalar, cycles_of
from lutern.hw.norm.statistics import NormStatistics, largest_latency
from lutern.model_ref import norm
from lutern.model_ref.fixed import MANTISSA_BITS, Int, add_float
from lutern.model_ref.norm import GAIN_LOW_BITS, GAIN_MANTISSA_BITS, Gains, ScaleConstants


@dataclass(frozen=True)
class NormInput:
    """One vector for `RmsNorm.model`: x ``[n]``, the gains of x, and the values that an O_PROJ operation samples."""

    x: Int
    outer: Gains | None
    inner: list[Gains]
    g_squares: int = 0
    state_shift: int = 0


@dataclass(frozen=True)
class NormOp:
    """One operation for `RmsNorm.model`: which u of a vector, its constants and its eps term."""

    u_index: int
    new_vector: bool
    constants: ScaleConstants
    eps: layouts.Eps = layouts.Eps.NONE


class RmsNorm(wiring.Component):
    """Normalises vectors, and computes their codes and scales.

    Parameters
    ----------
    config : HwConfig
        ``streams`` T, ``results_per_cycle`` P, ``codes_per_cycle`` Q, ``max_width``.

    Members
    -------
    i_x : stream of ``layouts.gathered_payload``, input
        P elements and their gains. Item 0 of the gains of an element is w1, which is ignored if ``outer`` is 0. Items 1
        to 3 are G_0 to G_2. u_k with k >= ``matrices`` has no meaning. The beats of streams 0 to ``final_stream`` may
        come in any order, but the ``index`` of each stream counts from 0, and the last beat of ``final_stream`` is the
        last of all these beats. ``|x| < 2^34``, and the mantissas of gains are symmetric.
    i_op : stream of ``layouts.QUANTISE_OP``, input
        One operation for each set of codes. An operation applies to every stream. If ``new_vector`` is 1, the operation
        uses the next vectors, otherwise the vectors of the previous operation. In an operation with an eps term
        ``new_vector`` must be 1, and this operation must not be the first operation. An operation may arrive before,
        during or after its vectors.
    final_stream : ``stream_bits``, input
        Number of the last active stream.
    eps_stream : ``stream_bits``, output
        The stream whose ``g_squares`` and ``state_shift`` are sampled. ``eps_stream`` is valid at least two cycles
        before the first sample.
    g_squares : 48 bits, input
        Sum of squares of g. ``g_squares`` is sampled from the cycle in which an O_PROJ operation takes its vector until
        the factor of this operation is computed. ``g_squares`` must be stable from the last beat of x until the codes
        of the last stream begin.
    state_shift : 7 bits signed, input
        ``mlgru.state_shift`` of the same vector, sampled in the cycle in which an O_PROJ operation takes its vector.
    may_begin : 1 bit, input
        The code passes of an operation may begin, because all codes of the operation will be accepted.
    begins : 1 bit, output
        The code passes of an operation begin in this cycle.
    o_codes : stream of ``layouts.quantised_payload``, output
        Q codes per beat, with ``last`` in the stream's last beat. Codes past the end of the vector are unspecified. The
        codes never stall, so ``ready`` is ignored.
    o_scale : stream of ``layouts.SCALAR``, output
        The scale (mantissa and exponent) of each operation and stream, in order, from a FIFO that holds the scales of 4
        operations.

    Numerics
    --------
    Exact, equal to ``model_ref.norm.gather``, ``quantise``, ``scale_of`` and ``eps_term``.

    Latency
    -------
    ``latency`` by ``results_per_cycle``: 14 for 1 and 2, 15 for 4, 16 for 8. ``latency`` counts the cycles from the
    last beat of x to the first codes of one stream. It equals ``largest_latency(config)`` + 8, so with several streams
    it is one cycle longer.

    `scale_latency`, `first_interval` and `next_interval` are further times of one stream. These times are valid if an
    operation arrives 16 cycles before its vector, and if outputs do not stall. No cycle is lost between code passes on
    one vector if the first code pass has `first_interval` beats and each later code pass has `next_interval` beats.
    `schedule` computes the cycles of several streams.

    A beat of the next vectors must arrive at the earliest 6 cycles before the ``last`` beat of ``final_stream`` appears
    at ``o_codes``, because the last u of the previous vectors has been read in that cycle. An earlier beat would
    overwrite u.

    Reference
    ---------
    ``model_ref.norm``; ``model_ref.model.o_eps``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i_x": In(stream.Signature(layouts.gathered_payload(config))),
                "i_op": In(stream.Signature(QUANTISE_OP)),
                "final_stream": In(config.stream_bits),
                "eps_stream": Out(config.stream_bits),
                "g_squares": In(G_SQUARES_BITS),
                "state_shift": In(signed(7)),
                "may_begin": In(1),
                "begins": Out(1),
                "o_codes": Out(stream.Signature(layouts.quantised_payload(config))),
                "o_scale": Out(stream.Signature(layouts.SCALAR)),
            }
        )

    @property
    def latency(self) -> int:
        """Number of cycles from the last beat of x to the first beat of codes."""
        return largest_latency(self.config) + NormScalar.pass_latency + Quantiser.latency

    def scale_latency(self, eps: layouts.Eps) -> int:
        """Return the number of cycles from the last beat of x to the scale of the vector's first operation.

        Parameters
        ----------
        eps : layouts.Eps
            The eps term of the operation.
        """
        after_factor = NormScalar.adding[eps] + cycles_of("ROOT", "SCALE", "PUSH")
        return largest_latency(self.config) + NormScalar.factor_latency + after_factor

    @property
    def first_interval(self) -> int:
        """Smallest number of cycles from the first codes of a vector's first operation (without eps) to the first codes
        of its second operation."""
        return cycles_of("IDLE", "VECTOR", "TABLE", "RECIPROCAL", "LARGEST K", "SUM", "ROOT", "SCALE", "PUSH")

    @property
    def next_interval(self) -> int:
        """Smallest number of cycles from the first codes of a later operation to the first codes of the next operation
        on the same vector."""
        return cycles_of("IDLE", "VECTOR", "TABLE", "RECIPROCAL", "LARGEST K", "SCALE", "PUSH")

    @staticmethod
    def schedule(
        eps: layouts.Eps, *, begins: int, beats: int, streams: int, new_vector: bool = True, last_read: int = 0
    ) -> tuple[list[tuple[int, int]], int]:
        """Return for each stream of an operation the cycle of the first read of u and the cycle of the scale at
        ``o_scale``.

        The second result is the first cycle in which the next operation can be accepted. The first codes appear
        ``Quantiser.latency`` cycles after the first read, and a code pass reads one beat per cycle.

        Parameters
        ----------
        eps : layouts.Eps
            The eps term of the operation.
        begins : int
            The cycle in which the scalar unit receives the largest |u| of the first stream. For new vectors this is the
            later of two cycles: `largest_latency` cycles after the last beat of x, and 1 + ``NormScalar.preparation``
            cycles after the operation was accepted. Otherwise it is the cycle in which the operation was accepted.
        beats, streams : int
            ``beats`` is the number of beats of a code pass. ``streams`` is the number of code passes.
        new_vector : bool
            Whether the operation is for new vectors.
        last_read : int
            The cycle of the last read of the previous code pass.
        """
        # Numbers of cycles. ahead: from the start to TABLE, which offers the code pass. after: from TABLE to PUSH.
        # between: from PUSH to the start of the next stream.
        after, between = cycles_of("TABLE", "RECIPROCAL", "SCALE"), PATH["PUSH"]
        if new_vector:
            ahead = PATH["VECTOR"]
            after += NormScalar.adding[eps] + PATH["ROOT"]
            between += PATH["NEXT STREAM"] + NormScalar.preparation[eps]
        else:
            ahead = cycles_of("IDLE", "VECTOR")
            after += PATH["LARGEST K"]
        passes = []
        for _ in range(streams):
            gives = max(begins + ahead, last_read)
            last_read = gives + beats
            pushed = gives + after
            passes.append((gives + 1, pushed + PATH["PUSH"]))
            begins = pushed + between
        return passes, pushed + PATH["PUSH"]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.statistics = statistics = NormStatistics(self.config)
        m.submodules.scalar = scalar = NormScalar(self.config)
        m.submodules.quantiser = quantiser = Quantiser(self.config)
        wiring.connect(m, wiring.flipped(self.i_x), statistics.i_x)
        wiring.connect(m, wiring.flipped(self.i_op), scalar.i_op)
        wiring.connect(m, scalar.o_pass, quantiser.i_pass)
        wiring.connect(m, quantiser.o, wiring.flipped(self.o_codes))
        wiring.connect(m, scalar.o_scale, wiring.flipped(self.o_scale))
        m.d.comb += [
            quantiser.factor.eq(scalar.factor),
            quantiser.may_begin.eq(self.may_begin),
            self.begins.eq(quantiser.begins),
            quantiser.u.eq(statistics.u),
            quantiser.u_valid.eq(statistics.u_valid),
            quantiser.u_stream.eq(statistics.u_stream),
            quantiser.u_index.eq(statistics.u_index),
            statistics.final_stream.eq(self.final_stream),
            scalar.final_stream.eq(self.final_stream),
            statistics.stream.eq(scalar.stream),
            self.eps_stream.eq(scalar.stream),
            scalar.largest.eq(statistics.largest),
            scalar.largest_valid.eq(statistics.largest_valid),
            statistics.largest_take.eq(scalar.largest_take),
            scalar.squares.eq(statistics.squares),
            scalar.g_squares.eq(self.g_squares),
            scalar.state_shift.eq(self.state_shift),
        ]
        return m

    @staticmethod
    def model(vectors: Iterable[NormInput], ops: Sequence[NormOp]) -> list[tuple[Int, tuple[int, int]]]:
        """Return codes ``[n]`` and scale of each operation, after a reset.

        Parameters
        ----------
        vectors : Iterable[NormInput]
            The vectors, in order.
        ops : Sequence[NormOp]
            The operations, in order.
        """
        remaining = iter(vectors)
        scale: tuple[Int, Int] = np.array(0), np.array(0)
        results = []
        for op in ops:
            if op.new_vector:
                source = next(remaining)
                vector = norm.gather(source.x, source.outer, source.inner)
                ss = vector.ss
                if op.eps is not layouts.Eps.NONE:
                    ss = add_float(ss, RmsNorm._eps(op, source, scale))
            codes = norm.quantise(vector.u[op.u_index], vector.largest[op.u_index])
            scale = norm.scale_of(vector.largest[op.u_index], ss, op.constants)
            results.append((codes, (int(scale[0]), int(scale[1]))))
        return results

    @staticmethod
    def _eps(op: NormOp, source: NormInput, producer_scale: tuple[Int, Int]) -> tuple[Int, Int]:
        """Return the eps term of an operation, from sums that the hardware receives from outside."""
        if op.eps is layouts.Eps.DOWN_PROJ:
            return norm.eps_term(op.constants, producer_scale, (np.array(0), np.array(0)))
        exponent = source.g_squares.bit_length() - MANTISSA_BITS if source.g_squares else 0
        mantissa = source.g_squares >> exponent if exponent >= 0 else source.g_squares << -exponent
        term = norm.eps_term(op.constants, producer_scale, (np.array(mantissa), np.array(exponent)))
        return term[0], np.where(term[0] == 0, 0, term[1] - 2 * source.state_shift)


def pack_gains(outer: Gains | None, inner: Sequence[Gains], element: int) -> int:
    """Pack the gains of one element into an integer, with w1 in the lowest bits and G_0, G_1 and so on above.

    Parameters
    ----------
    outer : Gains | None
        The gains w1, or None for an item of 0.
    inner : Sequence[Gains]
        The gains G_k.
    element : int
        Index of the element.
    """
    flat = 0
    for item, gains in enumerate([outer, *inner]):
        if gains is not None:
            mantissa = (int(gains.mantissa[element]) >> GAIN_LOW_BITS) & ((1 << GAIN_MANTISSA_BITS) - 1)
            gain = mantissa | int(gains.exponent[element]) << GAIN_MANTISSA_BITS
            flat |= gain << (item * layouts.ITEM_BITS)
    return flat
