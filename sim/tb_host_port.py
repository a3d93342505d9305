"""Bench of hw/host_port.py: every port watched, every payload foretold by the host's own code.

    frames ─► i_rx │ host port │ o_tx ─► frames, compared byte for byte
                     o_write ─► memory ─► o_read, i_read;  o_run ─► tokens ─► i_token, status;  logits, one cycle later

`parameters`: config (the attributes that HostPort wants), pause (of all streams), frames (how many of each kind).
"""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from lutern.firmware.slip import encode_frame
from lutern.hw.protocol import (
    CHECKSUM,
    CHUNK_BYTES,
    LOGITS,
    PAYLOAD_BYTES,
    READ_LAYOUT,
    RUN,
    RUN_DONE,
    RUN_LAYOUT,
    SETUP,
    STATUS,
    TOKEN_LAYOUT,
    WRITE,
    ErrorCode,
    Opcode,
    crc32c,
    write_layout,
)
from lutern.sim.runner import bench_parameters, bench_seed
from lutern.sim.scoreboard import Scoreboard
from lutern.sim.streams import StreamMonitor, StreamSink, StreamSource, pack, reset, start, to_int, to_signed, unpack

RESPONSE = 0x80


class Surroundings:
    """Memory, decoder and logits as the host port sees them, and the checks of what it sends."""

    def __init__(self, dut: Any, *, pause: str, seed: int, info: bytes, word_bytes: int) -> None:
        self.dut, self.seed, self.info, self.word_bytes = dut, seed, info, word_bytes
        self.random = random.Random(seed)
        self.memory: dict[int, int] = {}
        self.answer_count, self.run_cycle, self.run_sequence = 0, 0, 0
        self.run_tokens, self.last_answer = b"", b""
        self.rx = StreamSource(dut, "i_rx", pause=pause, seed=seed)
        self.tx = StreamSink(dut, "o_tx", pause=pause, seed=seed + 1)
        self.words = StreamSource(dut, "i_read", pause=pause, seed=seed + 2)
        self.tokens = StreamSource(dut, "i_token", pause=pause, seed=seed + 3)
        for index, name in enumerate(("o_write", "o_read", "o_run")):
            StreamSink(dut, name, pause=pause, seed=seed + 4 + index)
        self.writes = Scoreboard("host_port.o_write", seed=seed, bits=24 + 8 * word_bytes)
        self.runs = Scoreboard("host_port.o_run", seed=seed, bits=33)
        self.answers = Scoreboard("host_port.o_tx", seed=seed, bits=8)
        StreamMonitor(dut, "o_tx", on_item=self._take_answer)
        StreamMonitor(dut, "i_rx")
        StreamMonitor(dut, "i_token", on_item=self._take_token)
        StreamMonitor(dut, "o_write", on_item=self._take_write)
        StreamMonitor(dut, "o_read", on_item=self._take_read)
        StreamMonitor(dut, "o_run", on_item=self._take_run)
        self.status = {"cycles": 0xC0DB, "beats": 0xDBC0C0, "scale_mantissa": 0x1FFFF, "scale_exponent": -2048,
                       "saturations": 0xFFFF}
        dut.status.value = pack(STATUS, self.status)
        cocotb.start_soon(self._serve_logits())

    def _take_write(self, cycle: int, payload: int) -> None:
        self.writes.check(cycle, payload)
        fields = unpack(write_layout(self.word_bytes), payload)
        self.memory[fields["address"]] = fields["word"]

    def _take_read(self, cycle: int, payload: int) -> None:
        fields = unpack(READ_LAYOUT, payload)
        self.words.queue(self.memory.get(fields["address"] + k, 0) for k in range(fields["count"]))

    def _take_run(self, cycle: int, payload: int) -> None:
        self.runs.check(cycle, payload)
        self.run_cycle, self.run_tokens = cycle, b""
        fields = unpack(RUN_LAYOUT, payload)
        count = fields["count"]
        self.tokens.queue(
            pack(TOKEN_LAYOUT, {"token": self.token(fields["token"], k), "last": k == count - 1}) for k in range(count)
        )

    def token(self, token: int, index: int) -> int:
        return (token * 257 + index * 91 + self.seed) & 0xFFFF

    def logit(self, index: int) -> int:
        return to_signed(index * 0x12345 + self.seed & 0xFFFFFF, 24)

    async def _serve_logits(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            address = to_int(self.dut.logits_address)
            await RisingEdge(self.dut.clk)
            self.dut.logits_data.value = self.logit(address) & 0xFFFFFF

    def expect(self, opcode: int, sequence: int, payload: bytes) -> None:
        """This frame must come, byte for byte."""
        for index, byte in enumerate(encode_frame(opcode, sequence, payload)):
            self.answers.expect(byte, index=index)

    async def ask(self, opcode: int, sequence: int, payload: bytes, answer: bytes, answer_opcode: int = 0) -> None:
        """One command and its foretold answer."""
        self.expect(answer_opcode or opcode | RESPONSE, sequence, answer)
        self.rx.queue(encode_frame(opcode, sequence, payload))
        await self.answered()

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
        token = unpack(TOKEN_LAYOUT, payload)
        self.run_tokens += token["token"].to_bytes(2, "little")
        if token["last"]:
            count = len(self.run_tokens) // 2
            done = RUN_DONE.pack(count=count, total_cycles=cycle - self.run_cycle, **self.status)
            self.last_answer = done + self.run_tokens
            self.expect(Opcode.RUN | RESPONSE, self.run_sequence, self.last_answer)

    def write_command(self, address: int, words: list[int]) -> bytes:
        for index, word in enumerate(words):
            fields = {"address": address + index, "word": word}
            self.writes.expect(pack(write_layout(self.word_bytes), fields), index=index)
        return WRITE.pack(address=address) + b"".join(word.to_bytes(self.word_bytes, "little") for word in words)


def surround(dut: Any) -> tuple[Surroundings, dict[str, Any]]:
    parameters = bench_parameters()
    info = bytes.fromhex(parameters["info"])
    return Surroundings(
        dut, pause=parameters["pause"], seed=bench_seed(), info=info, word_bytes=parameters["word_bytes"]
    ), parameters


@cocotb.test()
async def commands(dut: Any) -> None:
    """Each command in random order and with random contents."""
    around, parameters = surround(dut)
    generator, word_bytes, memory_words = around.random, parameters["word_bytes"], parameters["memory_words"]
    await start(dut)
    setup = SETUP.pack(head_words=3, stream_base=7, stream_words=90, embedding_base=5, embedding_row_words=0xC0DB,
                       vocab=parameters["max_vocab"], spare=0xDBDCC0DD)
    await around.ask(Opcode.RUN, 1, RUN.pack(token=0, count=1, fresh=1), bytes([ErrorCode.NOT_SET_UP]), Opcode.ERROR)
    await around.ask(Opcode.SETUP, 2, setup, b"")
    assert to_int(dut.setup) == int.from_bytes(setup, "little"), f"setup, seed {around.seed}"
    for number in range(parameters["frames"]):
        sequence = number + 3 & 0xFF
        match generator.randrange(4):
            case 0:
                await around.ask(Opcode.INFO, sequence, b"", around.info)
            case 1:
                count = generator.randint(1, CHUNK_BYTES // word_bytes)
                address = generator.randrange(memory_words - count)
                words = [generator.choice((0, generator.getrandbits(8 * word_bytes))) for _ in range(count)]
                command = around.write_command(address, words)
                await around.ask(Opcode.WRITE, sequence, command, (address + count).to_bytes(4, "little"))
                count = generator.randint(1, count)
                crc = crc32c(b"".join(word.to_bytes(word_bytes, "little") for word in words[:count]))
                command = CHECKSUM.pack(address=address, count=count)
                await around.ask(Opcode.CHECKSUM, sequence, command, crc.to_bytes(4, "little"))
            case 2:
                count = generator.randint(1, 20)
                offset = generator.randrange(parameters["max_vocab"] - count)
                sums = b"".join(around.logit(offset + k).to_bytes(4, "little", signed=True) for k in range(count))
                await around.ask(Opcode.LOGITS, sequence, LOGITS.pack(offset=offset, count=count), sums)
            case 3:
                await around.ask(0x77, sequence, b"", bytes([ErrorCode.UNKNOWN_OPCODE]), Opcode.ERROR)
    around.answers.finish()


@cocotb.test()
async def runs(dut: Any) -> None:
    """RUN: the request, the tokens, the figures; and a resend that reaches nobody but the host."""
    around, parameters = surround(dut)
    await start(dut)
    setup = SETUP.pack(head_words=1, stream_base=0, stream_words=1, embedding_base=0, embedding_row_words=1,
                       vocab=parameters["max_vocab"], spare=0)
    await around.ask(Opcode.SETUP, 0, setup, b"")
    for sequence, count in enumerate((1, 2, 7, 128), 1):
        token, fresh = around.random.randrange(parameters["max_vocab"]), sequence % 2
        around.runs.expect(pack(RUN_LAYOUT, {"token": token, "count": count, "fresh": fresh}))
        frame = encode_frame(Opcode.RUN, sequence, RUN.pack(token=token, count=count, fresh=fresh))
        for is_resend in (False, True):
            if is_resend:
                around.expect(Opcode.RUN | RESPONSE, sequence, around.last_answer)
            around.run_sequence = sequence
            around.rx.queue(frame)
            await around.answered()
    assert around.runs.finish() == 4
    around.answers.finish()


@cocotb.test()
async def limits(dut: Any) -> None:
    """The longest and shortest frame, one byte beyond either, broken escapes; the last word, the largest counts."""
    around, parameters = surround(dut)
    word_bytes, memory_words, vocab = parameters["word_bytes"], parameters["memory_words"], parameters["max_vocab"]
    await start(dut)
    unknown = bytes([ErrorCode.UNKNOWN_OPCODE])
    await around.ask(0x10, 1, bytes(PAYLOAD_BYTES), unknown, Opcode.ERROR)
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

    command = around.write_command(memory_words - 1, [1])
    await around.ask(Opcode.WRITE, 1, command, memory_words.to_bytes(4, "little"))
    crc = crc32c((1).to_bytes(word_bytes, "little")).to_bytes(4, "little")
    await around.ask(Opcode.CHECKSUM, 2, CHECKSUM.pack(address=memory_words - 1, count=1), crc)
    bad_address = bytes([ErrorCode.BAD_ADDRESS])
    await around.ask(
        Opcode.WRITE, 3, WRITE.pack(address=memory_words) + bytes(word_bytes), bad_address, Opcode.ERROR
    )
    await around.ask(Opcode.CHECKSUM, 4, CHECKSUM.pack(address=memory_words, count=1), bad_address, Opcode.ERROR)

    good = {"head_words": 9, "stream_base": memory_words - 9, "stream_words": 9, "embedding_base": memory_words - 1,
            "embedding_row_words": 1, "vocab": vocab, "spare": 0}
    await around.ask(Opcode.SETUP, 1, SETUP.pack(**good), b"")
    for name, value in (("head_words", 10), ("head_words", 0), ("embedding_row_words", 0),
                        ("stream_base", memory_words - 8), ("stream_words", 0),
                        ("embedding_base", memory_words), ("vocab", vocab + 1), ("vocab", 0)):
        bad = SETUP.pack(**{**good, name: value})
        await around.ask(Opcode.SETUP, 2, bad, bytes([ErrorCode.BAD_SETUP]), Opcode.ERROR)
    sums = b"".join(around.logit(k).to_bytes(4, "little", signed=True) for k in range(vocab - 128, vocab))
    await around.ask(Opcode.LOGITS, 3, LOGITS.pack(offset=vocab - 128, count=128), sums)
    bad_count = bytes([ErrorCode.BAD_COUNT])
    for offset, count in ((vocab - 127, 128), (0, 129), (0, 0)):
        await around.ask(Opcode.LOGITS, 4, LOGITS.pack(offset=offset, count=count), bad_count, Opcode.ERROR)
    for count in (0, 129):
        await around.ask(Opcode.RUN, 5, RUN.pack(token=0, count=count, fresh=0), bad_count, Opcode.ERROR)
    bad_token = bytes([ErrorCode.BAD_TOKEN])
    await around.ask(Opcode.RUN, 6, RUN.pack(token=vocab, count=1, fresh=0), bad_token, Opcode.ERROR)


@cocotb.test()
async def reset_in_mid_frame(dut: Any) -> None:
    """A reset anywhere: nothing of the old frame is left, in either direction."""
    around, _ = surround(dut)
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
