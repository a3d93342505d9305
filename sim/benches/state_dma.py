"""Bench of the state DMA: it plays runs of several steps and layers, with a memory of words and a window in Python.

Every request must be the next request of ``StateDma.model``. The bench acts as MLGRU at the window. When the window is
loaded, each place must contain the state's value in memory. Then the bench changes all values, and the DMA must write
the new values to memory.
"""

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import STATE_BITS
from lutern.hw.memory import state_request_layout
from lutern.hw.state_dma import StateDma, unit_shape
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pauses, start, to_int, unpack

BASE = 5
"""First word of the states."""


class StateWords:
    """The memory of words at ``o_request`` and ``i_word``. The memory serves writes and reads in order, and sends the
    words of a read.

    ``expected`` yields the expected requests: (whether the request is a write, its address).
    """

    def __init__(self, dut: Any, config: HwConfig, state_words: int, size: int, pause: str, seed: int) -> None:
        self.config, self.state_words, self.seed = config, state_words, seed
        self.reads = self.writes = 0
        self.words = [random.Random(seed + place).getrandbits(config.word_bits) for place in range(size)]
        self.expected: Iterator[tuple[bool, int]] = iter(())
        self.given = StreamSource(dut, "i_word", pause=pause, seed=seed + 3)
        self.sink = StreamSink(dut, "o_request", pause=pause, seed=seed + 4)
        self.asked = StreamMonitor(dut, "o_request", on_item=self.on_request)
        self.took = StreamMonitor(dut, "i_word")

    def on_request(self, cycle: int, payload: int) -> None:
        """Serve a request, and compare it with the expected request."""
        fields = unpack(state_request_layout(self.config), payload)
        got = bool(fields["write"]), fields["address"]
        wanted = next(self.expected, None)
        assert got == wanted, f"cycle {cycle}: request (write, address) {got}, expected {wanted}, seed {self.seed}"
        if fields["write"]:
            self.writes += 1
            self.words[fields["address"]] = fields["payload"] & (1 << self.config.word_bits) - 1
        else:
            self.reads += 1
            assert fields["payload"] == self.state_words, (
                f"cycle {cycle}: a read requests {fields['payload']} words, seed {self.seed}"
            )
            self.given.queue(self.words[fields["address"] :][: self.state_words])

    def vector(self, first: int, places: int) -> list[int]:
        """Return the contents of ``places`` places of the window, stored from word ``first`` on."""
        bits = self.config.word_bits
        flat = sum(word << bits * k for k, word in enumerate(self.words[first : first + self.state_words]))
        place = self.config.results_per_cycle * STATE_BITS
        return [flat >> place * k & (1 << place) - 1 for k in range(places)]


class Bench:
    """Drives one StateDma through runs."""

    def __init__(self, dut: Any) -> None:
        parameters = bench_parameters()
        self.dut, self.seed = dut, bench_seed()
        self.config = config = HwConfig(**parameters["config"])
        self.beats, self.layers, self.steps = parameters["beats"], parameters["layers"], parameters["steps"]
        self.pause = parameters["pause"]
        self.random = random.Random(self.seed)
        per_word, words = unit_shape(config)
        self.state_words = -(-self.beats // per_word) * words
        self.slots = config.streams + 1
        size = BASE + self.slots * self.layers * self.state_words + 2
        self.memory = StateWords(dut, config, self.state_words, size, self.pause, self.seed)
        self.window: dict[int, int] = {}
        self.in_use = False
        self.index_bits = len(dut.window__place) - (config.stream_bits if config.streams > 1 else 0)
        self.events: list[tuple[str, int]] = []
        for name, value in (("state_base", BASE), ("state_words", self.state_words), ("layers", self.layers)):
            getattr(dut, name).value = value
        for name in ("begins", "window__written", "window__used", "window__granted"):
            getattr(dut, name).value = 0
        cocotb.start_soon(self.serve())

    def place(self, stream: int, index: int) -> int:
        return index | stream << self.index_bits

    async def serve(self) -> None:
        """Serve the window. The data of a place that is read are driven one cycle later. In other cycles the data are
        random."""
        grant = pauses(self.pause, self.seed + 5)
        data = 0
        while True:
            await RisingEdge(self.dut.clk)
            self.dut.window__data.value = data
            granted = not next(grant)
            self.dut.window__granted.value = int(granted)
            await FallingEdge(self.dut.clk)
            place = to_int(self.dut.window__place)
            data = self.window.get(place, 0) if granted else self.random.getrandbits(len(self.dut.window__data))
            if to_int(self.dut.window__fill):
                assert not self.in_use, f"cycle {cycle_now()}: the window is filled while it is used, seed {self.seed}"
                self.window[place] = to_int(self.dut.window__fill_data)

    async def pulse(self, name: str) -> None:
        """Set a port to 1 for one cycle, and record the cycle."""
        await RisingEdge(self.dut.clk)
        getattr(self.dut, name).value = 1
        await FallingEdge(self.dut.clk)
        self.events.append((name, cycle_now()))
        await RisingEdge(self.dut.clk)
        getattr(self.dut, name).value = 0

    async def wait_for(self, name: str) -> None:
        """Wait until a port is 1, and record this cycle."""
        for _ in range(20_000):
            await FallingEdge(self.dut.clk)
            if to_int(getattr(self.dut, name)):
                self.events.append((name, cycle_now()))
                return
        raise TimeoutError(f"state_dma: {name} did not rise, seed {self.seed}")

    async def run(self, active: int, steps: int, *, chained: bool) -> None:
        """Play a run of ``active`` streams. Their states are in random slots."""
        dut, memory = self.dut, self.memory
        slots = [self.random.randrange(self.slots)] * active if chained else []
        slots = slots or self.random.sample(range(self.slots), active)
        bases = [slot * self.layers * self.state_words for slot in slots]
        memory.expected = StateDma.model(BASE, self.state_words, self.layers, bases, steps, chained=chained)
        await self.pulse("begins")
        dut.bases.value = sum(base << self.config.address_bits * stream for stream, base in enumerate(bases))
        dut.final_stream.value, dut.chained.value = active - 1, int(chained)
        for step in range(steps):
            for layer in range(self.layers):
                await self.wait_for("window__loaded")
                self.in_use = True
                dut.goes_on.value = int(step < steps - 1) if layer == self.layers - 1 else self.random.randrange(2)
                where = f"step {step}, layer {layer}, seed {self.seed}"
                firsts = [BASE + base + layer * self.state_words for base in bases]
                for stream in range(1 if chained else active):
                    got = [self.window[self.place(stream, index)] for index in range(self.beats)]
                    assert got == memory.vector(firsts[stream], self.beats), (
                        f"the window does not contain the state of stream {stream}, {where}"
                    )
                self.window = {place: self.random.getrandbits(len(dut.window__data)) for place in self.window}
                for stream in range(active):
                    for index in range(self.beats):
                        self.window[self.place(stream, index)] = self.random.getrandbits(len(dut.window__data))
                new = dict(self.window)
                writes = memory.writes + self.state_words * (1 if chained else active)
                await self.pulse("window__written")
                if self.random.randrange(2):
                    await self.saved(writes)
                    await ClockCycles(dut.clk, self.random.randrange(self.state_words + 10))
                self.in_use = False
                await self.pulse("window__used")
                await self.saved(writes)
                for stream in range(active - 1 if chained else 0, active):
                    wanted = [new[self.place(stream, index)] for index in range(self.beats)]
                    assert memory.vector(firsts[stream], self.beats) == wanted, (
                        f"the memory does not contain the new state of stream {stream}, {where}"
                    )
        await self.wait_for("idle")
        assert next(memory.expected, None) is None, f"not all requests of the run came, seed {self.seed}"

    async def saved(self, writes: int) -> None:
        """Wait until ``writes`` words have been written since the start."""
        for _ in range(20_000):
            if self.memory.writes == writes:
                return
            await FallingEdge(self.dut.clk)
        raise TimeoutError(f"state_dma: {self.memory.writes} of {writes} words were written, seed {self.seed}")

    def check_cycles(self) -> None:
        """Check that without pauses every request and every word comes in the cycle that follows from the documented
        latencies."""
        places, words = unit_shape(self.config)
        layout = state_request_layout(self.config)
        events = [
            *self.events,
            *(("write" if unpack(layout, item)["write"] else "read", cycle) for cycle, item in self.memory.asked.items),
            *(("word", cycle) for cycle, _ in self.memory.took.items),
        ]
        due: dict[str, int] = {}
        last: dict[str, int] = {}
        checked, count = 0, 0
        for name, cycle in sorted(events, key=lambda event: event[1]):
            assert due.get(name, cycle) == cycle, f"{name} came in cycle {cycle}, not in {due[name]}, seed {self.seed}"
            checked += name in due
            last[name] = cycle
            if name == "begins":
                due = {"read": cycle + 2}
            elif name == "read":
                due, count = {"word": cycle + 1}, 0
            elif name in ("word", "write"):
                count += 1
                between = places + (1 if name == "write" else 0)
                due = {name: cycle + 1 + (between if count % words == 0 else 0)}
                if count == self.state_words:
                    count = 0
                    due = {"read": cycle + places + 2, "window__loaded": cycle + places + 1}
                    if name == "write":
                        due = {"write": cycle + places + 3, "read": max(cycle, last.get("window__used", 0)) + 3}
            elif name == "window__written":
                due, count = {"write": cycle + places + 3}, 0
            elif name == "window__used" and "read" in due:
                due = {"read": cycle + 3}
        assert checked > 20, f"only {checked} cycles were checked, seed {self.seed}"


@cocotb.test()
async def runs_equal_the_model(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    streams = bench.config.streams
    for active in (streams, 1, bench.random.randint(1, streams)):
        await bench.run(active, bench.random.randint(1, bench.steps), chained=False)
        if streams > 1:
            await bench.run(bench.random.randint(2, streams), 1, chained=True)
    if bench.pause == "none":
        bench.check_cycles()
