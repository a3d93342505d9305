"""A register with one value for each stream: a plain register for one stream, else a distributed RAM."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

from lutern.hw.config import HwConfig
from lutern.hw.pipeline.vectors import new_memory


class StreamRegister:
    """Holds a value for each of ``config.streams`` streams. A reset does not clear the values.

    Parameters
    ----------
    m : Module
        The module that receives the register.
    config : HwConfig
        ``streams`` is the number of values.
    name : str
        Name of the register or memory in the netlist.
    bits : int
        Width of a value.

    `read` may be called only once, and `write` may be called only once, because every call adds logic to the only port
    of its kind.
    """

    def __init__(self, m: Module, config: HwConfig, name: str, bits: int) -> None:
        self._m = m
        self._register: Signal | None = None
        if config.streams == 1:
            self._register = Signal(bits, name=name, reset_less=True)
            return
        memory = new_memory(bits, config.streams, attrs={"ram_style": "distributed"})
        m.submodules[name] = memory
        self._write, self._read = memory.write_port(), memory.read_port(domain="comb")

    def read(self, stream: ValueLike) -> Value:
        """Return the present value of a stream, in the same cycle."""
        if self._register is not None:
            return self._register
        self._m.d.comb += self._read.addr.eq(stream)
        return Value.cast(self._read.data)

    def write(self, stream: ValueLike, enable: ValueLike, value: ValueLike) -> None:
        """Set the value of a stream from the next cycle on, if ``enable`` is 1.

        Parameters
        ----------
        stream : ValueLike
            The stream.
        enable : ValueLike
            The value is written in this cycle.
        value : ValueLike
            The new value.
        """
        if self._register is not None:
            with self._m.If(enable):
                self._m.d.sync += self._register.eq(value)
            return
        self._m.d.comb += [self._write.addr.eq(stream), self._write.en.eq(enable), self._write.data.eq(value)]
