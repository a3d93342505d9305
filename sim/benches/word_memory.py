"""Bench of the memory of words over a source that answers late. It runs the test cases of the memories on the chip, and
tests reads and writes of the state, and sources that answer wrongly or never."""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from lutern.hw.memory import Fault, state_request_layout
from lutern.sim.benches import memory as memory_bench
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start, to_int

ROW_CYCLES = 120
"""Largest number of cycles from a token to the last of the 6 words of its row, with random pauses. The source's latency
is not included."""


class Bench(memory_bench.Bench):
    """Can also request words of the state."""

    def __init__(self, dut: Any, pause: str | None = None) -> None:
        super().__init__(dut, pause)
        for name in ("mute", "astray", "stall"):
            getattr(dut, name).value = 0
        dut.i_test__valid.value, dut.o_test__ready.value = 0, 0
        self.has_state = self.config.state == "memory"
        if self.has_state:
            running = memory_bench._Running(dut)
            self.asks = StreamSource(dut, "i_state", pause=self.pause, seed=self.seed + 21)
            self.state = Scoreboard("memory.o_state", seed=self.seed, bits=self.config.word_bits)
            self.state_sink = StreamSink(running, "o_state", pause=self.pause, seed=self.seed + 22)
            self.state_left = StreamMonitor(running, "o_state", on_item=self.state.check)

    def ask_state(self, write: int, address: int, payload: int) -> None:
        """Request to write a word, or to read words."""
        fields = {"write": write, "address": address, "payload": payload}
        self.asks.queue([pack(state_request_layout(self.config), fields)])
        if write:
            self.words[address] = payload
            return
        for index in range(address, address + payload):
            self.state.expect(self.words[index], index=index)

    async def state_came(self) -> None:
        await self.asks.drained()
        for _ in range(4000):
            if not self.state.pending:
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError(f"{len(self.state.pending)} words of state did not come, seed {self.seed}")


memory_bench.Bench = Bench  # type: ignore[misc]
host_reads_what_it_wrote = memory_bench.host_reads_what_it_wrote
rows_go_first = memory_bench.rows_go_first
a_large_table = memory_bench.a_large_table
writes_while_reading = memory_bench.writes_while_reading
stops_and_resets_in_mid_row = memory_bench.stops_and_resets_in_mid_row


@cocotb.test()
async def the_stream_repeats(dut: Any) -> None:
    """Record streams of several lengths repeat correctly, and restart after stops of one cycle with any number of words
    in flight."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for record_words in (1, 7, 9, 100):
        await bench.run(**bench.shape(record_words))
        await ClockCycles(dut.clk, 600)
        assert len(bench.cycles("o_words")) > 60, f"only {len(bench.cycles('o_words'))} words came, seed {bench.seed}"
        await bench.stop()
    for wait in range(0, 60, 3):
        await bench.run(**bench.shape(1 + wait))
        await ClockCycles(dut.clk, wait)
        await bench.stop(1)
    bench.read(0, 64)
    await bench.finish()


@cocotb.test()
async def a_stream_that_nobody_takes(dut: Any) -> None:
    """If no word of the record stream is accepted, rows and the state still come in time."""
    bench = Bench(dut, "none")
    bench.sinks["o_words"].pause = memory_bench._held(1 << 30)
    await start(dut)
    await bench.fill()
    await bench.run(**bench.shape(100, 6))
    await ClockCycles(dut.clk, 2 * bench.parameters["latency"] + 600)
    for token in range(4):
        if bench.has_state:
            bench.ask_state(0, 10, 6)
        begun = len(bench.left["o_row"].items)
        bench.token(token)
        await bench.sources["i_start"].drained()
        await ClockCycles(dut.clk, bench.parameters["latency"] + ROW_CYCLES)
        assert len(bench.left["o_row"].items) == begun + 6, f"row {token} is late, seed {bench.seed}"
        if bench.has_state:
            await bench.state_came()
    assert not bench.cycles("o_words")


@cocotb.test()
async def state_is_read_and_written(dut: Any) -> None:
    """Words of the state are read and written in order, while the record stream and rows continue. A stop drops words
    in flight, and keeps all written words."""
    bench = Bench(dut)
    if not bench.has_state:
        return
    await start(dut)
    await bench.fill()
    draw, words = bench.draw, len(bench.words)
    for _ in range(3):
        await bench.run(**bench.shape(30, 5))
        for _ in range(40):
            address = draw.randrange(30, words - 60)
            if draw.random() < 0.5:
                bench.ask_state(1, address, draw.getrandbits(bench.config.word_bits))
            else:
                bench.ask_state(0, address, draw.randrange(12))
            if draw.random() < 0.3:
                bench.token(draw.randrange(9))
                await ClockCycles(dut.clk, draw.randrange(40))
        await bench.state_came()
        await bench.finish()
        for address in range(40, 48):
            bench.ask_state(1, address, draw.getrandbits(bench.config.word_bits))
        await bench.asks.drained()
        bench.ask_state(0, 32, 20)
        await bench.asks.drained()
        await ClockCycles(dut.clk, draw.randrange(30))
        bench.state.pending.clear()
        await bench.stop()
        bench.read(30, 30)
        await bench.finish()


@cocotb.test()
async def a_faulty_source_is_named(dut: Any) -> None:
    """A source that loses words, names another client or accepts no job causes the right fault. A good source causes no
    fault."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    for name, fault in (("mute", Fault.SILENT), ("astray", Fault.DISORDER), ("stall", Fault.SILENT)):
        await bench.run(**bench.shape(40))
        await ClockCycles(dut.clk, 3000)
        assert to_int(dut.fault) == Fault.NONE, f"a good source caused a fault, seed {bench.seed}"
        for board in ("o_words", "o_row"):
            bench.left[board].on_item = None
        getattr(dut, name).value = 1
        bench.sources["i_start"].queue([3])
        await ClockCycles(dut.clk, bench.parameters["watch_cycles"] + 2 * bench.parameters["latency"] + 400)
        assert to_int(dut.fault) == fault, (
            f"{name} must cause fault {fault}, but the fault is {to_int(dut.fault)}, seed {bench.seed}"
        )
        getattr(dut, name).value = 0
        await ClockCycles(dut.clk, 50)
        assert to_int(dut.fault) == fault, f"{name}: the fault does not stay, seed {bench.seed}"
        dut.running.value, dut.rst.value = 0, 1
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 30)
