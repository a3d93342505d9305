"""The surroundings of the host port in its bench: memory, decoder, logits and host, and checks of all outputs of the
port.

    frames ─► i_rx │ host port │ o_tx ─► frames, compared byte for byte
                   │           │ o_write ─► memory; o_read ─► memory ─► i_read
                   │           │ o_feed, o_run ─► tokens ─► i_token, status
                   │           │ logits_address ─► one cycle later: logits_data, scale
                   │           │ setup, running: checked in every cycle

`parameters` of the bench: config (the attributes that HostPort needs), info (the answer to INFO), pause (pattern of all
streams), frames (number of random commands), step_limit_cycles.
"""

import random
from types import SimpleNamespace
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.layouts import row_formats
from lutern.hw.protocol import (
    DAMAGE_DONE,
    DAMAGE_LAYOUT,
    FEED,
    LOGITS_DONE,
    PAYLOAD_BYTES,
    RUN,
    RUN_DONE,
    RUN_LAYOUT,
    SCALE_LAYOUT,
    SETUP,
    STATUS,
    TOKEN_LAYOUT,
    WRITE,
    Damage,
    ErrorCode,
    Opcode,
    feed_layout,
    read_layout,
    write_layout,
)
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, cycle_now, pack, to_int, to_signed, unpack

RESPONSE = 0x80
MOST_FEEDS = (PAYLOAD_BYTES - RUN.byte_count) // FEED.byte_count  # largest number of feeds in a frame
Feeds = list[dict[str, int]]


class Surroundings:
    """Acts as memory, decoder, logits and host, and checks what the host port sends."""

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
        self.is_mute = False  # memory and decoder send no answers
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
        """The address after the last word, and on a resident machine the address after the last part of the
        last beat."""
        config = self.config
        beats = [TRIT_MEMORY + (config.trit_beats << config.part_bits)] if config.source == "resident" else []
        return [config.memory_words, *beats]

    @property
    def entries(self) -> int:
        """Number of values that LOGITS can read from a stream."""
        return int(2 * self.config.top_k or self.config.max_vocab)

    @property
    def running(self) -> int:
        return to_int(self.dut.running)

    def _take_write(self, cycle: int, payload: int) -> None:
        self.writes.check(cycle, payload)
        assert not self.running, (
            f"cycle {cycle}: a write came while running, so to a memory that is read, seed {self.seed}"
        )
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
        assert self.running, f"cycle {cycle}: a run began while the machine was not running, seed {self.seed}"
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
        """Return the expected answer to LOGITS."""
        scale = {f"scale_{name}": value for name, value in self.scale(stream).items()}
        sums = (self.logit(stream, offset + k) for k in range(count))
        return LOGITS_DONE.pack(**scale) + b"".join(number.to_bytes(4, "little", signed=True) for number in sums)

    async def _serve(self) -> None:
        """Drive logits and scale one cycle after their address, and a new status in every cycle."""
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
        """Check that the setup is valid one cycle before ``running`` rises, because readers load it then, and that it
        does not change while ``running`` is 1."""
        before = None
        while True:
            await FallingEdge(self.dut.clk)
            setup = to_int(self.dut.setup)
            if self.running and not to_int(self.dut.rst):
                assert setup == before, f"cycle {cycle_now()}: setup changes while running, seed {self.seed}"
            before = setup

    def expect(self, opcode: int, sequence: int, payload: bytes) -> None:
        """Expect a frame with these fields, byte for byte."""
        for index, byte in enumerate(encode_frame(opcode, sequence, payload)):
            self.answers.expect(byte, index=index)

    async def ask(self, opcode: int, sequence: int, payload: bytes, answer: bytes, answer_opcode: int = 0) -> None:
        """Send one command, and expect ``answer``."""
        self.expect(answer_opcode or opcode | RESPONSE, sequence, answer)
        self.rx.queue(encode_frame(opcode, sequence, payload))
        await self.answered()

    async def refused(self, code: ErrorCode, opcode: int, sequence: int, payload: bytes) -> None:
        """Send one command that must be refused with ``code`` and must leave the machine unchanged."""
        running, setup = self.running, to_int(self.dut.setup)
        await self.ask(opcode, sequence, payload, bytes([code]), Opcode.ERROR)
        assert (self.running, to_int(self.dut.setup)) == (running, setup), (
            f"a command that was refused with {code.name} changed running or setup"
        )

    async def answered(self) -> None:
        """Wait until a whole answer has come."""
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
        """Return feeds with random contents."""
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
        """Send a RUN that must be executed. Return its frame."""
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
        """Return the fields of the largest SETUP that fits."""
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
        """Send a SETUP that must be executed."""
        setup = SETUP.pack(**{**self.setup_fields(), **changes})
        await self.ask(Opcode.SETUP, sequence, setup, b"")
        assert self.running, f"the machine is not running after SETUP, seed {self.seed}"
        assert to_int(self.dut.setup) == int.from_bytes(setup, "little"), (
            f"setup differs from the SETUP that was sent, seed {self.seed}"
        )

    async def show_damage(self, sequence: int, kind: Damage) -> None:
        """Drive damage of this kind, and check the answer to DAMAGE."""
        fields = {"count": self.random.getrandbits(16), "kind": kind, "place": self.random.getrandbits(32)}
        self.dut.damage.value = pack(DAMAGE_LAYOUT, fields)
        await self.ask(Opcode.DAMAGE, sequence, b"", DAMAGE_DONE.pack(**fields))

    async def begin_run(self, sequence: int, streams: int = 1, count: int = 1) -> bytes:
        """Begin a RUN whose tokens do not come. Return its payload as soon as the decoder has accepted the run."""
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
    """Return the payload of a RUN. If ``streams`` is not the number of feeds, the length of the payload is wrong."""
    fields = {"chained": 0, "temperature": 0, **fields}
    head = RUN.pack(count=count, streams=len(feeds) if streams is None else streams, **fields)
    return head + b"".join(FEED.pack(**feed) for feed in feeds)
