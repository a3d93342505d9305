"""Trees of LUT4s that are instantiated for the ECP5, because the synthesis would use a fifth more LUT4s for a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Const, Instance, Module, Signal, Value


def lut4(m: Module, inputs: Sequence[Value], function: Callable[[list[int]], bool | int]) -> Value:
    """Add one LUT4.

    Parameters
    ----------
    m : Module
        The module that receives the LUT4.
    inputs : Sequence[Value]
        The inputs of the LUT4, at most four.
    function : Callable[[list[int]], bool | int]
        The output of the LUT4 as a function of the bits of the inputs.
    """
    table = sum(function([row >> index & 1 for index in range(len(inputs))]) << row for row in range(16))
    found = Signal()
    ports = dict(zip(("i_A", "i_B", "i_C", "i_D"), [*inputs, *[Const(0)] * (4 - len(inputs))], strict=True))
    m.submodules += Instance("LUT4", p_INIT=Const(table, 16), **ports, o_Z=found)
    return found


def constant(m: Module, name: str, value: int, bits: int) -> Value:
    """Return a constant, each bit of which is a LUT4 without inputs, called NAME_BIT. The synthesis does not look into
    these LUT4s, so the rest of the netlist does not depend on the value.

    Parameters
    ----------
    m : Module
        The module that receives the LUT4s.
    name : str
        Name of the constant.
    value : int
        The constant.
    bits : int
        Width of the constant.
    """
    found = Signal(bits, name=name)
    unused = {f"i_{port}": Const(0) for port in "ABCD"}
    for bit in range(bits):
        table = Const(0xFFFF * (value >> bit & 1), 16)
        m.submodules[f"{name}_{bit}"] = Instance("LUT4", p_INIT=table, **unused, o_Z=found[bit])
    return found


def fewer(m: Module, values: Sequence[Value], count: int, function: Callable[[list[int]], bool | int]) -> list[Value]:
    """Combine values with LUT4s until at most ``count`` values are left, and return these values.

    Parameters
    ----------
    m : Module
        The module that receives the LUT4.
    values : Sequence[Value]
        The values.
    count : int
        Largest number of values that may be left.
    function : Callable[[list[int]], bool | int]
        An associative function of up to four bits.
    """
    left = list(values)
    while len(left) > count:
        taken = min(4, len(left) - count + 1)
        left = [*left[taken:], lut4(m, left[:taken], function)]
    return left


def parity(values: list[int]) -> int:
    """Return the exclusive or of bits."""
    return sum(values) % 2


__all__ = ["constant", "fewer", "lut4", "parity"]
