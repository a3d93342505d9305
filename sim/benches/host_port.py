"""Bench of hw/link/host_port.py: every port watched, every payload foretold by the host's own code.

    frames ─► i_rx │ host port │ o_tx ─► frames, compared byte for byte
                     o_write ─► memory ─► o_read, i_read;  o_feed, o_run ─► tokens ─► i_token, status
                     logits and scale of a stream, one cycle later;  setup and running, every cycle

`parameters`: config (the attributes that HostPort wants), info, pause (of all streams), frames (of random commands).
"""

import random
from types import SimpleNamespace
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.layouts import row_formats
from lutern.hw.protocol import (
    CHECKSUM,
    CHUNK_BYTES,
    DAMAGE_DONE,
    DAMAGE_LAYOUT,
    FEED,
    LOGITS,
    LOGITS_DONE,
    PAYLOAD_BYTES,
    RUN,
    RUN_DONE,
    RUN_LAYOUT,
    RUN_TOKENS,
    SCALE_LAYOUT,
    SETUP,
    STATUS,
    TOKEN_LAYOUT,
    WRITE,
    Damage,
    ErrorCode,
    Opcode,
    crc32c,
    feed_layout,
    read_layout,
    write_layout,
)
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import (
    StreamMonitor,
    StreamSink,
    StreamSource,
    cycle_now,
    pack,
    reset,
    start,
    to_int,
    to_signed,
    unpack,
)

RESPONSE = 0x80
MOST_FEEDS = (PAYLOAD_BYTES - RUN.byte_count) // FEED.byte_count  # of a frame
Feeds = list[dict[str, int]]


class Surroundings:
    """Memory, decoder and logits as the host port sees them, and the checks of what it sends."""

    def __init__(self, dut: Any) -> None:
        parameters, seed = bench_parameters(), bench_seed()
        pause = parameters["pause"]
        self.dut, self.seed, self.frames = dut, seed, parameters["frames"]
        self.config: Any = SimpleNamespace(**parameters["config"])
        self.info = bytes.fromhex(parameters["info"])
        self.word_bytes = self.config.word_bytes
        self.random = random.Random(seed)
        self.memory: dict[int, int] = {}
        self.answer_count, self.run_sequence, self.status = 0, 0, 0
        self.run_tokens, self.last_answer = b"", b""
        self.run_feeds: list[int] = []
        self.is_mute = False  # neither words nor tokens come
        self.counts_cycles, self.step_begun = bool(parameters["step_limit_cycles"]), 0  # as the decoder does
        dut.damage.value = 0
        if self.config.memory == "port":
            dut.fault.value, dut.i_test__valid.value, dut.o_test__ready.value = 0, 0, 1
        self.rx = StreamSource(dut, "i_rx", pause=pause, seed=seed)
        self.tx = StreamSink(dut, "o_tx", pause=pause, seed=seed + 1)
        self.words = StreamSource(dut, "i_read", pause=pause, seed=seed + 2)
        self.tokens = StreamSource(dut, "i_token", pause=pause, seed=seed + 3)
        for index, name in enumerate(("o_write", "o_read", "o_feed", "o_run")):
            StreamSink(dut, name, pause=pause, seed=seed + 4 + index)
        self.writes = Scoreboard("host_port.o_write", seed=seed, bits=write_layout(self.config).size)
        self.feeds = Scoreboard("host_port.o_feed", seed=seed, bits=feed_layout(self.config).size)
        self.runs = Scoreboard("host_port.o_run", seed=seed, bits=RUN_LAYOUT.size)
        self.answers = Scoreboard("host_port.o_tx", seed=seed, bits=8)
        StreamMonitor(dut, "o_tx", on_item=self._take_answer)
        StreamMonitor(dut, "i_rx")
        StreamMonitor(dut, "i_token", on_item=self._take_token)
        StreamMonitor(dut, "o_write", on_item=self._take_write)
        StreamMonitor(dut, "o_read", on_item=self._take_read)
        StreamMonitor(dut, "o_feed", on_item=self._take_feed)
        StreamMonitor(dut, "o_run", on_item=self._take_run)
        cocotb.start_soon(self._serve())
        cocotb.start_soon(self._watch_setup())

    @property
    def memory_ends(self) -> list[int]:
        """The address behind the last word, and behind the last part of a beat."""
        config = self.config
        beats = [TRIT_MEMORY + (config.trit_beats << config.part_bits)] if config.source == "resident" else []
        return [config.memory_words, *beats]

    @property
    def entries(self) -> int:
        """Items of logits that a stream has."""
        return int(2 * self.config.top_k or self.config.max_vocab)

    @property
    def running(self) -> int:
        return to_int(self.dut.running)

    def _take_write(self, cycle: int, payload: int) -> None:
        self.writes.check(cycle, payload)
        assert not self.running, f"cycle {cycle}: a write into a memory that is read, seed {self.seed}"
        fields = unpack(write_layout(self.config), payload)
        self.memory[fields["address"]] = fields["word"]

    def _take_read(self, cycle: int, payload: int) -> None:
        fields = unpack(read_layout(self.config), payload)
        if self.is_mute:
            return
        self.words.queue(self.memory.get(fields["address"] + k, 0) for k in range(fields["count"]))

    def _take_feed(self, cycle: int, payload: int) -> None:
        self.feeds.check(cycle, payload)
        fields = unpack(feed_layout(self.config), payload)
        self.run_feeds = [*self.run_feeds[: fields["stream"]], fields["token"]]

    def _take_run(self, cycle: int, payload: int) -> None:
        self.step_begun = cycle
        self.runs.check(cycle, payload)
        assert self.running, f"cycle {cycle}: a run of a machine that stands, seed {self.seed}"
        self.run_tokens = b""
        if self.is_mute:
            return
        fields = unpack(RUN_LAYOUT, payload)
        tokens = [
            self.token(self.run_feeds[stream], step)
            for step in range(fields["count"])
            for stream in range(fields["final_stream"] + 1)
        ]
        self.tokens.queue(
            pack(TOKEN_LAYOUT, {"token": token, "last": index == len(tokens) - 1}) for index, token in enumerate(tokens)
        )

    def token(self, token: int, index: int) -> int:
        return (token * 257 + index * 91 + self.seed) & 0xFFFF

    def logit(self, stream: int, index: int) -> int:
        return to_signed(index * 0x12345 + stream * 0x54321 + self.seed & 0xFFFFFF, 24)

    def scale(self, stream: int) -> dict[str, int]:
        return {"mantissa": 0x1FFFF - stream * 0xDB, "exponent": 5 * stream - 2048}

    def logits(self, stream: int, offset: int, count: int) -> bytes:
        """The answer to LOGITS."""
        scale = {f"scale_{name}": value for name, value in self.scale(stream).items()}
        sums = (self.logit(stream, offset + k) for k in range(count))
        return LOGITS_DONE.pack(**scale) + b"".join(number.to_bytes(4, "little", signed=True) for number in sums)

    async def _serve(self) -> None:
        """Logits and scale a cycle after their address; another status in every cycle."""
        while True:
            await FallingEdge(self.dut.clk)
            stream, address = to_int(self.dut.logits_stream), to_int(self.dut.logits_address)
            await RisingEdge(self.dut.clk)
            self.dut.logits_data.value = self.logit(stream, address) & 0xFFFFFF
            self.dut.scale.value = pack(SCALE_LAYOUT, self.scale(stream))
            self.status = self.random.choice((0xC0DB << 60, 0)) ^ self.random.getrandbits(STATUS.size)
            if self.counts_cycles:
                self.status = pack(STATUS, {**unpack(STATUS, self.status), "cycles": cycle_now() - self.step_begun})
            self.dut.status.value = self.status

    async def _watch_setup(self) -> None:
        """Readers take the setup in the cycle before they begin: it has come by then, and stays."""
        before = None
        while True:
            await FallingEdge(self.dut.clk)
            setup = to_int(self.dut.setup)
            if self.running and not to_int(self.dut.rst):
                assert setup == before, f"cycle {cycle_now()}: setup changes while running, seed {self.seed}"
            before = setup

    def expect(self, opcode: int, sequence: int, payload: bytes) -> None:
        """This frame must come, byte for byte."""
        for index, byte in enumerate(encode_frame(opcode, sequence, payload)):
            self.answers.expect(byte, index=index)

    async def ask(self, opcode: int, sequence: int, payload: bytes, answer: bytes, answer_opcode: int = 0) -> None:
        """One command and its foretold answer."""
        self.expect(answer_opcode or opcode | RESPONSE, sequence, answer)
        self.rx.queue(encode_frame(opcode, sequence, payload))
        await self.answered()

    async def refused(self, code: ErrorCode, opcode: int, sequence: int, payload: bytes) -> None:
        """One command that is refused and leaves the machine as it is."""
        running, setup = self.running, to_int(self.dut.setup)
        await self.ask(opcode, sequence, payload, bytes([code]), Opcode.ERROR)
        assert (self.running, to_int(self.dut.setup)) == (running, setup), f"{code.name} changed something"

    async def answered(self) -> None:
        """Until a whole answer has come."""
        wanted = self.answer_count + 1
        for _ in range(20_000):
            if self.answer_count == wanted:
                return
            await FallingEdge(self.dut.clk)
        raise TimeoutError(f"no answer for 20000 cycles, seed {self.seed}")

    def _take_answer(self, cycle: int, byte: int) -> None:
        self.answers.check(cycle, byte)
        self.answer_count += not self.answers.pending

    def _take_token(self, cycle: int, payload: int) -> None:
        self.step_begun = cycle
        token = unpack(TOKEN_LAYOUT, payload)
        self.run_tokens += token["token"].to_bytes(2, "little")
        if token["last"]:
            done = RUN_DONE.pack(count=len(self.run_tokens) // 2, **unpack(STATUS, self.status))
            self.last_answer = done + self.run_tokens
            self.expect(Opcode.RUN | RESPONSE, self.run_sequence, self.last_answer)

    def draw_feeds(self, streams: int, vocab: int) -> Feeds:
        """Feeds with random contents."""
        draw = self.random
        return [
            {
                "token": draw.choice((0, vocab - 1, draw.randrange(vocab))),
                "state_base": draw.getrandbits(self.config.base_bits),
                "fresh": draw.getrandbits(1),
                "seed": draw.choice((draw.getrandbits(32), 0xDBC0C0DB)),
            }
            for _ in range(streams)
        ]

    def expect_feeds(self, feeds: Feeds) -> None:
        for stream, feed in enumerate(feeds):
            self.feeds.expect(pack(feed_layout(self.config), {"stream": stream, **feed}), index=stream)

    async def run(self, sequence: int, count: int, feeds: Feeds) -> bytes:
        """A RUN that is carried out; its frame."""
        request = {"count": count, "chained": self.random.getrandbits(1), "temperature": self.random.getrandbits(16)}
        self.expect_feeds(feeds)
        self.runs.expect(pack(RUN_LAYOUT, {"final_stream": len(feeds) - 1, **request}))
        frame = encode_frame(Opcode.RUN, sequence, run_command(feeds, **request))
        await self.send_run(sequence, frame)
        return frame

    async def send_run(self, sequence: int, frame: bytes) -> None:
        self.run_sequence = sequence
        self.rx.queue(frame)
        await self.answered()

    def setup_fields(self) -> dict[str, int]:
        """The largest SETUP that fits."""
        config = self.config
        resident = config.source == "resident"
        return {
            "record_words": config.memory_words,
            "trit_beats": config.trit_beats if resident else 0,
            "embedding_base": (config.trit_beats if resident else config.memory_words) - 1,
            "embedding_row_words": 0xC0DB,
            "embedding_stride": 0xDBDC,
            "embedding_bits": row_formats(config)[-1],
            "state_base": 0xC0DBDCDD,
            "state_words": 0xDCC0,
            "layers": 0xC0C0,
            "vocab": config.max_vocab,
            "image": 0xDBC0DDDC,
            "trit_state": 0xC0DB_DCDD_0102_0304,
            "step_limit": 0,
        }

    async def set_up(self, sequence: int, **changes: int) -> None:
        """A SETUP that is carried out."""
        setup = SETUP.pack(**{**self.setup_fields(), **changes})
        await self.ask(Opcode.SETUP, sequence, setup, b"")
        assert self.running, f"not running after SETUP, seed {self.seed}"
        assert to_int(self.dut.setup) == int.from_bytes(setup, "little"), f"setup, seed {self.seed}"

    async def show_damage(self, sequence: int, kind: Damage) -> None:
        """Damage of this kind, and the answer to DAMAGE."""
        fields = {"count": self.random.getrandbits(16), "kind": kind, "place": self.random.getrandbits(32)}
        self.dut.damage.value = pack(DAMAGE_LAYOUT, fields)
        await self.ask(Opcode.DAMAGE, sequence, b"", DAMAGE_DONE.pack(**fields))

    async def begin_run(self, sequence: int, streams: int = 1, count: int = 1) -> bytes:
        """A RUN whose tokens do not come; its payload. Returns when the decoder has it."""
        self.is_mute = True
        feeds, request = self.draw_feeds(streams, self.config.max_vocab), {"count": count, "chained": 0}
        self.expect_feeds(feeds)
        self.runs.expect(pack(RUN_LAYOUT, {"final_stream": streams - 1, "temperature": 0, **request}))
        command = run_command(feeds, **request)
        self.run_sequence = sequence
        self.rx.queue(encode_frame(Opcode.RUN, sequence, command))
        while self.runs.pending:
            await FallingEdge(self.dut.clk)
        return command

    def write_command(self, address: int, words: list[int]) -> bytes:
        for index, word in enumerate(words):
            fields = {"address": address + index, "word": word}
            self.writes.expect(pack(write_layout(self.config), fields), index=index)
        return WRITE.pack(address=address) + b"".join(word.to_bytes(self.word_bytes, "little") for word in words)


def run_command(feeds: Feeds, *, count: int = 1, streams: int | None = None, **fields: int) -> bytes:
    """The payload of a RUN; ``streams`` other than there are feeds is a wrong length."""
    fields = {"chained": 0, "temperature": 0, **fields}
    head = RUN.pack(count=count, streams=len(feeds) if streams is None else streams, **fields)
    return head + b"".join(FEED.pack(**feed) for feed in feeds)


@cocotb.test()
async def commands(dut: Any) -> None:
    """Each command in random order and with random contents."""
    around = Surroundings(dut)
    generator, word_bytes, config = around.random, around.word_bytes, around.config
    await start(dut)
    await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, 1, run_command(around.draw_feeds(1, config.max_vocab)))
    await around.set_up(2)
    for number in range(around.frames):
        sequence = number + 3 & 0xFF
        match generator.randrange(7):
            case 0:
                await around.ask(Opcode.INFO, sequence, b"", around.info)
            case 1:
                count = generator.randint(1, min(CHUNK_BYTES // word_bytes, 100))
                end = generator.choice(around.memory_ends)
                base = TRIT_MEMORY if end > TRIT_MEMORY else 0
                address = generator.randint(base, end - count)
                words = [generator.choice((0, generator.getrandbits(8 * word_bytes))) for _ in range(count)]
                command = around.write_command(address, words)
                await around.ask(Opcode.WRITE, sequence, command, (address + count).to_bytes(4, "little"))
                assert not around.running
                if generator.randrange(2):
                    await around.set_up(sequence, embedding_stride=number)
                count = generator.randint(1, count)
                crc = crc32c(b"".join(word.to_bytes(word_bytes, "little") for word in words[:count]))
                command = CHECKSUM.pack(address=address, count=count)
                await around.ask(Opcode.CHECKSUM, sequence, command, crc.to_bytes(4, "little"))
                assert not around.running
                feeds = around.draw_feeds(1, config.max_vocab)
                await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, run_command(feeds))
                await around.set_up(sequence, embedding_row_words=number + 1)
            case 2:
                count = generator.randint(1, min(20, around.entries))
                stream, offset = generator.randrange(config.streams), generator.randint(0, around.entries - count)
                command = LOGITS.pack(stream=stream, offset=offset, count=count)
                await around.ask(Opcode.LOGITS, sequence, command, around.logits(stream, offset, count))
            case 3:
                await around.refused(ErrorCode.UNKNOWN_OPCODE, 0x77, sequence, b"")
            case 4:
                await around.set_up(sequence, vocab=generator.randint(1, config.max_vocab))  # in mid-stream
                await around.set_up(sequence)
            case 5:
                streams = generator.randint(1, config.streams)
                await around.run(sequence, generator.randint(1, 3), around.draw_feeds(streams, config.max_vocab))
            case 6:
                await around.show_damage(sequence, Damage(generator.randrange(4)))
                dut.damage.value = 0
                await around.refused(ErrorCode.BAD_LENGTH, Opcode.DAMAGE, sequence, b"x")
    around.answers.finish()
    assert not (around.writes.pending or around.feeds.pending or around.runs.pending)


@cocotb.test()
async def runs(dut: Any) -> None:
    """RUN: the feeds, the request, the tokens, the figures; and a resend that reaches nobody but the host."""
    around = Surroundings(dut)
    vocab, most = around.config.max_vocab, around.config.streams
    await start(dut)
    await around.set_up(0)
    few = {(1, 1), (most, 2), (max(1, most - 1), 7)}
    longest = {(streams, RUN_TOKENS // streams) for streams in (1, 2, 3, most) if streams <= most}
    for sequence, (streams, count) in enumerate(sorted(few | longest), 1):
        frame = await around.run(sequence, count, around.draw_feeds(streams, vocab))
        for _ in range(2):
            around.expect(Opcode.RUN | RESPONSE, sequence, around.last_answer)
            await around.send_run(sequence, frame)
    around.runs.finish()

    # A command in between, even one that is refused: the same frame is a new RUN.
    feeds = around.draw_feeds(most, vocab)
    random_state = around.random.getstate()
    await around.run(77, 1, feeds)
    await around.refused(ErrorCode.UNKNOWN_OPCODE, 0x77, 78, b"")
    around.random.setstate(random_state)
    await around.run(77, 1, feeds)
    around.feeds.finish()
    around.runs.finish()
    around.answers.finish()


@cocotb.test()
async def bad_runs(dut: Any) -> None:
    """Counts and streams at their limits, lengths that do not fit, a bad token in any feed: no run begins."""
    around = Surroundings(dut)
    config, draw = around.config, around.random
    most, vocab = config.streams, config.max_vocab - 1
    await start(dut)
    await around.set_up(0, vocab=vocab)

    counts = {0, 129, 256, 257, 1 << 15, (1 << 16) - 1}
    bad = [(1, count) for count in counts] + [(most, count) for count in counts]
    bad += [(streams, RUN_TOKENS // streams + 1) for streams in range(1, most + 1)]
    bad += [(streams, 1) for streams in {0, most + 1, most + 2, 2 * most, 32, 40, MOST_FEEDS} - {most}]
    for sequence, (streams, count) in enumerate(sorted(bad)):
        feeds = around.draw_feeds(streams, vocab)
        await around.refused(ErrorCode.BAD_COUNT, Opcode.RUN, sequence & 0xFF, run_command(feeds, count=count))

    for streams in {1, most}:
        good = run_command(around.draw_feeds(streams, vocab))
        lengths = {0, 1, RUN.byte_count - 1, RUN.byte_count, len(good) - FEED.byte_count, len(good) - 1}
        for length in sorted(lengths):
            await around.refused(ErrorCode.BAD_LENGTH, Opcode.RUN, length, good[:length])
        for excess in (b"x", bytes(FEED.byte_count)):
            await around.refused(ErrorCode.BAD_LENGTH, Opcode.RUN, 1, good + excess)
    for streams in (0, 2, 129, 255):
        command = run_command(around.draw_feeds(1, vocab), streams=streams)
        await around.refused(ErrorCode.BAD_LENGTH, Opcode.RUN, 2, command)

    for streams in {1, most}:
        for where in range(streams):
            for token in (vocab, 0xFFFF):
                feeds = around.draw_feeds(streams, vocab)
                feeds[where]["token"] = token
                around.expect_feeds(feeds[:where])
                await around.refused(ErrorCode.BAD_TOKEN, Opcode.RUN, 3, run_command(feeds, count=2))
                assert not around.feeds.pending
        await around.run(4, 2, around.draw_feeds(draw.randint(1, streams), vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_faulty_memory(dut: Any) -> None:
    """What waits for the memory is answered with its fault, and so is all that needs it from then on; INFO answers."""
    if not hasattr(dut, "fault"):
        return
    around = Surroundings(dut)
    word_bytes = around.word_bytes
    range_of_words = CHECKSUM.pack(address=0, count=2)
    waiting = (Opcode.RUN, Opcode.CHECKSUM, Opcode.MEMORY_TEST)
    await start(dut)
    for fault, code in ((1, ErrorCode.MEMORY_SILENT), (2, ErrorCode.MEMORY_DISORDER)):
        for sequence, opcode in enumerate(waiting, 10 * fault):
            around.is_mute = False
            await around.set_up(sequence)
            around.is_mute = True
            feeds = around.draw_feeds(1, around.config.max_vocab)
            run = run_command(feeds)
            command = run if opcode == Opcode.RUN else range_of_words
            if opcode == Opcode.RUN:
                around.expect_feeds(feeds)
                fields = {"count": 1, "final_stream": 0, "chained": 0, "temperature": 0}
                around.runs.expect(pack(RUN_LAYOUT, fields))
            around.rx.queue(encode_frame(opcode, sequence, command))
            await ClockCycles(dut.clk, 1000)
            around.expect(Opcode.ERROR, sequence, bytes([code]))
            dut.fault.value = fault
            await around.answered()
            assert not around.running, f"running after {opcode.name}, seed {around.seed}"
            for needs, payload in (
                (Opcode.RUN, run),
                (Opcode.SETUP, SETUP.pack(**around.setup_fields())),
                (Opcode.WRITE, WRITE.pack(address=1) + bytes(word_bytes)),
                (Opcode.CHECKSUM, range_of_words),
                (Opcode.MEMORY_TEST, range_of_words),
            ):
                await around.refused(code, needs, sequence, payload)
            await around.ask(Opcode.INFO, sequence, b"", around.info)
            dut.fault.value = 0
            await reset(dut, 2)
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def damaged_weights(dut: Any) -> None:
    """Damage while a run is under way ends it, whether tokens have come or not; SETUP is wanted then. Damage that was
    there before ends a run as soon as it has begun."""
    around = Surroundings(dut)
    most = around.config.streams
    await start(dut)
    for sequence, kind in enumerate([Damage.RECORDS, Damage.ROW, Damage.TRITS] * 2, 0xC0):
        await around.set_up(sequence)
        if sequence % 2:
            command = await around.begin_run(sequence, most)
            await ClockCycles(dut.clk, around.random.randrange(300))
            if sequence % 3 and most > 1:
                await around.tokens.send(*(around.random.getrandbits(16) for _ in range(most - 1)))
            around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.WEIGHTS_DAMAGED]))
            dut.damage.value = pack(DAMAGE_LAYOUT, {"count": 1, "kind": kind, "place": 7})
            await around.answered()
        else:
            dut.damage.value = pack(DAMAGE_LAYOUT, {"count": 1, "kind": kind, "place": 7})
            around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.WEIGHTS_DAMAGED]))
            command = await around.begin_run(sequence, most)
            await around.answered()
        assert not around.running, f"running after {kind.name}, seed {around.seed}"
        for again in (sequence, sequence + 1):  # that answer is no tokens to be sent again
            await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, again, command)
        await around.show_damage(sequence, kind)
        dut.damage.value = 0
        around.is_mute = False
        await around.set_up(sequence)
        await around.run(sequence, 2, around.draw_feeds(most, around.config.max_vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_step_that_takes_too_long(dut: Any) -> None:
    """The limit is counted from the run's begin, and anew from each token; a token in time changes nothing else. 0 is
    no limit, however long a step lasts."""
    unit = bench_parameters()["step_limit_cycles"]
    if not unit:
        return  # cycles of a real one take too long here
    around = Surroundings(dut)
    await start(dut)
    for sequence, (limit, tokens) in enumerate(((1, 0), (3, 0), (2, 1), (2, 3), (7, 2)), 0xD8):
        await around.set_up(sequence, step_limit=limit)
        where = f"limit {limit}, {tokens} tokens, seed {around.seed}"
        command = await around.begin_run(sequence, count=5)
        begun = cycle_now()
        for _ in range(tokens):
            while cycle_now() < begun + limit * unit - 3:
                await FallingEdge(dut.clk)
            assert around.running, where
            await around.tokens.send(around.random.getrandbits(16))
            begun = cycle_now()
        around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.RUN_TOO_LONG]))
        while around.running and cycle_now() < begun + limit * unit + 9:
            await FallingEdge(dut.clk)
        assert limit * unit <= cycle_now() - begun <= limit * unit + 4, f"{cycle_now() - begun} cycles, {where}"
        await around.answered()
        await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, command)
        around.is_mute = False
    await around.set_up(1, step_limit=0)
    await around.begin_run(1)
    around.step_begun -= (1 << 32) - 3 * unit  # so that the decoder's count begins anew
    await ClockCycles(dut.clk, 9 * unit)
    assert around.running, f"a step without limit, seed {around.seed}"
    around.run_sequence, around.is_mute = 1, False
    await around.tokens.send(pack(TOKEN_LAYOUT, {"token": 1, "last": 1}))
    await around.answered()
    await around.set_up(1, step_limit=2)
    await ClockCycles(dut.clk, 5 * unit)  # no run is under way
    await around.run(2, 5, around.draw_feeds(1, around.config.max_vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def a_run_that_another_command_ends(dut: Any) -> None:
    """Its answer comes after that command's; resent without a feed that is fresh it would go on from half a state."""
    around = Surroundings(dut)
    await start(dut)
    setup = SETUP.pack(**around.setup_fields())
    stopping = (
        (Opcode.SETUP, setup, b""),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=1), crc32c(bytes(around.word_bytes)).to_bytes(4, "little")),
        (Opcode.WRITE, around.write_command(0, [1]), (1).to_bytes(4, "little")),
    )
    for sequence, (opcode, payload, answer) in enumerate(stopping, 0x41):
        await around.set_up(1)
        command = await around.begin_run(sequence, count=3)
        around.is_mute = False
        await around.tokens.send(around.random.getrandbits(16))
        around.expect(opcode | RESPONSE, 2, answer)
        around.expect(Opcode.ERROR, sequence, bytes([ErrorCode.NOT_SET_UP]))
        around.rx.queue(encode_frame(opcode, 2, payload))
        await around.answered()
        assert around.running == (opcode == Opcode.SETUP), f"{opcode.name}, seed {around.seed}"
        if not around.running:
            await around.refused(ErrorCode.NOT_SET_UP, Opcode.RUN, sequence, command)
    await around.set_up(1)
    await around.run(3, 5, around.draw_feeds(1, around.config.max_vocab))
    around.feeds.finish()
    around.runs.finish()


@cocotb.test()
async def limits(dut: Any) -> None:
    """The longest and shortest frame, one byte beyond either, broken escapes; the last word, the largest counts."""
    around = Surroundings(dut)
    config, word_bytes = around.config, around.word_bytes
    await start(dut)
    await around.refused(ErrorCode.UNKNOWN_OPCODE, 0x10, 1, bytes(PAYLOAD_BYTES))
    short = b"\x01"
    bad_frames = [
        encode_frame(0x10, 2, bytes(PAYLOAD_BYTES + 1)),
        encode_frame(0x10, 2, bytes(3 * PAYLOAD_BYTES)),
        b"\xc0" + short + crc32c(short).to_bytes(4, "little") + b"\xc0",
        encode_frame(0x10, 2, b"\xdb").replace(b"\xdb\xdd", b"\xdb\x00"),
        encode_frame(0x10, 2, b"\xdb").replace(b"\xdb\xdd", b"\xdb\xdb\xdd"),
        encode_frame(0x10, 2, b"x")[:-1] + b"\xdb\xc0",
    ]
    for count, frame in enumerate(bad_frames, 1):
        around.rx.queue(frame + b"\xc0\xc0\xc0")  # empty frames are not counted
        await around.ask(Opcode.INFO, count, b"", around.info[:-4] + count.to_bytes(4, "little"))

    for end in around.memory_ends:
        command = around.write_command(end - 1, [end])
        await around.ask(Opcode.WRITE, 1, command, end.to_bytes(4, "little"))
        crc = crc32c(end.to_bytes(word_bytes + 4, "little")[:word_bytes]).to_bytes(4, "little")
        await around.ask(Opcode.CHECKSUM, 2, CHECKSUM.pack(address=end - 1, count=1), crc)
    await around.set_up(3)
    beyond = [(end, 1) for end in around.memory_ends] + [(end - 1, 2) for end in around.memory_ends]
    far = [TRIT_MEMORY - 1, 1 << 24, 1 << 25, 1 << 31, (1 << 32) - 1]
    if config.source == "streamed":
        far = [address for address in (TRIT_MEMORY, *far) if address >= config.memory_words]
    for address, count in [*beyond, *((address, 1) for address in far)]:
        command = WRITE.pack(address=address) + bytes(count * word_bytes)
        await around.refused(ErrorCode.BAD_ADDRESS, Opcode.WRITE, 3, command)
        command = CHECKSUM.pack(address=address, count=count)
        await around.refused(ErrorCode.BAD_ADDRESS, Opcode.CHECKSUM, 4, command)
    for count in {max((1 << 25) + 1, config.memory_words + 1), (1 << 32) - 1}:
        command = CHECKSUM.pack(address=0, count=count)
        await around.refused(ErrorCode.BAD_ADDRESS, Opcode.CHECKSUM, 4, command)
    await around.refused(ErrorCode.BAD_COUNT, Opcode.CHECKSUM, 4, CHECKSUM.pack(address=0, count=0))

    good = around.setup_fields()
    trits = [0, config.trit_beats + 1] if config.source == "resident" else [1, config.trit_beats]
    for name, value in (
        ("record_words", 0),
        ("record_words", good["record_words"] + 1),
        *(("trit_beats", count) for count in trits),
        ("embedding_base", good["embedding_base"] + 1),
        ("embedding_row_words", 0),
        *(("embedding_bits", bits) for bits in (0, 8, 12, 13, 28, 255) if bits not in row_formats(config)),
        ("vocab", 0),
        ("vocab", good["vocab"] + 1),
    ):
        await around.refused(ErrorCode.BAD_SETUP, Opcode.SETUP, 2, SETUP.pack(**{**good, name: value}))

    entries, top = around.entries, config.streams - 1
    most = min(128, entries)
    command = LOGITS.pack(stream=top, offset=entries - most, count=most)
    await around.ask(Opcode.LOGITS, 3, command, around.logits(top, entries - most, most))
    for stream, offset, count in (
        (0, entries - most + 1, most),
        (0, 0, 129),
        (0, 0, 0),
        (0, entries, 1),
        (0, 0xFFFF, 1),
        (0, 1, 0xFFFF),
        (config.streams, 0, 1),
        (0x80, 0, 1),
    ):
        command = LOGITS.pack(stream=stream, offset=offset, count=count)
        await around.refused(ErrorCode.BAD_COUNT, Opcode.LOGITS, 4, command)


@cocotb.test()
async def reset_in_mid_frame(dut: Any) -> None:
    """A reset anywhere: nothing of the old frame is left, in either direction."""
    around = Surroundings(dut)
    await start(dut)
    for cut in range(1, 60, 3):
        around.rx.queue(encode_frame(Opcode.INFO, 1))
        around.expect(Opcode.INFO | RESPONSE, 1, around.info)
        for _ in range(cut):
            await FallingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        around.rx.clear()
        around.answers.pending.clear()
        await reset(dut)
        await around.ask(Opcode.INFO, cut, b"", around.info)
