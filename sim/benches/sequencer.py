"""Bench of the sequencer: how it distributes operations to queues, which may be full, and the loop of tokens."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    ENGINE_OP,
    GAINS_OP,
    OPERATION,
    QUANTISE_OP,
    SUPPLY_OP,
    Op,
    results_op,
    seed_payload,
    sum_classes,
    token_payload,
)
from lutern.hw.protocol import RUN_LAYOUT, TOKEN_LAYOUT, feed_layout
from lutern.hw.sequencer import QUEUE_DEPTH
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, start, to_int, unpack

CONFIG = HwConfig("bench")
OUTPUTS = {
    "quantise": QUANTISE_OP,
    "engine": ENGINE_OP,
    "results": results_op(CONFIG),
    "supply": SUPPLY_OP,
    "gains": GAINS_OP,
}
WITHIN = [op for op in Op if op not in (Op.EMBED, Op.HEAD)]
"""Operations that are neither the first nor the last of a pass."""


def wanted(op: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return the outputs that an operation goes to, with the fields that the sequencer computes for each output."""
    embed, own_codes = op["op"] == Op.EMBED, int(op["op"] != Op.EMBED and not op["reuse"])
    results = {"scaled": own_codes, "bounded": int(op["op"] == Op.F)}
    results |= {name: int(value) for name, value in sum_classes(op["op"]).items()}
    outputs: dict[str, dict[str, int]] = {"results": results}
    if own_codes:
        outputs["quantise"] = {}
    if not embed:
        outputs["engine"] = {}
    if op["op"] == Op.F or op["makes_vector"]:
        bounds = int(op["op"] == Op.F)
        outputs["supply"] = {"items": 1 if bounds else op["outer"] + op["matrices"]}
        outputs["gains"] = {"bounds": bounds}
    return outputs


class Bench:
    """A source of operations, and a scoreboard for each output. Only the outputs in `sinks` have a sink
    from the start."""

    def __init__(self, dut: Any, sinks: tuple[str, ...] = tuple(OUTPUTS)) -> None:
        self.dut, self.seed, pause = dut, bench_seed(), bench_parameters()["pause"]
        self.draw = random.Random(self.seed)
        self.source = StreamSource(dut, "i_op", pause=pause, seed=self.seed)
        self.boards = {
            name: Scoreboard(f"sequencer.{name}", seed=self.seed, bits=layout.size) for name, layout in OUTPUTS.items()
        }
        self.entered = StreamMonitor(dut, "i_op", on_item=self.on_op)
        self.left = {name: StreamMonitor(dut, f"o_{name}", on_item=board.check) for name, board in self.boards.items()}
        self.sinks = {
            name: StreamSink(dut, f"o_{name}", pause=pause, seed=self.seed + index)
            for index, name in enumerate(OUTPUTS)
            if name in sinks
        }

    def operations(self, count: int) -> list[int]:
        """Return operations of short passes with random bits. Many of the operations are F."""
        items: list[int] = []
        op = Op.HEAD
        for _ in range(count):
            op = Op.EMBED if op == Op.HEAD else self.draw.choice([*WITHIN, Op.F, Op.HEAD])
            items.append(self.operation(op))
        return items

    def operation(self, op: Op) -> int:
        """Return an operation with random bits."""
        return pack(OPERATION, self.nested({**unpack(OPERATION, self.draw.getrandbits(OPERATION.size)), "op": op}))

    @staticmethod
    def nested(fields: dict[str, int]) -> dict[str, Any]:
        """Return the fields, with the nested layouts unpacked into mappings."""
        inner = {name: shape for name, shape in OPERATION.members.items() if hasattr(shape, "members")}
        return {name: unpack(inner[name], value) if name in inner else value for name, value in fields.items()}

    def on_op(self, cycle: int, payload: int) -> None:
        op = unpack(OPERATION, payload)
        for name, derived in wanted(op).items():
            fields = {key: derived.get(key, op.get(key, 0)) & (1 << field.width) - 1 for key, field in OUTPUTS[name]}
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
    """If any queue is full, the source stalls, and every operation is distributed exactly once."""
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


@cocotb.test()
async def a_pass_begins_with_its_row(dut: Any) -> None:
    """The sequencer does not accept an operation that is out of place, nor any operation after it."""
    bench = Bench(dut)
    await start(dut)
    within = bench.draw.choice(WITHIN)
    for good, wrong in (
        ([], within),
        ([], Op.HEAD),
        ([Op.EMBED, within], Op.EMBED),
        ([Op.EMBED, within, Op.HEAD], within),
        ([Op.EMBED, within, Op.HEAD], Op.HEAD),
    ):
        dut.rst.value = 1
        bench.source.clear()
        await ClockCycles(dut.clk, 2)
        dut.rst.value = 0
        before = len(bench.entered.items)
        bench.source.queue([bench.operation(op) for op in (*good, wrong, Op.EMBED)])
        await ClockCycles(dut.clk, 60)
        accepted = len(bench.entered.items) - before
        assert accepted == len(good), f"{accepted} accepted of {good} and {wrong!r}, seed {bench.seed}"


@dataclass(frozen=True)
class Sample:
    """The ports in one cycle. The fields of a transfer are a mapping, or None if the stream transferred no item."""

    cycle: int
    feed: dict[str, int] | None
    run: dict[str, int] | None
    seed: dict[str, int] | None
    start_valid: int
    start: dict[str, int]
    started: bool
    token: dict[str, int] | None
    chosen: dict[str, int] | None
    held: dict[str, int]
    beat: int
    word: int
    counts: tuple[int, int, int]


HELD = ("final_stream", "bases", "fresh", "chained", "temperature")
"""Ports that must be stable during the whole run, because blocks read them at any time."""


class Loop:
    """Acts as host, reader of rows and head, and stores a sample of every cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.seed, pause = dut, bench_seed(), bench_parameters()["pause"]
        self.draw = random.Random(self.seed)
        self.config = HwConfig("bench", streams=bench_parameters()["streams"])
        self.feeds = StreamSource(dut, "i_feed", pause=pause, seed=self.seed)
        self.runs = StreamSource(dut, "i_run", pause=pause, seed=self.seed)
        self.head = StreamSource(dut, "i_token")
        StreamSink(dut, "o_start", pause=pause, seed=self.seed)
        self.sink = StreamSink(dut, "o_token", pause=pause, seed=self.seed + 1)
        for name in ("i_feed", "i_run", "o_start", "i_token", "o_token"):
            StreamMonitor(dut, name)
        self.dut.o_seed__ready.value = 1
        self.samples: list[Sample] = []
        self.streams, self.rows = 1, 0
        self.layouts = {
            "i_feed": feed_layout(self.config),
            "i_run": RUN_LAYOUT,
            "o_seed": seed_payload(self.config),
            "o_start": token_payload(self.config),
            "i_token": token_payload(self.config),
            "o_token": TOKEN_LAYOUT,
        }
        cocotb.start_soon(self.watch())

    async def run(self, streams: int, count: int) -> None:
        """Act as the host in a run: send the feeds in order and the request, then receive all tokens."""
        draw, self.streams, self.rows = self.draw, streams, 0
        for stream in range(streams):
            feed = {
                "stream": stream,
                "token": draw.getrandbits(16),
                "state_base": draw.getrandbits(self.config.state_bits),
                "fresh": draw.getrandbits(1),
                "seed": draw.getrandbits(32),
            }
            self.feeds.queue([pack(feed_layout(self.config), feed)])
        await self.feeds.drained()
        self.runs.queue(
            [
                pack(
                    RUN_LAYOUT,
                    {
                        "count": count,
                        "final_stream": streams - 1,
                        "chained": draw.getrandbits(1),
                        "temperature": draw.getrandbits(16),
                    },
                )
            ]
        )
        await self.sink.receive(streams * count, 2000)

    def fields(self, name: str) -> dict[str, int]:
        return unpack(self.layouts[name], to_int(getattr(self.dut, f"{name}__payload")))

    def taken(self, name: str) -> dict[str, int] | None:
        valid, ready = getattr(self.dut, f"{name}__valid"), getattr(self.dut, f"{name}__ready")
        return self.fields(name) if to_int(valid) and to_int(ready) else None

    async def choose(self) -> None:
        """Act as the head: answer for each stream after some time. Called when all rows of the step have been
        requested."""
        for stream in range(self.streams):
            await ClockCycles(self.dut.clk, self.draw.choice((1, 2, 30)))
            token = self.draw.randrange(1 << 16)
            self.head.queue([pack(self.layouts["i_token"], {"token": token, "stream": stream})])

    async def watch(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.dut.beat.value = beat = self.draw.randrange(2)
            self.dut.word.value = word = self.draw.randrange(1 << len(self.dut.word))
            await FallingEdge(self.dut.clk)
            if to_int(self.dut.rst):
                continue
            started = self.taken("o_start") is not None
            self.rows += started
            if started and self.rows % self.streams == 0:
                cocotb.start_soon(self.choose())
            self.samples.append(
                Sample(
                    cycle_now(),
                    self.taken("i_feed"),
                    self.taken("i_run"),
                    self.taken("o_seed"),
                    to_int(self.dut.o_start__valid),
                    self.fields("o_start"),
                    started,
                    self.taken("i_token"),
                    self.taken("o_token"),
                    {name: to_int(getattr(self.dut, name)) for name in HELD},
                    beat,
                    word,
                    (to_int(self.dut.cycles), to_int(self.dut.beats), to_int(self.dut.words)),
                )
            )

    def check(self) -> int:
        """Check the row, the counts, the flag ``last`` and the answer of every token, and that the ports in HELD are
        stable. Return the number of tokens."""
        left = tokens = cycles = beats = words = 0
        feeds: dict[int, dict[str, int]] = {}
        rows: deque[dict[str, int]] = deque()  # rows that must be requested from the next cycle on
        held: dict[str, int] = {}
        for now in self.samples:
            where = f"cycle {now.cycle}, token {tokens}, seed {self.seed}"
            assert (now.token is None) == (now.chosen is None), (
                f"{where}: i_token and o_token must transfer in the same cycle"
            )
            assert (now.feed is None) == (now.seed is None), (
                f"{where}: i_feed and o_seed must transfer in the same cycle"
            )
            assert now.start_valid == bool(rows), f"{where}: o_start is {now.start_valid}, {len(rows)} rows are wanted"
            assert not rows or now.start == rows[0], f"{where}: row {now.start} asked for, {rows[0]} wanted"
            if now.started:
                rows.popleft()
            if left:
                cycles += 1
                assert now.held == held, f"{where}: {now.held} is held, expected {held}"
            if now.feed is not None:
                feeds[now.feed["stream"]] = now.feed
                seed = {"stream": now.feed["stream"], "seed": now.feed["seed"]}
                assert now.seed == seed, f"{where}: seed {now.seed}, expected {seed}"
            if now.token is not None:
                assert left, f"{where}: a token came outside a run"
                ends = now.token["stream"] == held["final_stream"]
                last = int(left == 1 and ends)
                assert now.chosen == {"token": now.token["token"], "last": last}, f"{where}: o_token is {now.chosen}"
                tokens += 1
                if left > 1:
                    rows.append(now.token)
                if ends:
                    counts = cycles, beats, words
                    assert now.counts == counts, f"{where}: (cycles, beats, words) {now.counts}, expected {counts}"
                    left, held = left - 1, held | {"fresh": 0}
                    cycles = beats = words = 0
            if now.run is not None:
                assert left == 0, f"{where}: a run began inside another run"
                left, cycles, beats, words = now.run["count"], 0, 0, 0
                active = range(now.run["final_stream"] + 1)
                rows.extend({"token": feeds[stream]["token"], "stream": stream} for stream in active)
                held = {
                    "final_stream": now.run["final_stream"],
                    "chained": now.run["chained"],
                    "temperature": now.run["temperature"],
                    "bases": sum(feed["state_base"] << CONFIG.state_bits * stream for stream, feed in feeds.items()),
                    "fresh": sum(feeds[stream]["fresh"] << stream for stream in active),
                }
            beats, words = beats + now.beat, words + now.word
        assert left == 0 and not rows
        return tokens


@cocotb.test()
async def tokens_loop_on_the_chip(dut: Any) -> None:
    """In runs with random numbers of streams and tokens, rows are requested in order, each as soon as its token has
    come. The ports in HELD are stable, and the counters are right."""
    loop = Loop(dut)
    await start(dut)
    total = 0
    for count in (1, 2, 1, 1, 5, 20, 3):
        streams = loop.draw.randint(1, loop.config.streams)
        await loop.run(streams, count)
        total += streams * count
    await loop.run(loop.config.streams, 3)
    await ClockCycles(dut.clk, 20)
    assert loop.check() == total + 3 * loop.config.streams


@cocotb.test()
async def reset_ends_a_run(dut: Any) -> None:
    loop = Loop(dut)
    await start(dut)
    endless = cocotb.start_soon(loop.run(loop.config.streams, 500))
    while len(loop.sink.received) < 3:
        await FallingEdge(dut.clk)
    endless.cancel()
    await ClockCycles(dut.clk, loop.draw.randrange(40))
    dut.rst.value = 1
    await ClockCycles(
        dut.clk, 40 * loop.config.streams
    )  # wait for all late answers of the head, which are lost in the reset
    loop.head.clear()
    loop.samples.clear()
    loop.sink.received.clear()
    dut.rst.value = 0
    await loop.run(1, 2)
    await loop.run(loop.config.streams, 2)
    await ClockCycles(dut.clk, 20)
    assert loop.check() == 2 + 2 * loop.config.streams
