"""The simulated board and the whole link: Client and loader against the real host port and memory."""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from lutern.firmware import loader
from lutern.firmware.link import Client, LinkError, RefusedError, SilenceError, Split
from lutern.firmware.loader import load_sections
from lutern.firmware.slip import encode_frame
from lutern.hw.config import TRIT_MEMORY
from lutern.hw.presets import preset
from lutern.hw.protocol import (
    CHECKSUM,
    CHUNK_BYTES,
    FEED,
    INFO,
    LOGITS,
    LOGITS_DONE,
    PROTOCOL_VERSION,
    RUN,
    RUN_DONE,
    RUN_TOKENS,
    SETUP,
    WRITE,
    WRITE_DONE,
    ErrorCode,
    Opcode,
    capability,
    crc32c,
)
from lutern.model_ref.errors import LuternError
from lutern.sim import chip_model, loopback, verilate
from lutern.sim.board import SimulatedBoard

CONFIG = preset("tiny").with_(streams=4)
VOCAB = 50
SETUP_BYTES = SETUP.pack(
    record_words=10,
    trit_beats=20,
    embedding_base=20,
    embedding_row_words=3,
    embedding_stride=1,
    embedding_bits=16,
    state_base=0,
    state_words=0,
    layers=2,
    vocab=VOCAB,
    image=0,
    trit_state=0,
    step_limit=0,
)


def new_board(**options: float) -> SimulatedBoard:
    return SimulatedBoard(loopback.Loopback(CONFIG), **options)  # type: ignore[arg-type]


@pytest.fixture
def board() -> Iterator[SimulatedBoard]:
    with new_board() as made:
        yield made


def random_words(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, CONFIG.word_bytes), dtype=np.uint8)


def run_command(feeds: Sequence[tuple[int, bool]], count: int) -> bytes:
    """Return the payload of a RUN that begins with each stream's token and `fresh`."""
    head = RUN.pack(count=count, temperature=0, streams=len(feeds), chained=0)
    return head + b"".join(FEED.pack(token=token, state_base=0, fresh=fresh, seed=1) for token, fresh in feeds)


def run_tokens(client: Client, feeds: Sequence[tuple[int, bool]], count: int) -> list[int]:
    answer = client.transact(Opcode.RUN, run_command(feeds, count))
    return np.frombuffer(answer, "<u2", offset=RUN_DONE.byte_count).tolist()


def dropped_frames(client: Client) -> int:
    return int(INFO.unpack(client.transact(Opcode.INFO))["dropped_frames"])


def test_info_is_the_configuration(board: SimulatedBoard) -> None:
    assert Client(board).transact(Opcode.INFO) == capability(CONFIG)


def test_load_fills_the_memories(board: SimulatedBoard) -> None:
    sections = [(0, random_words(CONFIG.memory_words, seed=1)), (TRIT_MEMORY, random_words(CONFIG.trit_beats, seed=2))]
    total = sum(words.size for _, words in sections)
    steps: dict[str, list[int]] = {}
    board.record("write")
    before = board.cycles
    load_sections(Client(board), sections, progress=lambda what, done, all: steps.setdefault(what, []).append(done))
    assert list(steps) == ["comparing", "sending", "verifying"]
    for what, done in steps.items():
        assert done == sorted(set(done)) and done[-1] == total, what
    np.testing.assert_array_equal(board.taps("write").payloads, np.concatenate([words for _, words in sections]))
    cycles_per_byte = (board.cycles - before) / total
    print(f"load: {cycles_per_byte:.2f} cycles per byte, checksum of one cycle per byte included")
    assert cycles_per_byte < 6


@pytest.mark.parametrize("streams", [1, 3, 4])
def test_run_and_logits(streams: int, board: SimulatedBoard) -> None:
    client = Client(board)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    board.record()
    feeds, count = [(7 * stream + 7, stream != 1) for stream in range(streams)], RUN_TOKENS // streams
    tokens = streams * count
    answer = client.transact(Opcode.RUN, run_command(feeds, count))
    wanted = loopback.model_tokens(feeds, count, VOCAB)
    assert np.frombuffer(answer, "<u2", offset=RUN_DONE.byte_count).tolist() == wanted
    assert RUN_DONE.unpack(answer) == {
        "count": tokens,
        "cycles": loopback.TOKEN_CYCLES,
        "beats": 1,
        "words": loopback.WORDS,
        "saturations": loopback.SATURATIONS,
    }
    assert board.taps("token").integers().tolist() == wanted
    assert set(np.diff(board.taps("token").cycles)) == {loopback.TOKEN_CYCLES}
    assert board.taps("sum").integers().tolist() == [-8 * k - 1 for k in range(tokens)]
    for number in range(CONFIG.streams):
        answer = client.transact(Opcode.LOGITS, LOGITS.pack(stream=number, offset=2, count=62))
        sums = np.frombuffer(answer, "<i4", offset=LOGITS_DONE.byte_count)
        assert sums.tolist() == loopback.model_logits(number, 2, 62, tokens)
        assert LOGITS_DONE.unpack(answer) == {
            "scale_mantissa": loopback.SCALE_MANTISSA,
            "scale_exponent": loopback.SCALE_EXPONENT,
        }


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
        (
            Opcode.WRITE,
            WRITE.pack(address=TRIT_MEMORY + CONFIG.trit_beats) + bytes(CONFIG.word_bytes),
            ErrorCode.BAD_ADDRESS,
        ),
        (Opcode.WRITE, WRITE.pack(address=0xFFFFFFFF) + bytes(CONFIG.word_bytes), ErrorCode.BAD_ADDRESS),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=1, count=CONFIG.memory_words), ErrorCode.BAD_ADDRESS),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=0xFFFFFFFF, count=0xFFFFFFFF), ErrorCode.BAD_ADDRESS),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=0), ErrorCode.BAD_COUNT),
        (Opcode.RUN, run_command([(0, True)], 1)[:-1], ErrorCode.BAD_LENGTH),
        (Opcode.RUN, run_command([(0, True)], 0), ErrorCode.BAD_COUNT),
        (Opcode.RUN, run_command([(0, True)], 129), ErrorCode.BAD_COUNT),
        (Opcode.RUN, run_command([(0, True)] * 3, 43), ErrorCode.BAD_COUNT),
        (Opcode.RUN, run_command([], 1), ErrorCode.BAD_COUNT),
        (Opcode.RUN, run_command([(0, True)] * 5, 1), ErrorCode.BAD_COUNT),
        (Opcode.RUN, run_command([(VOCAB, True)], 1), ErrorCode.BAD_TOKEN),
        (Opcode.RUN, run_command([(0, True), (VOCAB, True)], 1), ErrorCode.BAD_TOKEN),
        (Opcode.LOGITS, LOGITS.pack(stream=0, offset=0, count=0), ErrorCode.BAD_COUNT),
        (Opcode.LOGITS, LOGITS.pack(stream=0, offset=0, count=129), ErrorCode.BAD_COUNT),
        (Opcode.LOGITS, LOGITS.pack(stream=0, offset=CONFIG.max_vocab, count=1), ErrorCode.BAD_COUNT),
        (Opcode.LOGITS, LOGITS.pack(stream=4, offset=0, count=1), ErrorCode.BAD_COUNT),
        (Opcode.SETUP, bytes(SETUP.byte_count), ErrorCode.BAD_SETUP),
    ],
)
def test_refusals(opcode: int, payload: bytes, code: ErrorCode, board: SimulatedBoard) -> None:
    client = Client(board)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    board.write(encode_frame(opcode, 99, payload))
    assert board.read(100, 0.1) == encode_frame(Opcode.ERROR, 99, bytes([code]))
    assert run_tokens(client, [(1, True)], 1) == loopback.model_tokens([(1, True)], 1, VOCAB)


def test_run_before_setup(board: SimulatedBoard) -> None:
    with pytest.raises(RefusedError) as error:
        run_tokens(Client(board), [(0, True)], 1)
    assert str(error.value) == (
        "The board refused RUN: no model is set up, or another program or a reset has stopped the model; load the "
        "model, and let one program alone use the port."
    )


def test_a_changed_memory_needs_a_setup(board: SimulatedBoard) -> None:
    """WRITE and CHECKSUM stop the machine, and a RUN after them is refused until the next SETUP."""
    client = Client(board)
    for opcode, payload in (
        (Opcode.WRITE, WRITE.pack(address=0) + bytes(CONFIG.word_bytes)),
        (Opcode.CHECKSUM, CHECKSUM.pack(address=TRIT_MEMORY, count=1)),
    ):
        client.transact(Opcode.SETUP, SETUP_BYTES)
        run_tokens(client, [(0, True)], 1)
        client.transact(opcode, payload)
        with pytest.raises(RefusedError, match="no model is set up"):
            run_tokens(client, [(0, True)], 1)


def test_resent_run_is_not_run_again(board: SimulatedBoard) -> None:
    client = Client(board)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    board.record("token")
    frame = encode_frame(Opcode.RUN, 77, run_command([(7, True), (8, False)], 5))
    answers = []
    for _ in range(3):
        board.write(frame)
        answers.append(board.read(1000, 0.1))
    assert answers[0] == answers[1] == answers[2]
    assert len(board.taps("token")) == 10
    board.write(encode_frame(Opcode.INFO, 78))  # after another command, the same frame counts as a new RUN
    board.read(1000, 0.1)
    board.write(frame)
    assert board.read(1000, 0.1) == answers[0]
    assert len(board.taps("token")) == 20


class FaultyLine:
    """A link that damages bytes in both directions. Seeded: bytes are flipped, lost, doubled, inserted or exchanged."""

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
def test_right_data_over_a_bad_line(seed: int) -> None:
    """With a fault in a third of all frames, and with pauses, memory and tokens are right, and no RUN is executed
    twice."""
    words = random_words(600, seed)
    with new_board(pause_share=0.25, seed=seed) as board:
        line = FaultyLine(board, seed, share=1 / 3)
        client = Client(line, timeout_s=0.02, token_timeout_s=0.001, tries=20)
        load_sections(client, [(0, words[:300]), (TRIT_MEMORY, words[300:])])
        client.transact(Opcode.SETUP, SETUP_BYTES)
        board.record("token")
        wanted: list[int] = []
        feeds = [(9, False), (10, False)]
        for _ in range(40):
            got = run_tokens(client, feeds, 3)
            assert got == loopback.model_tokens(feeds, 3, VOCAB), f"seed {seed}"
            wanted, feeds = wanted + got, [(token, False) for token in got[-2:]]
        assert board.taps("token").integers().tolist() == wanted, f"seed {seed}: a RUN ran twice"
        line.share = 0
        dropped = dropped_frames(client)
        print(f"seed {seed}: {line.fault_count} faults, {client.resent_count} resends, {dropped} frames dropped")
        assert line.fault_count > 20, f"seed {seed}"


def session(board: SimulatedBoard, seed: int) -> int:
    """Run a session over a bad line: load, set up, run. All data must be right, unless too many faults end the
    session."""
    draw = random.Random(seed)
    board.reset()
    board.taps("token", clear=True)
    board.record("token")
    line = chip_model.FaultyLine(board, seed, 10 ** draw.uniform(-3, -2.3))
    client = Client(line, timeout_s=0.005, token_timeout_s=0.001)
    words = random_words(draw.randrange(1, 200), seed)
    wanted: list[int] = []
    try:
        load_sections(client, [(draw.randrange(100), words)])
        client.transact(Opcode.SETUP, SETUP_BYTES)
        for _ in range(3):
            feeds = [(draw.randrange(VOCAB), draw.random() < 0.5) for _ in range(draw.randint(1, 4))]
            got = run_tokens(client, feeds, count := draw.randint(1, 5))
            assert got == loopback.model_tokens(feeds, count, VOCAB), f"seed {seed}"
            wanted += got
            assert board.taps("token").integers().tolist() == wanted, f"seed {seed}: a RUN ran twice"
    except SilenceError:
        if line.rate < 2e-3:  # the host must not give up on such a line; the traceback shows the seed and the message
            raise
    return line.fault_count


def test_sessions(board: SimulatedBoard) -> None:
    faults = sum(session(board, seed) for seed in range(200))
    print(f"200 sessions, {faults} faults")
    assert faults > 400


@pytest.mark.slow
def test_20000_sessions(board: SimulatedBoard, request: pytest.FixtureRequest) -> None:
    """Each call of this test runs the next 2,000 of 20,000 seeds."""
    cache = request.config.cache
    assert cache is not None
    first = int(cache.get("lutern/board_sessions", 200)) % 20_000
    for seed in range(first, first + 2_000):
        session(board, seed)
    cache.set("lutern/board_sessions", first + 2_000)


@pytest.mark.parametrize("seed", range(30))
def test_next_frame_is_answered_after_junk(seed: int, board: SimulatedBoard) -> None:
    """After junk, or after a frame that is cut anywhere, the next frame is answered."""
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
    board.write(encode_frame(Opcode.RUN, 2, run_command([(1, True)], 9)))
    board.run(generator.randrange(250))
    board.reset(generator.randint(1, 3))
    client = Client(board, timeout_s=0.01)
    with pytest.raises(RefusedError, match="no model is set up"):
        run_tokens(client, [(3, True)], 1)
    client.transact(Opcode.SETUP, SETUP_BYTES)
    assert run_tokens(client, [(3, True)], 6) == loopback.model_tokens([(3, True)], 6, VOCAB), f"seed {seed}"
    assert client.resent_count == 0, f"seed {seed}"


@pytest.mark.parametrize("seed", range(4))
def test_pauses_change_nothing(seed: int) -> None:
    words = random_words(300, seed)
    answers = []
    for share in (0.0, 0.5, 0.9):
        with new_board(pause_share=share, seed=seed) as board:
            client = Client(board)
            load_sections(client, [(17, words)])
            crc = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=18, count=10))
            assert crc == crc32c(words[1:11].tobytes()).to_bytes(4, "little"), f"seed {seed}"
            client.transact(Opcode.SETUP, SETUP_BYTES)
            answers.append(client.transact(Opcode.RUN, run_command([(2, False), (3, True)], 50)))
    assert answers[0] == answers[1] == answers[2], f"seed {seed}"


def test_error_of_a_silent_board() -> None:
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
        "The board did not answer INFO: 4 frames were sent, 2 s passed in silence, and not a byte came back; "
        "give the port of a board that has power and a bitstream of Lutern."
    )
    assert line.writes == 4


def test_another_version_is_refused() -> None:
    class Newer:
        def write(self, data: bytes) -> None:
            self.sequence = data[2]

        def read(self, limit: int, timeout_s: float) -> bytes:
            version = (PROTOCOL_VERSION + 1).to_bytes(2, "little")
            return encode_frame(0x81, self.sequence, version + capability(CONFIG)[2:])

    with pytest.raises(LinkError) as error:
        Client(Newer()).transact(Opcode.RUN)
    assert str(error.value) == (
        f"The board speaks protocol version {PROTOCOL_VERSION + 1}, but this program speaks version "
        f"{PROTOCOL_VERSION}; use gateware and program of the same release."
    )


def test_load_refusals(board: SimulatedBoard) -> None:
    client = Client(board)
    with pytest.raises(RefusedError) as refused:
        load_sections(client, [(CONFIG.memory_words - 9, random_words(10, 0))])
    assert str(refused.value) == (
        "The board refused CHECKSUM: the address is beyond the end of its memory; "
        "choose a smaller model or a larger memory."
    )
    with pytest.raises(LuternError) as error:
        load_sections(client, [(0, np.zeros((2, 5), np.uint8))])
    assert str(error.value) == (
        "Words of 5 bytes were laid out, but this board's words have 4; lay the model out for this board's "
        "configuration."
    )


def test_memory_that_loses_words_is_found(board: SimulatedBoard) -> None:
    class Forgetful(Client):
        def transact_all(
            self, opcode: Opcode, payloads: Iterable[bytes], split: Split | None = None
        ) -> Iterator[tuple[bytes, bytes]]:
            chunks = list(payloads)
            for index, (_, answer) in enumerate(super().transact_all(opcode, [chunks[0], *chunks[:1], *chunks[2:]])):
                yield chunks[index], WRITE_DONE.pack(next_address=256) if index == 1 else answer  # as if it was written

    with pytest.raises(LinkError, match=r"else than was sent: checksum \w{8} over 300 words from address 0,"):
        load_sections(Forgetful(board), [(0, random_words(300, 2))])


def test_a_load_continues_after_an_interruption(board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load sends only missing blocks: the missing blocks after an interrupted load, and none if the image is
    complete."""
    words = random_words(CONFIG.memory_words, 3)
    block = 4 * CHUNK_BYTES // CONFIG.word_bytes
    monkeypatch.setattr(loader, "BLOCK_BYTES", 4 * CHUNK_BYTES)
    board.record("write")

    def broken_off(what: str, done: int, total: int) -> None:
        if what == loader.SENDING and done > total // 2:
            raise KeyboardInterrupt

    def written_by_load() -> int:
        load_sections(Client(board), [(0, words)])
        return len(board.taps("write", clear=True))

    with pytest.raises(KeyboardInterrupt):
        load_sections(Client(board), [(0, words)], progress=broken_off)
    board.reset()
    there = len(board.taps("write", clear=True))
    assert len(words) // 2 < there < len(words)
    again = there - (len(words) - written_by_load())
    assert 0 <= again < block
    assert written_by_load() == 0
    words[[block, -1]] ^= 1
    assert written_by_load() == 2 * block
    answer = Client(board).transact(Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=len(words)))
    assert answer == crc32c(words.tobytes()).to_bytes(4, "little")


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
