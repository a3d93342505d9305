"""Bench of the UART, and of a whole chip with a UART. The bench drives the line with its own bit length."""

from __future__ import annotations

import itertools
import random
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.link.uart import FIFO_BYTES
from lutern.hw.protocol import Opcode
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, reset, start, to_int

BYTES = 40


class Line:
    """The host's end of the line: ``sends`` drives rx, and ``_watch`` reads tx."""

    def __init__(self, dut: Any, bit: float) -> None:
        self.dut, self.bit = dut, bit
        self.began: list[int] = []
        self.read: list[int] = []
        self.starts: list[int] = []
        dut.rx.value = 1
        cocotb.start_soon(self._watch())

    async def sends(self, data: bytes, *, stop: int = 1, idle_bits: float = 0.0) -> None:
        """Send bytes. After each byte the line stays high for ``idle_bits`` more bits."""
        at = 0.0
        first = cycle_now()
        for byte in data:
            self.began.append(first + round(at))
            for level in (0, *(byte >> place & 1 for place in range(8)), stop):
                self.dut.rx.value = level
                at += self.bit
                await self._until(first + round(at))
            self.dut.rx.value = 1
            at += idle_bits * self.bit
            await self._until(first + round(at))

    async def _until(self, cycle: int) -> None:
        while cycle_now() < cycle:
            await RisingEdge(self.dut.clk)

    async def _watch(self) -> None:
        """Check every cycle of every bit of tx."""
        while True:
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst) or to_int(self.dut.tx):
                continue
            began, divisor = cycle_now(), bench_parameters()["divisor"]
            levels: list[int] = []
            while len(levels) < 10 * divisor and not to_int(self.dut.rst):
                levels.append(to_int(self.dut.tx))
                if len(levels) < 10 * divisor:
                    await FallingEdge(self.dut.clk)
            if len(levels) < 10 * divisor:
                continue  # a reset interrupted the byte
            bits = [levels[divisor * place : divisor * (place + 1)] for place in range(10)]
            assert all(len(set(bit)) == 1 for bit in bits), f"cycle {began}: tx changed within a bit: {bits}"
            assert bits[9][0] == 1, f"cycle {began}: tx has no stop bit"
            self.read.append(sum(bit[0] << place for place, bit in enumerate(bits[1:9])))
            self.starts.append(began)


def bit_cycles() -> float:
    return bench_parameters()["divisor"] * (1 + bench_parameters()["error"])


def some_bytes(count: int = BYTES) -> bytes:
    return bytes([0x00, 0xFF, 0x55, 0xAA]) + random.Random(bench_seed()).randbytes(count - 4)


@cocotb.test()
async def bytes_come(dut: Any) -> None:
    """All bytes arrive, with and without pauses between them. At the exact baud rate each byte arrives after the
    documented latency."""
    line, sink, left = Line(dut, bit_cycles()), StreamSink(dut, "o"), StreamMonitor(dut, "o")
    await start(dut)
    await ClockCycles(dut.clk, 10)
    for idle in (0.0, 0.4, 3.0):
        data = some_bytes()
        line.began.clear()
        left.items.clear()
        await line.sends(data, idle_bits=idle)
        got = bytes(await sink.receive(len(data)))
        assert got == data, f"seed {bench_seed()}, idle {idle}: got {got.hex()}, sent {data.hex()}"
        if bench_parameters()["error"] == 0:
            late = [cycle - began for (cycle, _), began in zip(left.items, line.began, strict=True)]
            assert set(late) == {bench_parameters()["rx_latency"]}, f"bytes arrived after {late} cycles"
    await ClockCycles(dut.clk, 20 * bench_parameters()["divisor"])
    assert not sink.received and not to_int(dut.overrun)


@cocotb.test()
async def bytes_leave(dut: Any) -> None:
    """Every bit of tx is ``divisor`` cycles long, and waiting bytes leave without a gap."""
    divisor = bench_parameters()["divisor"]
    pause = bench_parameters()["pause"]
    line, source = Line(dut, bit_cycles()), StreamSource(dut, "i", pause=pause, seed=bench_seed())
    entered = StreamMonitor(dut, "i")
    await start(dut)
    await source.send(*some_bytes())
    await ClockCycles(dut.clk, 11 * divisor)
    assert bytes(line.read) == some_bytes(), f"other bytes left at tx, seed {bench_seed()}, pause {pause}"
    assert line.starts == [cycle + 1 for cycle, _ in entered.items]
    if pause == "none":
        assert {later - earlier for earlier, later in pairwise(line.starts)} == {10 * divisor}


@cocotb.test()
async def lost_bytes_are_told(dut: Any) -> None:
    """If the FIFO is full, further bytes are lost and set ``overrun``. All other bytes arrive."""
    line, sink = Line(dut, bit_cycles()), StreamSink(dut, "o")
    sink.pause = itertools.repeat(True)
    await start(dut)
    await ClockCycles(dut.clk, 10)
    data = some_bytes(FIFO_BYTES + 5)
    await line.sends(data[:FIFO_BYTES])
    await ClockCycles(dut.clk, 10)
    assert not to_int(dut.overrun), "overrun is 1, but no byte was lost"
    await line.sends(data[FIFO_BYTES:-1])
    await ClockCycles(dut.clk, 10)
    assert to_int(dut.overrun), "overrun must be 1 after a byte was lost"
    sink.pause = itertools.repeat(False)
    assert bytes(await sink.receive(FIFO_BYTES)) == data[:FIFO_BYTES]
    await line.sends(data[-1:])
    assert bytes(await sink.receive(1)) == data[-1:]
    assert to_int(dut.overrun)
    await reset(dut)
    await ClockCycles(dut.clk, 2)
    assert not to_int(dut.overrun)


@cocotb.test()
async def a_byte_without_stop_bit_is_dropped(dut: Any) -> None:
    """A byte without stop bit is dropped. A glitch shorter than half a bit and a line that is held low
    cause no byte."""
    divisor = bench_parameters()["divisor"]
    line, sink = Line(dut, bit_cycles()), StreamSink(dut, "o")
    await start(dut)
    await ClockCycles(dut.clk, 10)
    for byte in some_bytes(8):
        await line.sends(bytes([byte]), stop=0, idle_bits=0.5)
        await line.sends(bytes([byte ^ 0x5A]))
        assert await sink.receive(1, 20 * divisor) == [byte ^ 0x5A], (
            f"the byte after {byte:#x} without stop bit is wrong, seed {bench_seed()}"
        )
        dut.rx.value = 0
        await ClockCycles(dut.clk, divisor // 2 - 2)
        dut.rx.value = 1
        await ClockCycles(dut.clk, 2 * divisor)
    dut.rx.value = 0
    await ClockCycles(dut.clk, 50 * divisor)
    dut.rx.value = 1
    await ClockCycles(dut.clk, 2 * divisor)
    assert not sink.received
    await line.sends(b"!")
    assert await sink.receive(1, 20 * divisor) == [ord("!")]


@cocotb.test()
async def reset_in_mid_byte(dut: Any) -> None:
    """After a reset in the middle of a byte in each direction, and a pause as long as a byte, the next
    bytes are right."""
    divisor = bench_parameters()["divisor"]
    line, sink, source = Line(dut, bit_cycles()), StreamSink(dut, "o"), StreamSource(dut, "i")
    await start(dut)
    draw = random.Random(bench_seed())
    for _ in range(12):
        byte, cycles = draw.randrange(256), draw.randrange(1, 10 * divisor)
        await ClockCycles(dut.clk, 12 * divisor)
        sending = cocotb.start_soon(line.sends(bytes([byte])))
        source.queue([byte])
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        source.clear()
        await ClockCycles(dut.clk, 2)
        await FallingEdge(dut.clk)
        assert to_int(dut.tx) == 1
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        await sending
        await ClockCycles(dut.clk, 12 * divisor)
        sink.received.clear()
        line.read.clear()
        await line.sends(bytes([byte ^ 0xFF]))
        await source.send(byte ^ 0xFF)
        await ClockCycles(dut.clk, 12 * divisor)
        assert list(sink.received) == line.read == [byte ^ 0xFF], (
            f"the bytes are wrong, seed {bench_seed()}, reset after {cycles} cycles"
        )


@cocotb.test()
async def the_chip_answers(dut: Any) -> None:
    """``SerialTop`` answers INFO over its serial line."""
    if "answer" not in bench_parameters():
        return
    line = Line(dut, bit_cycles())
    await start(dut)
    await ClockCycles(dut.clk, 100)
    await line.sends(encode_frame(Opcode.INFO, 9))
    wanted = bytes.fromhex(bench_parameters()["answer"])
    await ClockCycles(dut.clk, 10 * bench_parameters()["divisor"] * (len(wanted) + 3))
    assert bytes(line.read) == wanted
    assert not to_int(dut.overrun)
