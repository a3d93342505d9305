"""Bench of the SDRAM memory: the test cases of the memories on the chip, and march tests of a part with faults."""

from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge

from lutern.hw.memory.march_test import pattern
from lutern.hw.protocol import MEMORY_TEST_DONE
from lutern.sim.benches import memory as memory_bench
from lutern.sim.sdram import Rule
from lutern.sim.streams import StreamSink, StreamSource, start, to_int, unpack


class Bench(memory_bench.Bench):
    """Can also run march tests, and fails at the first broken rule of the part."""

    def __init__(self, dut: Any, pause: str | None = None) -> None:
        super().__init__(dut, pause)
        dut.stuck.value, dut.joined.value = 0, 0
        self.ranges = StreamSource(dut, "i_test", pause=self.pause, seed=self.seed + 11)
        self.results = StreamSink(dut, "o_test", pause=self.pause, seed=self.seed + 12)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            error = Rule(to_int(self.dut.error))
            assert error == Rule.NONE, f"rule {error.name} is broken, seed {self.seed}"

    async def march(self, first: int, count: int) -> dict[str, int]:
        """Return the result of a march test of a range."""
        self.ranges.queue([first | count << self.config.address_bits])
        return unpack(MEMORY_TEST_DONE.layout, (await self.results.receive(1, 20_000))[0])


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
    for record_words in (1, 2, 7, 8, 9, 40, 100):
        await bench.run(**bench.shape(record_words))
        await ClockCycles(dut.clk, 400)
        assert len(bench.cycles("o_words")) > 60, f"only {len(bench.cycles('o_words'))} words came"
        await bench.stop()
    for wait in range(0, 60):
        await bench.run(**bench.shape(1 + wait))
        if wait % 3:
            bench.token(wait % 9)
        await ClockCycles(dut.clk, wait)
        dut.running.value = 0
        for name in ("o_row", "o_words"):
            bench.boards[name].pending.clear()
        bench.sources["i_start"].clear()
        await ClockCycles(dut.clk, 1)
    await bench.run(**bench.shape(40))
    await ClockCycles(dut.clk, 400)
    assert len(bench.cycles("o_words")) > 60
    await bench.stop()
    bench.read(0, 64)
    await bench.finish()


@cocotb.test()
async def a_march_finds_faults(dut: Any) -> None:
    """The march test finds no error in a good part, and finds a stuck bit and an address line without effect. It
    changes only the words of the range."""
    bench = Bench(dut)
    await start(dut)
    await bench.fill()
    bits = bench.config.word_bits
    first, count = 5, 70
    result = await bench.march(first, count)
    assert (result["errors"], result["address"], result["wanted"], result["got"]) == (0, 0, 0, 0)
    assert result["wrong_bytes"] == 0
    print(f"march: {result['cycles'] / count:.1f} cycles per word")
    for address in range(first, first + count):
        bench.words[address] = pattern(address, bits)
    for address in range(0, len(bench.words), 16):
        bench.read(address, 16)
    await bench.finish()

    stuck = 3
    dut.stuck.value = 1 << stuck
    result = await bench.march(0, 128)
    zeros = [address for address in range(128) if not pattern(address, bits) >> stuck & 1]
    assert result["errors"] == 2 * len(zeros) + 128 - len(zeros)  # p is read twice, ~p once
    assert result["address"] == zeros[0] and result["wanted"] == pattern(zeros[0], bits)
    assert result["got"] ^ result["wanted"] == 1 << stuck
    assert result["wrong_bytes"] == 1 << stuck // 8
    for bit in (0, bits // 2, bits - 1):
        dut.stuck.value = 1 << bit
        assert (await bench.march(0, 16))["wrong_bytes"] == 1 << bit // 8, (
            f"wrong_bytes must name the byte of bit {bit}"
        )
    dut.stuck.value = 0

    for line in range(bench.parameters["column_bits"]):
        dut.joined.value = 1 << line
        result = await bench.march(0, 128)
        assert result["errors"] and result["wanted"] != result["got"], (
            f"address line {line} has no effect, and the test did not find it"
        )
    dut.joined.value = 0
    assert (await bench.march(0, 1))["errors"] == 0
    assert (await bench.march(127, 1))["errors"] == 0
