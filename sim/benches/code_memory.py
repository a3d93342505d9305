"""Bench of the code memory: vectors of any length are kept and read again, or are read while they are written."""

import random
from itertools import chain
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from lutern.hw.code_memory import CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.layouts import CODE_BITS, ENGINE_OP, codes_payload, quantised_payload
from lutern.sim.benches.vectors import flat
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, start


class Bench:
    """Drives one CodeMemory. The reference stores the two banks, so it also contains the codes after the end of a
    vector."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed, self.pause = dut, bench_seed(), parameters["pause"]
        self.config, self.active = HwConfig("bench", **parameters["config"]), parameters["active"]
        dut.final_stream.value = self.active - 1
        self.draw = random.Random(self.seed)
        self.codes = StreamSource(dut, "i_codes", pause=self.pause, seed=self.seed)
        self.ops = StreamSource(dut, "i_op", pause=self.pause, seed=self.seed + 1)
        self.sink = StreamSink(dut, "o", pause=self.pause, seed=self.seed + 2)
        self.written = StreamMonitor(dut, "i_codes")
        # In messages, "layer" is the number of the operation, "token" is the number of the row group, and "index" is
        # the first column of the beat.
        self.board = Scoreboard(
            "code_memory.codes, operation as layer, row group as token",
            seed=self.seed,
            bits=codes_payload(self.config).size,
        )
        self.left = StreamMonitor(dut, "o", on_item=self.board.check)
        self.restart()

    def restart(self) -> None:
        """Restart the reference as at a reset. The next vector goes to the first bank, and the contents of both banks
        stay."""
        self.board.pending.clear()
        self.bank, self.count = 0, 0
        if not hasattr(self, "banks"):
            self.banks = [[[0] * self.config.max_width for _ in range(self.config.streams)] for _ in range(2)]

    def vector(self, length: int, *row_groups: int) -> None:
        """Queue one vector for each stream, and one operation on these vectors for each number in ``row_groups``, which
        is the operation's number of row groups. All operations except the last keep the vectors in their bank."""
        config, draw = self.config, self.draw
        bank, per_cycle, columns = self.banks[self.bank], config.codes_per_cycle, config.columns
        for stream, codes in enumerate(bank[: self.active]):
            codes[:length] = [draw.randrange(-127, 128) for _ in range(length)]
            self.codes.queue(
                pack(
                    quantised_payload(config),
                    {
                        "codes": flat(codes[left : left + per_cycle], CODE_BITS),
                        "stream": stream,
                        "last": left + per_cycle >= length,
                    },
                )
                for left in range(0, length, per_cycle)
            )
        column_beats, full = -(-length // columns), config.rows // config.results_per_cycle
        for index, groups in enumerate(row_groups):
            last_results = draw.randrange(1, full + 1)
            self.ops.queue(
                [
                    pack(
                        ENGINE_OP,
                        {
                            "row_groups": groups,
                            "column_beats": column_beats,
                            "last_results": last_results,
                            "keep": index < len(row_groups) - 1,
                        },
                    )
                ]
            )
            for group in range(groups):
                ends = group == groups - 1
                for beat in range(column_beats):
                    self.board.expect(
                        pack(
                            codes_payload(config),
                            {
                                "codes": flat(
                                    chain(*(codes[beat * columns : (beat + 1) * columns] for codes in bank)), CODE_BITS
                                ),
                                "last_column": beat == column_beats - 1,
                                "last_row_group": ends,
                                "results": last_results if ends else full,
                            },
                        ),
                        token=group,
                        layer=self.count,
                        index=beat * columns,
                    )
            self.count += 1
        self.bank ^= 1

    async def run(self) -> None:
        await self.sink.receive(len(self.board.pending), 500)
        await ClockCycles(self.dut.clk, 10)
        assert not self.ops.pending and not self.codes.pending
        self.board.finish()


@cocotb.test()
async def vectors_of_any_length(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    step, longest = bench.config.codes_per_cycle, bench.config.max_width
    for length in (step, longest, bench.config.columns, longest, step, longest - step):
        bench.vector(length, 1)
        bench.vector(length, 3, 2)
    for _ in range(30):
        length = step * bench.draw.randrange(1, longest // step + 1)
        bench.vector(length, *(bench.draw.randrange(1, 5) for _ in range(bench.draw.choice((1, 1, 2, 3)))))
    await bench.run()


@cocotb.test()
async def codes_arrive_after_the_operation(dut: Any) -> None:
    """If an operation waits for codes, each beat leaves ``latency`` cycles after its last code was written. After the
    last code, a beat leaves in each cycle.

    If the vector does not fill its last beat, this beat takes one more cycle on a code memory in LUTs.
    """
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    parts = config.columns // config.codes_per_cycle
    for length in (config.max_width, config.columns, config.max_width - config.codes_per_cycle):
        bench.written.items.clear()
        bench.left.items.clear()
        bench.vector(length, 2)
        await bench.run()
        if bench.pause != "none":
            continue
        writes = [cycle for cycle, _ in bench.written.items][-(length // config.codes_per_cycle) :]  # the last stream
        ends = [*writes[parts - 1 :: parts], *([writes[-1]] if len(writes) % parts else [])]
        reads = [cycle for cycle, _ in bench.left.items]
        first = [cycle + bench_parameters()["latency"] for cycle in ends]
        first[-1] += bool(len(writes) % parts) and CodeMemory.is_in_luts(config)
        assert reads == first + [first[-1] + 1 + beat for beat in range(len(ends))], (
            f"beats left in wrong cycles: last codes were written in {ends}, beats were read in {reads}"
        )


@cocotb.test()
async def operations_follow_without_an_idle_cycle(dut: Any) -> None:
    """If the codes are in a bank, a beat leaves in every cycle, also at the change to the next operation.

    Each call of ``vector`` queues vectors and two operations on these vectors. The vectors of the third call go to the
    bank of the first call's vectors. Their first codes are written as soon as both operations have read this bank for
    the last time.
    """
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    parts = config.columns // config.codes_per_cycle
    for _ in range(6):
        bench.vector(config.max_width, parts * bench.active + 1, 1)
    beats = config.max_width // config.columns
    await bench.run()
    if bench.pause == "none":
        reads = [cycle for cycle, _ in bench.left.items]
        assert reads[-1] - reads[beats] == len(reads) - beats - 1, f"in some cycle no beat was sent: {reads}"
        writes = [cycle for cycle, _ in bench.written.items]
        shown = reads[beats * (parts * bench.active + 2) - 1]  # the last beat of the first call
        freed = shown - CodeMemory.read_latency_of(config) + CodeMemory.bank_latency
        third = writes[2 * beats * parts * bench.active]
        assert third == freed, f"the bank was free in cycle {freed}, but first written in cycle {third}"


@cocotb.test()
async def reset_in_mid_vector(dut: Any) -> None:
    """Whole vectors after a reset are right, even if another vector was partly written or partly read
    before the reset."""
    bench = Bench(dut)
    config = bench.config
    await start(dut)
    for cycles in (1, 2, 3, 7, 12, 20, 33, 50, 70):
        bench.vector(config.max_width, 2, 1)
        bench.vector(config.max_width, 3)
        await ClockCycles(dut.clk, cycles)
        dut.rst.value = 1
        bench.codes.clear()
        bench.ops.clear()
        bench.restart()
        bench.sink.received.clear()
        bench.vector(config.columns, 2)
        bench.vector(config.max_width, 1)
        await ClockCycles(dut.clk, 2)
        await RisingEdge(dut.clk)
        bench.sink.received.clear()
        dut.rst.value = 0
        await bench.run()
