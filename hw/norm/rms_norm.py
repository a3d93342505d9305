"""RMSNorm and the int8 codes of a BitLinear; formulas in ``model_ref.norm``, which this computes bit for bit.

    i_x, P a cycle ─► NormStatistics ─┬─ u ─────────────────────────► Quantiser ─► o_codes, Q a cycle
                                      └─ largest, ss ─► NormScalar ─ pass, R ─┘
    i_op ───────────────────────────────────────────────────┴─────────────────────► o_scale, one an operation and stream

An element costs 1/P cycle as it arrives and 1/Q cycle as codes are made; an operation 7 + 1 cycles until its first
codes, of which another operation on the same vector hides all when the codes before take long enough
(`first_interval`).
Streams share all of it: an operation has a pass for each, and while one runs the next is prepared. Each has
its u, its running statistics and its last scale. `schedule` says when: 8 streams of 256 elements at Q = 4 have their
last codes 533 cycles after the last x, of which 512 are passes; a stream's scalars take 24 cycles (eps: 44 and 43).
ECP5, P = 1, Q = 4, 512 elements: 2,673 LUT4, 459 CCU2C, 2,486 flip-flops, 10 multipliers, 9 block RAMs (yosys); 8
streams, P = 2, Q = 4, 1024 elements: 3,550, 651, 3,621, 15 and 33, 71 distributed RAMs.
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
    """One vector for `RmsNorm.model`: x ``[n]``, gains, and what an O_PROJ operation samples."""

    x: Int
    outer: Gains | None
    inner: list[Gains]
    g_squares: int = 0
    state_shift: int = 0


@dataclass(frozen=True)
class NormOp:
    """One operation for `RmsNorm.model`."""

    u_index: int
    new_vector: bool
    constants: ScaleConstants
    eps: layouts.Eps = layouts.Eps.NONE


class RmsNorm(wiring.Component):
    """The norm of the engine.

    Parameters
    ----------
    config
        ``streams`` T, ``results_per_cycle`` P, ``codes_per_cycle`` Q, ``max_width``.

    Members
    -------
    i_x : P elements and their gains. Item 0 of a tuple is w1 (ignored unless ``outer``), items 1 to 3 are G_0 to G_2;
        u_k with k >= ``matrices`` has no meaning. Beats of the streams 0 to ``final_stream`` in any order, ``index``
        0 first in each; the last beat of ``final_stream`` comes last of all.
    i_op : ``QUANTISE_OP``, one for each operation with codes, for every stream. ``new_vector``: for the next vectors;
        else for those of the operation before. An eps operation has ``new_vector`` and is not the first one. May come
        before, while or after its vectors.
    final_stream : number of the last active stream.
    eps_stream : the stream whose ``g_squares`` and ``state_shift`` are wanted; named two cycles before they are
        sampled, at least.
    g_squares, state_shift : sum of squares of g and ``mlgru.state_shift``, sampled from an O_PROJ operation's taking
        its vector until its factor is there: steady from the last beat of x on, for as long as the codes of the last
        stream have not begun.
    may_begin, begins : an operation's passes may begin, for all its codes will be taken; and they do, in this cycle.
    o_codes : Q codes a beat, ``last`` with the stream's last. Elements past the vector are unspecified.
        They never wait: ``ready`` is not looked at.
    o_scale : mantissa and exponent of each operation and stream, in order; a FIFO of 4 operations.

    Contract: a beat of x of the next vectors comes only when the last codes of those before have been read, at the
    earliest 6 cycles before the ``last`` beat of ``final_stream`` appears at ``o_codes``. (Earlier, u would be
    overwritten.) ``|x| < 2^34``; gains' mantissas are symmetric.

    Numerics: exact. Reference: ``model_ref.norm.gather``, ``quantise``, ``scale_of``; ``model_ref.model.o_eps``.

    Latency, one stream: ``latency``, ``scale_latency(eps)``, ``first_interval`` and ``next_interval``, all for an
    operation that was there 16 cycles ahead and without pauses at the outputs. Between passes on one vector no cycle is
    lost when the first has ``first_interval`` beats and the others ``next_interval``. Several: ``schedule``.
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
        """Cycles from the last beat of x to the first beat of codes."""
        return largest_latency(self.config) + NormScalar.pass_latency + Quantiser.latency

    def scale_latency(self, eps: layouts.Eps) -> int:
        """Cycles from the last beat of x to the scale of the vector's first operation."""
        after_factor = NormScalar.adding[eps] + cycles_of("ROOT", "SCALE", "PUSH")
        return largest_latency(self.config) + NormScalar.factor_latency + after_factor

    @property
    def first_interval(self) -> int:
        """Least cycles from the first codes of a vector's first operation (without eps) to those of its second."""
        return cycles_of("IDLE", "VECTOR", "RECIPROCAL", "FACTOR", "SUM", "ROOT", "SCALE", "PUSH")

    @property
    def next_interval(self) -> int:
        """Least cycles from the first codes of a later operation to those of the next on the same vector."""
        return cycles_of("IDLE", "VECTOR", "RECIPROCAL", "FACTOR", "SCALE", "PUSH")

    @staticmethod
    def schedule(
        eps: layouts.Eps, *, begins: int, beats: int, streams: int, new_vector: bool = True, last_read: int = 0
    ) -> tuple[list[tuple[int, int]], int]:
        """The (first read of u, scale at ``o_scale``) of each stream of an operation, in cycles of any clock.

        ``begins`` is the cycle in which the scalar unit has the first stream's largest: for new vectors the later of
        ``largest`` (last beat of x + `largest_latency`) and the cycle 1 + `NormScalar.preparation` after the
        operation's acceptance. Else the cycle of acceptance. ``last_read`` is that of the pass before. Returns also the
        first cycle in which the next operation can be accepted. The first codes appear `Quantiser.latency` cycles after
        the first read; without pauses a pass reads a beat a cycle.
        """
        # From the start to RECIPROCAL, which gives the pass, from there to PUSH, from PUSH to the next stream's start.
        ahead, after = cycles_of("IDLE", "VECTOR"), cycles_of("RECIPROCAL", "FACTOR", "SCALE")
        between = PATH["PUSH"]
        if new_vector:
            ahead -= PATH["IDLE"]
            after += NormScalar.adding[eps] + PATH["ROOT"]
            between += PATH["NEXT STREAM"] + NormScalar.preparation[eps]
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
            scalar.early.eq(statistics.early),
            scalar.largest_valid.eq(statistics.largest_valid),
            statistics.largest_take.eq(scalar.largest_take),
            scalar.squares.eq(statistics.squares),
            scalar.g_squares.eq(self.g_squares),
            scalar.state_shift.eq(self.state_shift),
        ]
        return m

    @staticmethod
    def model(vectors: Iterable[NormInput], ops: Sequence[NormOp]) -> list[tuple[Int, tuple[int, int]]]:
        """Codes ``[n]`` and scale of each operation, after a reset."""
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
        """``model_ref.model.o_eps`` and its counterpart ahead of down_proj, from sums that the hardware is given."""
        if op.eps is layouts.Eps.DOWN_PROJ:
            return norm.eps_term(op.constants, producer_scale, (np.array(0), np.array(0)))
        exponent = source.g_squares.bit_length() - MANTISSA_BITS if source.g_squares else 0
        mantissa = source.g_squares >> exponent if exponent >= 0 else source.g_squares << -exponent
        term = norm.eps_term(op.constants, producer_scale, (np.array(mantissa), np.array(exponent)))
        return term[0], np.where(term[0] == 0, 0, term[1] - 2 * source.state_shift)


def pack_gains(outer: Gains | None, inner: Sequence[Gains], element: int) -> int:
    """The tuple of one element as a flat integer: w1 (0 without), then G_k."""
    flat = 0
    for item, gains in enumerate([outer, *inner]):
        if gains is not None:
            mantissa = (int(gains.mantissa[element]) >> GAIN_LOW_BITS) & ((1 << GAIN_MANTISSA_BITS) - 1)
            gain = mantissa | int(gains.exponent[element]) << GAIN_MANTISSA_BITS
            flat |= gain << (item * layouts.ITEM_BITS)
    return flat
