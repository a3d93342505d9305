"""Bench of the recurrence with its state in the memory of words. This bench extends ``sim/benches/mlgru.py`` by runs of
a few steps.

beats of F, I, G ─► Mlgru ◄─ window ─► StateDma ◄─► words in Python, which must equal the golden states after each run
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from lutern.hw.layouts import STATE_BITS
from lutern.hw.state_dma import StateDma, unit_shape
from lutern.sim.benches import mlgru
from lutern.sim.benches.mlgru import EDGES
from lutern.sim.benches.state_dma import BASE, StateWords
from lutern.sim.benches.vectors import flat
from lutern.sim.runner import bench_parameters
from lutern.sim.streams import start, to_int


class Bench(mlgru.Bench):
    """Adds a memory of words, and runs of several steps. The golden state of a slot begins at ``slot * layers * beats *
    lanes``."""

    def prepare(self) -> None:
        per_word, words = unit_shape(self.config)
        self.state_words = -(-self.beats // per_word) * words
        size = BASE + self.active * self.layers * self.state_words
        pause = bench_parameters()["memory"]
        self.memory = StateWords(self.dut, self.config, self.state_words, size, pause, self.seed)
        for name, value in (("state_base", BASE), ("state_words", self.state_words), ("layers", self.layers)):
            getattr(self.dut, name).value = value
        self.dut.final_stream.value = self.active - 1
        self.dut.begins.value = 0

    def set_slots(self, slots: list[int]) -> None:
        self.slots = [0] * self.active if self.chained else slots
        self.bases = [slot * self.layers * self.state_words for slot in self.slots]
        self.dut.bases.value = sum(base << self.config.address_bits * stream for stream, base in enumerate(self.bases))

    def first_of(self, fields: dict[str, int]) -> int:
        slot = self.slots[fields["stream"]] * self.layers + self.place[1]
        return (slot * self.beats + fields["index"]) * self.lanes

    async def until(self, what: str, holds: Callable[[], int]) -> None:
        """Wait until ``holds()`` is not 0. Raises TimeoutError after some thousand cycles."""
        for _ in range(5_000):
            if holds():
                return
            await FallingEdge(self.dut.clk)
        raise TimeoutError(f"mlgru_with_dma: waited for {what}, seed {self.seed}")

    def has_read(self, count: int) -> bool:
        """Return whether ``count`` reads have been requested since the start."""
        return self.memory.reads >= count

    async def run_steps(self, names: list[str]) -> None:
        """Play one run with a step for each name."""
        self.memory.expected = StateDma.model(
            BASE, self.state_words, self.layers, self.bases, len(names), chained=self.chained
        )
        reads, loads = self.memory.reads, 1 if self.chained else self.active
        await RisingEdge(self.dut.clk)
        self.dut.begins.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.begins.value = 0
        for number, name in enumerate(names):
            if number:
                self.set_fresh(0)
            self.dut.goes_on.value = int(number < len(names) - 1)
            self.source.queue(self.token(name))
            await self.until("the source", lambda: not self.source.pending)
            last = number == len(names) - 1
            wanted = reads + (1 + (number + 1) * self.layers - last) * loads
            await self.until("reads", partial(self.has_read, wanted))
        await self.until("idle", lambda: to_int(self.dut.idle))
        assert next(self.memory.expected, None) is None, f"not all requests of the run came, seed {self.seed}"
        for slot in set(self.slots):
            for layer in range(self.layers):
                place = slot * self.layers + layer
                elements = self.state[place * self.beats * self.lanes :][: self.beats * self.lanes]
                beats = elements.reshape(self.beats, self.lanes)
                got = self.memory.vector(BASE + place * self.state_words, self.beats)
                wanted = [flat(beat, STATE_BITS) for beat in beats]
                assert got == wanted, f"S of slot {slot}, layer {layer} is wrong in memory, seed {self.seed}"


@cocotb.test()
async def runs_equal_the_golden_model(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    names = [*EDGES, *["random"] * bench_parameters()["tokens"]]
    number = 0
    while number < len(names):
        steps = 1 if bench.chained else int(bench.generator.integers(1, 4))
        if number >= len(EDGES):
            bench.set_slots(bench.generator.permutation(bench.active).tolist())
            bench.set_fresh(int(bench.generator.integers(0, 1 << bench.active)))
        await bench.run_steps(names[number : number + steps])
        bench.set_fresh(0)
        number += steps
    count = len(names) * bench.layers * bench.beats * bench.active
    await bench.sink.receive(count, 2000)
    assert bench.v_board.finish() == bench.s_board.finish() == count
