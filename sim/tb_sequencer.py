"""Bench of the sequencer: operations dealt to four queues, full queues, and the loop of tokens."""

import random
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.layouts import ENGINE_OP, GAINS_OP, OPERATION, QUANTISE_OP, RESULTS_OP, Op
from lutern.hw.protocol import RUN_LAYOUT, TOKEN_LAYOUT
from lutern.hw.sequencer import QUEUE_DEPTH
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

OUTPUTS = {"quantise": QUANTISE_OP, "engine": ENGINE_OP, "results": RESULTS_OP, "gains": GAINS_OP}


def wanted(op: dict[str, int]) -> dict[str, dict[str, int]]:
    """Which stages get an operation, and what is derived for them."""
    embed, own_codes = op["op"] == Op.EMBED, int(op["op"] != Op.EMBED and not op["reuse"])
    outputs: dict[str, dict[str, int]] = {"results": {"scaled": own_codes}}
    if own_codes:
        outputs["quantise"] = {}
    if not embed:
        outputs["engine"] = {}
    if op["op"] == Op.F or op["makes_vector"]:
        outputs["gains"] = {"bounds": int(op["op"] == Op.F)}
    return outputs


class Bench:
    """Source of operations, boards of the four outputs; `sinks` names the outputs that are taken from the start."""

    def __init__(self, dut: Any, sinks: tuple[str, ...] = tuple(OUTPUTS)) -> None:
        self.dut, self.seed, pause = dut, bench_seed(), bench_parameters()["pause"]
        self.draw = random.Random(self.seed)
        self.source = StreamSource(dut, "i_op", pause=pause, seed=self.seed)
        self.boards = {name: Scoreboard(f"sequencer.{name}", seed=self.seed, bits=layout.size)
                       for name, layout in OUTPUTS.items()}
        self.entered = StreamMonitor(dut, "i_op", on_item=self.on_op)
        self.left = {name: StreamMonitor(dut, f"o_{name}", on_item=board.check) for name, board in self.boards.items()}
        self.sinks = {name: StreamSink(dut, f"o_{name}", pause=pause, seed=self.seed + index)
                      for index, name in enumerate(OUTPUTS) if name in sinks}

    def operations(self, count: int) -> list[int]:
        """Any bits, an operation that exists, EMBED and reuse often."""
        items = []
        for _ in range(count):
            fields = unpack(OPERATION, self.draw.getrandbits(OPERATION.size))
            fields["op"] = self.draw.choice([*Op, Op.EMBED, Op.F])
            items.append(pack(OPERATION, self.nested(fields)))
        return items

    @staticmethod
    def nested(fields: dict[str, int]) -> dict[str, Any]:
        """Nested layouts again as mappings."""
        inner = {name: shape for name, shape in OPERATION.members.items() if hasattr(shape, "members")}
        return {name: unpack(inner[name], value) if name in inner else value for name, value in fields.items()}

    def on_op(self, cycle: int, payload: int) -> None:
        op = unpack(OPERATION, payload)
        for name, derived in wanted(op).items():
            fields = {key: derived.get(key, op.get(key, 0)) for key, _ in OUTPUTS[name]}
            expected = pack(OUTPUTS[name], self.nested(fields))
            self.boards[name].expect(expected, index=len(self.entered.items) - 1)


@cocotb.test()
async def operations_are_dealt(dut: Any) -> None:
    bench = Bench(dut)
    await start(dut)
    await bench.source.send(*bench.operations(400))
    await ClockCycles(dut.clk, 200)
    for board in bench.boards.values():
        board.finish()
    if bench_parameters()["pause"] == "none":
        for name, monitor in bench.left.items():
            causes = [cycle for cycle, op in bench.entered.items if name in wanted(unpack(OPERATION, op))]
            assert [cycle for cycle, _ in monitor.items] == [cycle + bench_parameters()["latency"] for cycle in causes]


@cocotb.test()
async def a_full_queue_stops_the_stream(dut: Any) -> None:
    """Whatever queue is full, nothing is lost and nothing is dealt twice."""
    for name in OUTPUTS:
        getattr(dut, f"o_{name}__ready").value = 0
    bench = Bench(dut, sinks=())
    await start(dut)
    bench.source.queue(bench.operations(40))
    await ClockCycles(dut.clk, 60)
    most = max(sum(name in wanted(unpack(OPERATION, op)) for _, op in bench.entered.items) for name in OUTPUTS)
    assert most == QUEUE_DEPTH == bench_parameters()["depth"], f"{most} operations in a queue"
    for name in OUTPUTS:
        await ClockCycles(dut.clk, 20)
        StreamSink(dut, f"o_{name}")
    await ClockCycles(dut.clk, 100)
    assert len(bench.entered.items) == 40
    for board in bench.boards.values():
        board.finish()


@cocotb.test()
async def reset_empties_the_queues(dut: Any) -> None:
    for name in OUTPUTS:
        getattr(dut, f"o_{name}__ready").value = 0
    bench = Bench(dut, sinks=())
    await start(dut)
    bench.source.queue(bench.operations(40))
    await ClockCycles(dut.clk, 15)
    dut.rst.value = 1
    bench.source.clear()
    bench.source.queue(bench.operations(5))
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    for name, board in bench.boards.items():
        board.pending.clear()
        StreamSink(dut, f"o_{name}")
    await ClockCycles(dut.clk, 50)
    assert sum(board.checked_count for board in bench.boards.values()) >= 5
    assert not any(board.pending for board in bench.boards.values())


@dataclass(frozen=True)
class Sample:
    """What the ports showed in a cycle; transfers as payloads, None without one."""

    cycle: int
    run: dict[str, int] | None
    start: int | None
    start_valid: int
    token: int | None
    chosen: dict[str, int] | None
    fresh: int
    beat: int
    counts: tuple[int, int]


class Loop:
    """Plays host, reader and head, and keeps a sample of every cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.seed, pause = dut, bench_seed(), bench_parameters()["pause"]
        self.draw = random.Random(self.seed)
        self.runs = StreamSource(dut, "i_run", pause=pause, seed=self.seed)
        self.head = StreamSource(dut, "i_token")
        StreamSink(dut, "o_start", pause=pause, seed=self.seed)
        self.sink = StreamSink(dut, "o_token", pause=pause, seed=self.seed + 1)
        for name in ("i_run", "o_start", "i_token", "o_token"):
            StreamMonitor(dut, name)
        self.samples: list[Sample] = []
        cocotb.start_soon(self.watch())

    def taken(self, name: str) -> int | None:
        valid, ready = getattr(self.dut, f"{name}__valid"), getattr(self.dut, f"{name}__ready")
        return to_int(getattr(self.dut, f"{name}__payload")) if to_int(valid) and to_int(ready) else None

    async def choose(self, token: int) -> None:
        """The head answers after a while."""
        await ClockCycles(self.dut.clk, self.draw.choice((1, 2, 30)))
        self.head.queue([token])

    async def watch(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.dut.beat.value = beat = self.draw.randrange(2)
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            run, chosen, begun = self.taken("i_run"), self.taken("o_token"), self.taken("o_start")
            if begun is not None:
                cocotb.start_soon(self.choose(self.draw.randrange(1 << 16)))
            self.samples.append(Sample(
                cycle_now(), None if run is None else unpack(RUN_LAYOUT, run), begun, to_int(self.dut.o_start__valid),
                self.taken("i_token"), None if chosen is None else unpack(TOKEN_LAYOUT, chosen), to_int(self.dut.fresh),
                beat,
                (to_int(self.dut.cycles), to_int(self.dut.beats)),
            ))

    def check(self) -> int:
        """Tokens that passed, each with its start, counts, flag and answer."""
        left, tokens, fresh, cause = 0, 0, 0, None
        since: list[Sample] = []
        for now in self.samples:
            where = f"cycle {now.cycle}, token {tokens}, seed {self.seed}"
            assert (now.token is None) == (now.chosen is None), where
            if cause is None:
                assert not now.start_valid and now.token is None, f"{where}: no run, yet a start or a token"
            else:
                since.append(now)
                assert now.fresh == fresh, f"{where}: fresh is {now.fresh}"
                assert len(since) > 1 or now.start_valid, f"{where}: the reader was not started"
            if now.token is not None:
                starts = [sample.start for sample in since if sample.start is not None]
                assert starts == [cause], f"{where}: starts {starts}, expected {cause}"
                counts = len(since), sum(sample.beat for sample in since[:-1])
                assert now.counts == counts, f"{where}: (cycles, beats) {now.counts}, expected {counts}"
                left -= 1
                assert now.chosen == {"token": now.token, "last": int(left == 0)}, f"{where}: got {now.chosen}"
                tokens, fresh, since = tokens + 1, 0, []
                cause = now.token if left else None
            if now.run is not None:
                assert left == 0, f"{where}: a run began inside another"
                cause, left, fresh, since = now.run["token"], now.run["count"], now.run["fresh"], []
        assert left == 0
        return tokens


@cocotb.test()
async def tokens_loop_on_the_chip(dut: Any) -> None:
    loop = Loop(dut)
    await start(dut)
    counts = [1, 2, 1, 1, 5, 20, 3]
    for count in counts:
        request = {"token": loop.draw.randrange(1 << 16), "count": count, "fresh": loop.draw.randrange(2)}
        loop.runs.queue([pack(RUN_LAYOUT, request)])
    await loop.sink.receive(sum(counts), 500)
    await ClockCycles(dut.clk, 20)
    assert loop.check() == sum(counts)


@cocotb.test()
async def reset_ends_a_run(dut: Any) -> None:
    loop = Loop(dut)
    await start(dut)
    loop.runs.queue([pack(RUN_LAYOUT, {"token": 5, "count": 500, "fresh": 1})])
    await loop.sink.receive(3)
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 1
    await ClockCycles(dut.clk, 60)  # what the head still owed is lost
    loop.head.clear()
    loop.samples.clear()
    loop.sink.received.clear()
    loop.runs.queue([pack(RUN_LAYOUT, {"token": 6, "count": 2, "fresh": 0})])
    dut.rst.value = 0
    await loop.sink.receive(2, 500)
    await ClockCycles(dut.clk, 20)
    assert loop.check() == 2
