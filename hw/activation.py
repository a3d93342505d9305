"""The sigmoid block computes P values per cycle. MLGRU and GLU share the block.

    sigma(-|x|) = base[segment] - slope[segment] * remainder / 2^12      17 fraction bits, 512 segments for |x| up to 16

    x ─► |x| ─► >> to 17 fraction bits ─► clamp ─► table ─► register ─► slope * remainder ─► base ± product ─► sigma
        1      2                                 3        4           5                    6                stages

The low 12 bits of the clamped |x| are the remainder, and the bits above the remainder select the segment.

The block never stalls, so MLGRU and GLU count these stages as stages of their own pipelines. MLGRU and GLU never use
the block at the same time, because GLU needs the complete output vector of MLGRU, and MLGRU needs the complete output
vector of GLU.

Cost for each of the P values: one 11 x 12 bit product, one block RAM (512 x 28), one barrel shifter. A machine with a
large ``lut_ram_depth`` has no spare block RAM. On such a machine the table is built of about 450 LUT4.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import VALUE_BITS
from lutern.hw.pipeline import Stages, in_luts, new_memory, pack, shift_right
from lutern.model_ref import activation
from lutern.model_ref.activation import ARGUMENT_FRAC_BITS, REMAINDER_BITS, SEGMENT_BITS, SIGMOID_FRAC_BITS
from lutern.model_ref.fixed import MANTISSA_MAX, Int

SIGMOID_STAGES = 6
SIGMOID_FRAC_RANGE = range(31)
"""Numbers of fraction bits that an argument may have."""

ARGUMENT_MAX = activation.ARGUMENT_MAX
ARGUMENT_BITS = SEGMENT_BITS + REMAINDER_BITS
BASE_BITS = SIGMOID_FRAC_BITS
SLOPE_BITS = 11
SEGMENT_TABLE = [
    int(base) | int(slope) << BASE_BITS
    for base, slope in zip(activation.SEGMENT_BASE, activation.SEGMENT_SLOPE, strict=True)
]
assert int(activation.SEGMENT_SLOPE.max()) < 1 << SLOPE_BITS
PRODUCT_HALF = 1 << (REMAINDER_BITS - 1)
"""This half is added to the product of the interpolation. Dropping the low bits then rounds the product."""


def table_attributes(config: HwConfig) -> dict[str, str]:
    """Return the memory attributes of the table. If a machine has no block RAM for the table, these attributes place
    the table in logic."""
    return {"rom_style": "logic"} if in_luts(config, 1 << SEGMENT_BITS) else {}


def sigmoid_signature(config: HwConfig) -> wiring.Signature:
    """Return the signature of a user of the sigmoid.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) values are computed together.

    Members
    -------
    arguments : P values of 32 bits signed, output
        Element 0 is in the lowest bits.
    frac : 5 bits, output
        Number of fraction bits of the arguments, 0 to 30.
    sigma : P values of 17 bits, input
        The sigmoid of the arguments that were sent ``SIGMOID_STAGES`` cycles earlier.
    """
    lanes = config.results_per_cycle
    return wiring.Signature(
        {
            "arguments": Out(lanes * VALUE_BITS),
            "frac": Out(SIGMOID_FRAC_RANGE[-1].bit_length()),
            "sigma": In(lanes * SIGMOID_FRAC_BITS),
        }
    )


def use_sigmoid(m: Module, port: Any, arguments: list[Any], frac: Value) -> list[Any]:
    """Connect ``arguments`` to the sigmoid and return its results.

    Parameters
    ----------
    m : Module
        Receives the connections.
    port
        The user's interface, with ``sigmoid_signature``.
    arguments : list of Value
        P signed values of up to 32 bits.
    frac : Value
        Fraction bits of the arguments.

    Returns
    -------
    list of Value
        P results of 17 bits, ``SIGMOID_STAGES`` cycles after the arguments.
    """
    wide = [Cat(argument, argument[-1].replicate(VALUE_BITS - len(argument))) for argument in arguments]
    m.d.comb += [port.arguments.eq(Cat(*wide)), port.frac.eq(frac)]
    return [port.sigma.word_select(lane, SIGMOID_FRAC_BITS) for lane in range(len(arguments))]


class Sigmoid(wiring.Component):
    """Computes ``sigma`` of P values per cycle.

    Parameters
    ----------
    config : HwConfig
        ``results_per_cycle`` (P) values enter and leave together.

    Members
    -------
    user : ``sigmoid_signature``, input
        The user sends P arguments of 32 bits signed with ``frac`` (0 to 30) fraction bits, and receives P results of 17
        bits.

    Numerics
    --------
    Equal to ``model_ref.activation.sigmoid``, bit for bit. The largest error is 2^-16.25.

    Latency
    -------
    ``latency`` = 6 cycles. P values can enter in every cycle, because the block never stalls.

    Reference
    ---------
    Paper, section 3.3.1: the gates of MLGRU and, through silu, of the GLU.
    """

    latency = SIGMOID_STAGES

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__({"user": In(sigmoid_signature(config))})

    @staticmethod
    def model(values: Int, frac_bits: Int | int) -> Int:
        """Return ``sigma`` of ``values`` that have ``frac_bits`` fraction bits."""
        return activation.sigmoid(values, frac_bits)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config = self.config
        stages = Stages(m)
        table = m.submodules.sigmoid_table = new_memory(
            BASE_BITS + SLOPE_BITS, 1 << SEGMENT_BITS, init=SEGMENT_TABLE, attrs=table_attributes(config)
        )
        frac = stages.register(self.user.frac, "frac")
        results = []
        for lane in range(config.results_per_cycle):
            argument = self.user.arguments.word_select(lane, VALUE_BITS).as_signed()
            magnitude = stages.register(Mux(argument[-1], -argument, argument)[:VALUE_BITS], f"magnitude_{lane}")
            fine = Cat(Const(0, ARGUMENT_FRAC_BITS), magnitude)
            shifted, flags = (stages.register(part) for part in shift_right(m, fine, frac, ARGUMENT_BITS))
            clamped = Mux(flags.any(), Const(ARGUMENT_MAX, ARGUMENT_BITS), shifted)
            if table_attributes(config):  # the clamp is slow, so a register separates it from the table
                port = table.read_port(domain="comb")
                m.d.comb += port.addr.eq(stages.register(clamped[REMAINDER_BITS:], f"address_{lane}"))
            else:
                port = table.read_port()
                m.d.comb += port.addr.eq(clamped[REMAINDER_BITS:])
            remainder = stages.delay(clamped[:REMAINDER_BITS], 2, f"remainder_{lane}")
            held = stages.register(port.data, f"segment_{lane}")
            negative = stages.delay(argument[-1], 4, f"negative_{lane}")

            # base - step = ~(~base + step) and 1 - (base - step) = (1 - base) + step, so one adder serves both signs.
            base, slope = held[:BASE_BITS], held[BASE_BITS:]
            product = stages.register(slope * remainder, f"product_{lane}")
            begin = stages.register(
                Mux(negative, ~base, (Const(1 << BASE_BITS) - base)[: BASE_BITS + 1]), f"begin_{lane}"
            )
            negative = stages.register(negative, f"negative_{lane}_5")
            total = (Cat(Const(PRODUCT_HALF, REMAINDER_BITS), begin) + product)[REMAINDER_BITS:]
            rising = Mux(total[BASE_BITS], Const(MANTISSA_MAX, BASE_BITS), total[:BASE_BITS])
            results.append(stages.register(Mux(negative, ~total[:BASE_BITS], rising), f"sigma_{lane}"))
        m.d.comb += self.user.sigma.eq(pack(results))
        return m
