"""A register for each stream: one register of a single stream, else a distributed RAM read without delay."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

from lutern.hw.config import HwConfig
from lutern.hw.pipeline.vectors import new_memory


class StreamRegister:
    """``bits`` for each of ``config.streams`` streams: ``read`` once, ``write`` once. Reset clears nothing."""

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
        """What the stream's register holds now."""
        if self._register is not None:
            return self._register
        self._m.d.comb += self._read.addr.eq(stream)
        return Value.cast(self._read.data)

    def write(self, stream: ValueLike, enable: ValueLike, value: ValueLike) -> None:
        """What it holds from the next cycle on."""
        if self._register is not None:
            with self._m.If(enable):
                self._m.d.sync += self._register.eq(value)
            return
        self._m.d.comb += [self._write.addr.eq(stream), self._write.en.eq(enable), self._write.data.eq(value)]
