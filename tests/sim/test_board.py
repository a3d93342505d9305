"""The simulated board and the whole link: Client and loader against the real host port and memory."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from lutern.firmware.link import Client, LinkError, RefusedError
from lutern.firmware.loader import load_words
from lutern.firmware.slip import encode_frame
from lutern.hw.config import preset
from lutern.hw.protocol import (
    CHECKSUM,
    INFO,
    LOGITS,
    RUN,
    RUN_DONE,
    SETUP,
    WRITE,
    WRITE_DONE,
    ErrorCode,
    Opcode,
    capability,
    crc32c,
)
from lutern.model_ref.errors import LuternError
from lutern.sim import loopback, verilate
from lutern.sim.board import SimulatedBoard

CONFIG = preset("tiny")
VOCAB = 50
SETUP_BYTES = SETUP.pack(
    head_words=1, stream_base=0, stream_words=10, embedding_base=20, embedding_row_words=3, vocab=VOCAB, spare=0
)


def new_board(**options: float) -> SimulatedBoard:
    return SimulatedBoard(loopback.Loopback(CONFIG), **options)  # type: ignore[arg-type]


@pytest.fixture
def board() -> Iterator[SimulatedBoard]:
    with new_board() as made:
        yield made


def random_words(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, CONFIG.word_bytes), dtype=np.uint8)


def run_tokens(client: Client, token: int, count: int, fresh: bool) -> list[int]:
    answer = client.transact(Opcode.RUN, RUN.pack(token=token, count=count, fresh=fresh))
    return np.frombuffer(answer, "<u2", offset=RUN_DONE.byte_count).tolist()


def dropped_frames(client: Client) -> int:
    return int(INFO.unpack(client.transact(Opcode.INFO))["dropped_frames"])


def test_info_is_the_configuration(board: SimulatedBoard) -> None:
    assert Client(board).transact(Opcode.INFO) == capability(CONFIG)


def test_load_fills_the_memory(board: SimulatedBoard) -> None:
    words = random_words(CONFIG.memory_words, seed=1)
    steps: list[tuple[int, int]] = []
    board.record("write")
    before = board.cycles
    load_words(Client(board), words, CONFIG.memory_words, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (words.size, words.size)
    np.testing.assert_array_equal(board.taps("write").payloads, words)
    cycles_per_byte = (board.cycles - before) / words.size
    print(f"load: {cycles_per_byte:.2f} cycles per byte, checksum of one cycle per byte included")
    assert cycles_per_byte < 3.5


def test_run_and_logits(board: SimulatedBoard) -> None:
    client = Client(board)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    board.record()
    answer = client.transact(Opcode.RUN, RUN.pack(token=7, count=128, fresh=1))
    wanted = loopback.model_tokens(7, 128, True, VOCAB)
    assert np.frombuffer(answer, "<u2", offset=RUN_DONE.byte_count).tolist() == wanted
    assert RUN_DONE.unpack(answer) == {
        "count": 128, "cycles": loopback.TOKEN_CYCLES, "beats": 1, "total_cycles": 128 * loopback.TOKEN_CYCLES,
        "scale_mantissa": loopback.SCALE_MANTISSA, "scale_exponent": loopback.SCALE_EXPONENT,
        "saturations": loopback.SATURATIONS,
    }
    assert board.taps("token").integers().tolist() == wanted
    assert set(np.diff(board.taps("token").cycles)) == {loopback.TOKEN_CYCLES}
    assert board.taps("sum").integers().tolist() == [-8 * k - 1 for k in range(128)]
    sums = np.frombuffer(client.transact(Opcode.LOGITS, LOGITS.pack(offset=2, count=62)), "<i4")
    assert sums.tolist() == loopback.model_logits(2, 62, 128)


@pytest.mark.parametrize(
    ("opcode", "payload", "code"),
    [
        (0x33, b"", ErrorCode.UNKNOWN_OPCODE),
        (Opcode.ERROR, b"", ErrorCode.UNKNOWN_OPCODE),
        (Opcode.INFO, b"x", ErrorCode.BAD_LENGTH),
        (Opcode.SETUP, SETUP_BYTES + b"x", ErrorCode.BAD_LENGTH),
        (Opcode.RUN, b"", ErrorCode.BAD_LENGTH),
        (Opcode.WRITE, b"123", ErrorCode.BAD_LENGTH),
        (Opcode.WRITE, WRITE.pack(address=0), ErrorCode.BAD_LENGTH),
        (Opcode.WRITE, WRITE.pack(address=0) + bytes(CONFIG.word_bytes + 1), ErrorCode.BAD_LENGTH),
        (Opcode.WRITE, WRITE.pack(address=CONFIG.memory_words) + bytes(CONFIG.word_bytes), ErrorCode.BAD_ADDRESS),
        (Opcode.WRITE, WRITE.pack(address=0xFFFFFFFF) + bytes(CONFIG.word_bytes), ErrorCode.BAD_ADDRESS),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=1, count=CONFIG.memory_words), ErrorCode.BAD_ADDRESS),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=0xFFFFFFFF, count=0xFFFFFFFF), ErrorCode.BAD_ADDRESS),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=0), ErrorCode.BAD_COUNT),
        (Opcode.RUN, RUN.pack(token=0, count=0, fresh=1), ErrorCode.BAD_COUNT),
        (Opcode.RUN, RUN.pack(token=0, count=129, fresh=1), ErrorCode.BAD_COUNT),
        (Opcode.RUN, RUN.pack(token=VOCAB, count=1, fresh=1), ErrorCode.BAD_TOKEN),
        (Opcode.LOGITS, LOGITS.pack(offset=0, count=0), ErrorCode.BAD_COUNT),
        (Opcode.LOGITS, LOGITS.pack(offset=0, count=129), ErrorCode.BAD_COUNT),
        (Opcode.LOGITS, LOGITS.pack(offset=CONFIG.max_vocab, count=1), ErrorCode.BAD_COUNT),
        (Opcode.SETUP, bytes(SETUP.byte_count), ErrorCode.BAD_SETUP),
    ],
)
def test_refusals(opcode: int, payload: bytes, code: ErrorCode, board: SimulatedBoard) -> None:
    client = Client(board)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    board.write(encode_frame(opcode, 99, payload))
    assert board.read(100, 0.1) == encode_frame(Opcode.ERROR, 99, bytes([code]))
    assert run_tokens(client, 1, 1, True) == loopback.model_tokens(1, 1, True, VOCAB)


def test_run_before_setup(board: SimulatedBoard) -> None:
    with pytest.raises(RefusedError) as error:
        run_tokens(Client(board), 0, 1, True)
    assert str(error.value) == "The board refused RUN: no model is set up; load one first."


def test_resent_run_is_not_run_again(board: SimulatedBoard) -> None:
    client = Client(board)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    board.record("token")
    frame = encode_frame(Opcode.RUN, 77, RUN.pack(token=7, count=5, fresh=1))
    answers = []
    for _ in range(3):
        board.write(frame)
        answers.append(board.read(1000, 0.1))
    assert answers[0] == answers[1] == answers[2]
    assert len(board.taps("token")) == 5
    board.write(encode_frame(Opcode.INFO, 78))  # another command in between: the same frame is a new RUN
    board.read(1000, 0.1)
    board.write(frame)
    assert board.read(1000, 0.1) == answers[0]
    assert len(board.taps("token")) == 10


class FaultyLine:
    """A link that damages bytes in both directions: flipped, lost, doubled, inserted, exchanged; seeded."""

    def __init__(self, board: SimulatedBoard, seed: int, share: float) -> None:
        self.board, self.generator, self.share, self.fault_count = board, random.Random(seed), share, 0

    def write(self, data: bytes) -> None:
        self.board.write(self.damage(data))

    def read(self, limit: int, timeout_s: float) -> bytes:
        return self.damage(self.board.read(limit, timeout_s))

    def damage(self, data: bytes) -> bytes:
        if not data or self.generator.random() > self.share:
            return data
        line, at = bytearray(data), self.generator.randrange(len(data))
        self.fault_count += 1
        match self.generator.randrange(5):
            case 0:
                for _ in range(self.generator.randint(1, 5)):
                    line[self.generator.randrange(len(line))] ^= 1 << self.generator.randrange(8)
            case 1:
                del line[at]
            case 2:
                line.insert(at, line[at])
            case 3:
                line.insert(at, self.generator.randrange(256))
            case 4:
                other = self.generator.randrange(len(line))
                line[at], line[other] = line[other], line[at]
        return bytes(line)


@pytest.mark.parametrize("seed", range(8))
def test_a_bad_line_gives_right_bytes(seed: int) -> None:
    """A fault in a third of all frames, pauses on both streams: memory and tokens are right, and no run ran twice."""
    words = random_words(600, seed)
    with new_board(pause_share=0.25, seed=seed) as board:
        line = FaultyLine(board, seed, share=1 / 3)
        client = Client(line, timeout_s=0.02, token_timeout_s=0.001, tries=20)
        load_words(client, words, CONFIG.memory_words)
        client.transact(Opcode.SETUP, SETUP_BYTES)
        board.record("token")
        wanted, token = [], 9
        for _ in range(40):
            got = run_tokens(client, token, 3, False)
            assert got == loopback.model_tokens(token, 3, False, VOCAB), f"seed {seed}"
            wanted, token = wanted + got, got[-1]
        assert board.taps("token").integers().tolist() == wanted, f"seed {seed}: a RUN ran twice"
        line.share = 0
        dropped = dropped_frames(client)
        print(f"seed {seed}: {line.fault_count} faults, {client.resent_count} resends, {dropped} frames dropped")
        assert line.fault_count > 20, f"seed {seed}"


@pytest.mark.parametrize("seed", range(30))
def test_in_step_within_one_frame(seed: int, board: SimulatedBoard) -> None:
    """Junk, or a frame broken off anywhere: the next frame is answered."""
    generator = random.Random(seed)
    junk = generator.randbytes(generator.randint(0, 1500))
    frame = encode_frame(Opcode.WRITE, 5, WRITE.pack(address=0) + generator.randbytes(512))
    board.write(junk + frame[: generator.randrange(len(frame))] + encode_frame(Opcode.INFO, 9))
    answer = board.read(1000, 0.01)
    assert answer[:3] == b"\xc0\x81\x09", f"seed {seed}: {answer!r}"


@pytest.mark.parametrize("seed", range(20))
def test_reset_in_mid_frame(seed: int, board: SimulatedBoard) -> None:
    generator = random.Random(seed)
    board.write(encode_frame(Opcode.SETUP, 1, SETUP_BYTES))
    board.write(encode_frame(Opcode.RUN, 2, RUN.pack(token=1, count=9, fresh=1)))
    board.run(generator.randrange(250))
    board.reset(generator.randint(1, 3))
    client = Client(board, timeout_s=0.01)
    with pytest.raises(RefusedError, match="no model is set up"):
        run_tokens(client, 3, 1, True)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    assert run_tokens(client, 3, 6, True) == loopback.model_tokens(3, 6, True, VOCAB), f"seed {seed}"
    assert client.resent_count == 0, f"seed {seed}"


@pytest.mark.parametrize("seed", range(4))
def test_pauses_change_nothing(seed: int) -> None:
    words = random_words(300, seed)
    answers = []
    for share in (0.0, 0.5, 0.9):
        with new_board(pause_share=share, seed=seed) as board:
            client = Client(board)
            load_words(client, words, CONFIG.memory_words, base_address=17)
            crc = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=18, count=10))
            assert crc == crc32c(words[1:11].tobytes()).to_bytes(4, "little"), f"seed {seed}"
            client.transact(Opcode.SETUP, SETUP_BYTES)
            answers.append(client.transact(Opcode.RUN, RUN.pack(token=2, count=50, fresh=0)))
    assert answers[0] == answers[1] == answers[2], f"seed {seed}"


def test_silence_is_told_in_words() -> None:
    class Silent:
        writes = 0

        def write(self, data: bytes) -> None:
            self.writes += 1

        def read(self, limit: int, timeout_s: float) -> bytes:
            return b""

    line = Silent()
    with pytest.raises(LinkError) as error:
        Client(line, timeout_s=0.5).transact(Opcode.INFO)
    assert str(error.value) == (
        "The board did not answer INFO, asked 4 times with 0.5 s of patience each; "
        "check the cable, the port and that the board runs Lutern."
    )
    assert line.writes == 4


def test_another_version_is_refused() -> None:
    class Newer:
        def write(self, data: bytes) -> None:
            self.sequence = data[2]

        def read(self, limit: int, timeout_s: float) -> bytes:
            return encode_frame(0x81, self.sequence, b"\x02\x00" + capability(CONFIG)[2:])

    with pytest.raises(LinkError) as error:
        Client(Newer()).transact(Opcode.RUN)
    assert str(error.value) == (
        "The board speaks protocol version 2, this program version 1; use gateware and program of the same release."
    )


def test_load_refusals(board: SimulatedBoard) -> None:
    client = Client(board)
    with pytest.raises(LuternError) as error:
        load_words(client, random_words(10, 0), 8)
    assert str(error.value) == (
        "10 words at address 0 do not fit into a memory of 8 words; choose a smaller model or a larger memory."
    )
    with pytest.raises(LuternError) as error:
        load_words(client, np.zeros((2, 5), np.uint8), 8)
    assert str(error.value) == (
        "Words of 5 bytes were laid out, but this board's have 4; lay the model out for this board's configuration."
    )


def test_memory_that_forgets_is_found(board: SimulatedBoard) -> None:
    class Forgetful(Client):
        def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
            if opcode == Opcode.WRITE and WRITE.unpack(payload)["address"] == 128:
                return WRITE_DONE.pack(next_address=256)  # as if written
            return super().transact(opcode, payload, timeout_s=timeout_s)

    with pytest.raises(LinkError, match=r"memory holds something else than was sent: checksum \w{8} over 300 words"):
        load_words(Forgetful(board), random_words(300, 2), CONFIG.memory_words)


def test_unknown_tap(board: SimulatedBoard) -> None:
    with pytest.raises(LuternError) as error:
        board.taps("gates")
    assert str(error.value) == "The simulated board has no tap 'gates'; it has token, write, sum."


def test_component_without_link() -> None:
    class Deaf(wiring.Component):
        tx: Out(stream.Signature(8))
        i: In(1)

    with pytest.raises(LuternError, match=r"Deaf has no port rx__valid; a simulated board needs the byte streams"):
        SimulatedBoard(Deaf())


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LuternError) as error:
        new_board()
    assert str(error.value) == (
        "No c++ on PATH: simulation compiles the gateware, so install g++ (Debian and Ubuntu: apt install g++)."
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "file"))
    with pytest.raises(LuternError, match=r"The simulated board cannot be built in .*; make that folder writable"):
        new_board()


def test_second_start_does_not_elaborate(board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verilate, "convert_rtlil", lambda component: pytest.fail("elaborated again"))
    with new_board() as again:
        assert Client(again).transact(Opcode.INFO) == capability(CONFIG)
