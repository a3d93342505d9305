"""Registers of a pipeline that never waits, and what else blocks are written with.

Every arithmetic block of Lutern is a chain of registers without an enable, so an item reaches its end ``latency``
cycles after it entered. It enters only where it has room at the end, in the FIFO of ``hw/pipeline/credits.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, ValueLike

from lutern.hw.pipeline.shifts import spread


class Stages:
    """Registers of one block: ``register`` delays by one cycle, ``delay`` by several."""

    def __init__(self, m: Module) -> None:
        self._m = m
        self._count = 0

    def register(self, value: ValueLike, name: str | None = None, *, reset_less: bool = True) -> Any:
        """``value`` one cycle later, of the same shape."""
        value = Value.cast(value)
        self._count += 1
        held = Signal(value.shape(), name=name or f"stage_{self._count}", reset_less=reset_less)
        self._m.d.sync += held.eq(value)
        return held

    def delay(self, value: ValueLike, stages: int, name: str | None = None, *, reset_less: bool = True) -> Any:
        """``value`` that many cycles later."""
        delayed: Any = Value.cast(value)
        for index in range(stages):
            delayed = self.register(delayed, f"{name}_{index + 1}" if name else None, reset_less=reset_less)
        return delayed

    def valid(self, accepted: ValueLike, stages: int) -> Any:
        """The valid bit that travels along; cleared by reset."""
        return self.delay(accepted, stages, "valid", reset_less=False)


def own_register(m: Module, value: ValueLike, *, cells: bool) -> Any:
    """``value`` a cycle later, in flip-flops that the synthesis does not share with others that hold the same: what a
    signal drives all over the chip gets such registers here and there. ``cells``: of ECP5; else like any other."""
    value = Value.cast(value)
    held = Signal(value.shape(), name="own", reset_less=True)
    if not cells:
        m.d.sync += held.eq(value)
        return held
    for bit in range(len(value)):
        m.submodules += Instance(
            "TRELLIS_FF",
            p_GSR="AUTO",
            p_CEMUX="1",
            p_CLKMUX="CLK",
            p_LSRMUX="LSR",
            p_REGSET="RESET",
            i_CLK=ClockSignal(),
            i_LSR=Const(0),
            i_DI=value[bit],
            o_Q=held[bit],
        )
    return held


def saturate(value: Value, bits: int) -> Value:
    """Twin of ``fixed.saturate``: signed ``value`` clamped to ``bits`` signed bits, symmetric."""
    sign = value[-1]
    limit = Cat(Const(1, 1), (~sign).replicate(bits - 2), sign)
    return Mux(beyond(value, bits), limit, value[:bits])[:bits].as_signed()


def beyond(value: Value, bits: int) -> Value:
    """Whether ``saturate(value, bits)`` changes signed ``value``, which has at least ``bits`` bits. No carry chain: the
    bits from the sign of the result on differ, or the value is the one below the least."""
    return spread(value[bits - 1 :]) | (value[-1] & ~value[: bits - 1].any())


def exceeds(value: Value, limit: int) -> Value:
    """``value > limit``, of unsigned numbers: a LUT for three bits, where a comparison has a carry chain."""
    assert limit >= 0
    found: Value = Const(0)
    for index in range(len(value)):
        found = value[index] & found if limit >> index & 1 else value[index] | found
    return found if limit >> len(value) == 0 else Const(0)


def magnitude(value: Value) -> Value:
    """``|value|`` of a symmetric signed value, one bit narrower than the value."""
    return Mux(value[-1], -value, value)[: len(value) - 1]


def pack(values: Sequence[Value]) -> Value:
    """Equal-width values as one flat vector, the first in the lowest bits (an ArrayLayout confuses ABC9's names)."""
    return Cat(*[value[: len(value)] for value in values])


def join_streams(m: Module, output: Any, input_: Any) -> None:
    """Join an output stream to an input stream of the same payload; unequal payloads are refused.

    (``wiring.connect`` compares widths only.)
    """
    if output.signature.members["payload"].shape != input_.signature.members["payload"].shape:
        raise TypeError(
            f"cannot join a stream of {output.signature.members['payload'].shape} to one of "
            f"{input_.signature.members['payload'].shape}: the payload layouts differ"
        )
    m.d.comb += [
        input_.valid.eq(output.valid),
        Value.cast(input_.payload).eq(Value.cast(output.payload)),
        output.ready.eq(input_.ready),
    ]


__all__ = ["Stages", "beyond", "exceeds", "join_streams", "magnitude", "own_register", "pack", "saturate"]
