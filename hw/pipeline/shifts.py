"""A shift to the right that keeps only a few bits and performs its large steps first.

    value ─► >> 16 ─► keep + 15 bits ─► >> 8 ─► keep + 7 bits ─► ... ─► keep bits
                 └──► beyond?               └─► beyond?

The largest step is the first step. The later steps move the bits over shorter distances, so fewer bits need a
multiplexer.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value


def shift_right(m: Module, value: Value, amount: Value, keep: int) -> tuple[Value, Value]:
    """Shift ``value`` to the right by ``amount`` with sign extension, and keep the low ``keep`` bits.

    Return the kept bits, signed if ``value`` is signed, and a vector with a flag for each step that drops bits. The
    shifted value fits into ``keep`` bits if and only if no flag is set. The flag of a step does not wait for later
    steps.
    """
    is_signed = value.shape().signed
    moved, flags = value, []
    for step in reversed(range(len(amount))):
        bits = min(len(moved), keep + (1 << step) - 1)
        wide = Signal(Shape(len(moved), is_signed))
        m.d.comb += wide.eq(Mux(amount[step], moved >> (1 << step), moved))
        if len(wide) > bits:
            flags.append(spread(wide[bits - 1 :]) if is_signed else wide[bits:].any())
        moved = wide[:bits].as_signed() if is_signed else wide[:bits]
    return moved, Cat(*flags)


def spread(bits: Value) -> Value:
    """Return 1 if the ``bits`` are not all equal. For the top bits of a signed value this means that the value needs
    these bits."""
    return bits.any() & ~bits.all()


__all__ = ["shift_right", "spread"]
