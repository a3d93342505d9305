"""Pipeline registers without an enable, and small helpers that all blocks use.

Every arithmetic block of Lutern is a chain of registers without an enable, so an item reaches the end of the chain
``latency`` cycles after its entry. An item enters only when the FIFO at the end has room for it
(``hw/pipeline/credits.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, ValueLike

from lutern.hw.pipeline.shifts import spread


class Stages:
    """Adds pipeline registers to a module. ``register`` delays a value by one cycle, and ``delay`` by several cycles.

    Parameters
    ----------
    m : Module
        The module that receives the registers, in domain ``sync``.
    """

    def __init__(self, m: Module) -> None:
        self._m = m
        self._count = 0

    def register(self, value: ValueLike, name: str | None = None, *, reset_less: bool = True) -> Any:
        """Return ``value`` one cycle later, in the same shape.

        Parameters
        ----------
        value : ValueLike
            The value to delay.
        name : str | None
            Name of the register in the netlist.
        reset_less : bool
            Reset does not clear the register.
        """
        value = Value.cast(value)
        self._count += 1
        held = Signal(value.shape(), name=name or f"stage_{self._count}", reset_less=reset_less)
        self._m.d.sync += held.eq(value)
        return held

    def delay(self, value: ValueLike, stages: int, name: str | None = None, *, reset_less: bool = True) -> Any:
        """Return ``value`` after ``stages`` cycles.

        Parameters
        ----------
        value : ValueLike
            The value to delay.
        stages : int
            Number of registers.
        name : str | None
            Prefix of the registers' names.
        reset_less : bool
            Reset does not clear the registers.
        """
        delayed: Any = Value.cast(value)
        for index in range(stages):
            delayed = self.register(delayed, f"{name}_{index + 1}" if name else None, reset_less=reset_less)
        return delayed

    def valid(self, accepted: ValueLike, stages: int) -> Any:
        """Return the valid bit of an accepted item after ``stages`` cycles. A reset clears this bit."""
        return self.delay(accepted, stages, "valid", reset_less=False)


def own_register(m: Module, value: ValueLike, *, cells: bool) -> Any:
    """Return ``value`` one cycle later, in flip-flops that the synthesis does not merge with equal flip-flops.

    A signal with a high fan-out over the whole chip uses several such copies, each near its loads.

    Parameters
    ----------
    m : Module
        The module that receives the flip-flops, in domain ``sync``.
    value : ValueLike
        The input of the flip-flops.
    cells : bool
        Instantiate flip-flops of the ECP5. Otherwise an ordinary register is made.
    """
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
    """Clamp signed ``value`` to the symmetric range of ``bits`` signed bits, as ``model_ref.fixed.saturate`` does."""
    return clamp(value, beyond(value, bits), value[-1], bits)


def clamp(value: Value, outside: Value, sign: Value, bits: int) -> Value:
    """Return ``value`` in ``bits`` signed bits, or, if ``outside`` is 1, the symmetric limit with this ``sign``."""
    limit = Cat(Const(1, 1), (~sign).replicate(bits - 2), sign)
    return Mux(outside, limit, value[:bits])[:bits].as_signed()


def beyond(value: Value, bits: int) -> Value:
    """Return whether ``saturate(value, bits)`` would change a signed value of at least ``bits`` bits.

    This needs no carry chain. The returned bit is 1 if the bits from bit ``bits`` - 1 up are not all equal, or if the
    value is one below the lowest limit.
    """
    return spread(value[bits - 1 :]) | (value[-1] & ~value[: bits - 1].any())


def exceeds(value: Value, limit: int) -> Value:
    """Return ``value > limit`` for unsigned numbers.

    This takes one LUT4 for three bits, while a comparison would take a carry chain.
    """
    assert limit >= 0
    found: Value = Const(0)
    for index in range(len(value)):
        found = value[index] & found if limit >> index & 1 else value[index] | found
    return found if limit >> len(value) == 0 else Const(0)


def magnitude(value: Value) -> Value:
    """Return ``|value|`` of a symmetric signed value, one bit narrower than the value."""
    return Mux(value[-1], -value, value)[: len(value) - 1]


def pack(values: Sequence[Value]) -> Value:
    """Join values of equal width to one flat vector, with the first value in the lowest bits.

    An ArrayLayout would create names that ABC9 confuses.
    """
    return Cat(*[value[: len(value)] for value in values])


def join_streams(m: Module, output: Any, input_: Any) -> None:
    """Connect an output stream to an input stream of the same payload. Raise ``TypeError`` if the payloads differ.

    ``wiring.connect`` would compare only the widths.

    Parameters
    ----------
    m : Module
        The module that receives the connection.
    output, input_
        The streams, as interfaces.
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


__all__ = ["Stages", "beyond", "clamp", "exceeds", "join_streams", "magnitude", "own_register", "pack", "saturate"]
