"""`lutern generate --on` and `lutern selftest` at the port of the simulated board, whose line is simulated bit by
bit."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import processors

from letters import LETTERS, save_letters
from lutern.api.ports import built_rates, find_rate, known_rates
from lutern.boards.cache import seal
from lutern.firmware.conversations import Sampling, generate
from lutern.firmware.link import Client, LinkError
from lutern.firmware.serial_port import PortError, SerialPort
from lutern.firmware.session import GoldenSession
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.hw.link.uart import LOWEST_DIVISOR
from lutern.hw.presets import PRESETS, preset
from lutern.hw.protocol import PROTOCOL_VERSION, RESPONSE, WRITE, Opcode, capability
from lutern.hw.top import SerialTop
from lutern.model_ref.checkpoint import load_checkpoint, save_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import chain_checkpoint
from lutern.model_ref.tokenizer import Tokenizer, character_tokenizer
from lutern.sim.board import SimulatedBoard
from lutern.sim.board import simulated as with_memory
from lutern.sim.loopback import SerialLoopback
from lutern.sim.pty_board import PtyBoard
from processes import Finished, finish, lutern, run, started

CONFIG = preset("tiny")
WITHOUT_WEIGHTS = preset("host").with_(memory_words=1024, max_width=64, max_state=128, max_vocab=64)
"""The preset with changes that a board may make. tests/sim/test_host_line.py uses the same machine, so that it is
compiled only once."""
UNKNOWN = CONFIG.with_(name="line", memory_words=1 << 13)
"""The machine of tests/sim/test_serial_line.py."""
TOKENS = 4
BOARD_COMMAND = (sys.executable, "-m", "lutern.cli.main", "board", "--preset", "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_letters(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> str:
    golden = GoldenSession(integer_weights(load_checkpoint(folder)))
    tokens = [token for token, _ in generate(golden, [1, 2], TOKENS, Sampling(0.9, seed=4))]
    return "ab" + "".join(LETTERS[token] for token in tokens) + "\n"


class Board:
    """The simulated board with a line that flips a bit in every ``faulty``th transfer, in both directions."""

    def __init__(self, board: SimulatedBoard) -> None:
        self.board, self.draw, self.faulty, self.pieces = board, random.Random(3), 0, 0
        self.taken = 0
        self.cut_after: int | None = None
        self.cut = threading.Event()

    def write(self, data: bytes) -> None:
        self.taken += len(data)
        if self.cut_after is not None and self.taken > self.cut_after:
            self.cut.set()
        self.board.write(self._damaged(data))

    def read(self, limit: int, timeout_s: float) -> bytes:
        return self._damaged(self.board.read(limit, timeout_s))

    def run(self, cycles: int) -> int:
        return self.board.run(cycles)

    def _damaged(self, data: bytes) -> bytes:
        self.pieces += bool(data)
        if not data or not self.faulty or self.pieces % self.faulty:
            return data
        line = bytearray(data)
        line[self.draw.randrange(len(line))] ^= 1 << self.draw.randrange(8)
        return bytes(line)


@pytest.fixture(scope="module")
def simulated() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(SerialTop(CONFIG, LOWEST_DIVISOR)) as board:
        yield board


@pytest.fixture
def board(simulated: SimulatedBoard) -> Board:
    simulated.reset()
    return Board(simulated)


def generate_on(port: str, folder: Path, *more: str) -> Finished:
    return lutern(
        "generate", "ab", "--model", str(folder), "-n", str(TOKENS), "-t", "0.9", "--seed", "4", "--on", port, *more
    )


def assert_refused(done: Finished, sentence: str) -> None:
    """Check for one sentence on stderr, no text on stdout, and exit code 1."""
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"lutern: {sentence}\n")


def test_text_from_the_port(board: Board, folder: Path, expected: str) -> None:
    """The chip's digest identifies the machine. A second run of the command finds the model already loaded."""
    with PtyBoard(board) as served:
        done = generate_on(served.port, folder)
        assert (done.returncode, done.stdout) == (0, expected), done.stderr
        assert f"tiny, 16 lanes, {served.port}: " in done.stderr
        before = board.taken
        done = generate_on(served.port, folder, "--preset", "tiny")
        assert (done.returncode, done.stdout) == (0, expected), done.stderr
        assert board.taken - before < 1000 < before


def test_texts_and_turns_end_with_the_end_token(board: Board, tmp_path: Path) -> None:
    """The known text is a, b, c, d, e, </s>, both for several prompts in one command and for turns."""
    tokens = [*LETTERS, "<s>", "</s>"]
    library = character_tokenizer(tokens)
    library.add_special_tokens(["<s>", "</s>"])
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 27)])
    config = ModelConfig(vocab_size=29, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
    chain = [tokens.index(token) for token in ("<s>", "a", "b", "c", "d", "e", "</s>")]
    save_checkpoint(tmp_path, config, chain_checkpoint(config, dict(itertools.pairwise(chain)), 3).tensors)
    (tmp_path / "tokenizer.json").write_text(Tokenizer(library).to_json())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [28], "do_sample": false}')
    (tmp_path / "lines").write_text("a\nb\n")
    with PtyBoard(board) as served:
        common = ("generate", "--model", str(tmp_path), "--on", served.port)
        assert lutern(*common, "--prompt", "b", "--prompt", "", "--stop", "e").stdout == "bcd\nabcd\n"
        command = [sys.executable, "-m", "lutern.cli.main", *common, "--interactive", "--top-p", "0.9"]
        with (tmp_path / "lines").open() as lines:
            done = run(command, stdin=lines)
        assert done.stdout == "bcde\ncde\n", done.stderr


def test_text_over_a_bad_line(board: Board, folder: Path, expected: str) -> None:
    board.faulty = 7
    with PtyBoard(board) as served:
        done = generate_on(served.port, folder)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert board.pieces > 3 * board.faulty


def test_the_cable_is_pulled(board: Board, tmp_path: Path) -> None:
    """The memory does not contain this model yet, so the command loads the model. The cable is unplugged in the middle
    of this load."""
    folder = save_letters(tmp_path, seed=10)
    board.cut_after = 3000
    with PtyBoard(board) as served:
        threading.Thread(target=lambda: (board.cut.wait(60), served.close())).start()
        done = generate_on(served.port, folder)
    assert board.cut.is_set()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"lutern: The port {served.port} is gone; plug the board in again and repeat the command: data that the "
        f"board's memory holds already are not sent again."
    )


def test_another_preset_is_refused(board: Board, folder: Path) -> None:
    with PtyBoard(board) as served:
        done = generate_on(served.port, folder, "--preset", "sim-64")
    assert done.returncode == 1
    assert re.fullmatch(
        r"lutern: the chip was built for machine [0-9a-f]{32}, which is none of sim-64 in this "
        r"program; use gateware and program of the same release, or rebuild the bitstream\.\n",
        done.stderr,
    )


def test_selftest(board: Board) -> None:
    with PtyBoard(board) as served:
        done = lutern("selftest", "--on", served.port, "--words", "300", "--baud", "3000000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        f"pass  link    protocol version {PROTOCOL_VERSION}, machine tiny, 75 MHz, 3,000,000 baud",
        "pass  memory  600 words of 4 bytes, and their complements, written and read back",
        "pass  decode  random weights: 8 tokens and their logits equal the integer model's",
    ]


@pytest.mark.slow
def test_weights_over_the_port(folder: Path, expected: str) -> None:
    """A chip without weights receives them for every token, also over a bad line. The selftest skips the test of the
    memory."""
    with SimulatedBoard(SerialTop(WITHOUT_WEIGHTS, LOWEST_DIVISOR)) as chip:
        board = Board(chip)
        board.faulty = 40
        with PtyBoard(board) as served:
            done = generate_on(served.port, folder, "--baud", "3000000")
            assert (done.returncode, done.stdout) == (0, expected), done.stderr
            assert board.pieces > 3 * board.faulty
            assert f"host, 10 lanes, {served.port}: " in done.stderr
            bytes_per_token, bound = re.search(  # type: ignore[union-attr]
                r"([\d,]+) bytes of weights come over the link for each token: at most ([\d.]+) tokens/s at "
                "3,000,000 baud",
                done.stderr,
            ).groups()
            assert float(bound) == pytest.approx(300_000 / int(bytes_per_token.replace(",", "")), rel=0.01)
            board.faulty = 0
            done = lutern("selftest", "--on", served.port)
    assert (done.returncode, [line[:12] for line in done.stdout.splitlines()]) == (0, ["pass  link  ", "pass  decode"])


def test_port_in_use_by_another_program(board: Board, folder: Path) -> None:
    with PtyBoard(board) as served, SerialPort(served.port):
        done = generate_on(served.port, folder)
    assert_refused(done, f"The port {served.port} is in use by another program; end that one or give another port.")


def test_port_without_a_chip(folder: Path) -> None:
    """The command reports an error if no chip is at the other end of the port."""
    far, near = os.openpty()
    try:
        port = os.ttyname(near)
        done = generate_on(port, folder, "--baud", "2000000")
    finally:
        os.close(far)
        os.close(near)
    assert_refused(
        done,
        "The board did not answer INFO: 4 frames were sent, 4 s passed in silence, and not a byte came back; give the "
        "port of a board that has power and a bitstream of Lutern.",
    )


class RatedChip:
    """A chip that answers at one baud rate. At other rates both ends receive noise. ``impossible``: a rate that the
    port refuses."""

    def __init__(self, baud: int, impossible: int = 0) -> None:
        self.own, self.impossible, self.baud = baud, impossible, 0
        self.asked: list[int] = []
        self.draw, self.decoder, self.answers = random.Random(5), FrameDecoder(), b""

    def set_baud(self, baud: int) -> None:
        if baud == self.impossible:
            raise PortError("The port cannot be used at that rate.")
        self.baud, self.answers = baud, b""

    def write(self, data: bytes) -> None:
        self.asked.append(self.baud)
        if self.baud != self.own:
            data, self.answers = self.draw.randbytes(len(data)), self.draw.randbytes(7)
        for frame in self.decoder.feed(data):
            self.answers += encode_frame(frame.opcode | RESPONSE, frame.sequence, capability(CONFIG))

    def read(self, limit: int, timeout_s: float) -> bytes:
        data, self.answers = self.answers[:limit], self.answers[limit:]
        return data


@pytest.mark.parametrize("own", [8_000_000, 3_000_000, 1_000_000])
def test_the_rate_is_found(own: int) -> None:
    chip = RatedChip(own, impossible=12_000_000)
    rates = [12_000_000, 5_333_333, 3_000_000, 1_000_000, 8_000_000]
    assert find_rate(chip, rates) == chip.baud == own
    assert list(dict.fromkeys(chip.asked)) == rates[1 : rates.index(own) + 1]


def test_no_rate_is_found() -> None:
    chip = RatedChip(2_000_000)
    with pytest.raises(LinkError) as error:
        find_rate(chip, [3_000_000, 1_000_000])
    assert str(error.value) == (
        "The board did not answer at 3,000,000, 1,000,000 baud: 6 frames were sent and 42 bytes came back that make no "
        "whole frame; give the port of a board that has power and a bitstream of Lutern, or the rate of its gateware "
        "with --baud."
    )
    assert chip.asked == [3_000_000, 1_000_000] * 3


def test_another_version_ends_the_search_for_a_rate() -> None:
    """The message states the version that answers, and the host tries no other rate."""
    chip = RatedChip(3_000_000)
    chip.decoder.feed = lambda data: []  # type: ignore[method-assign]
    version = (PROTOCOL_VERSION + 1).to_bytes(2, "little") + capability(CONFIG)[2:]
    chip.read = lambda limit, timeout_s: encode_frame(Opcode.INFO | RESPONSE, 1, version)  # type: ignore[method-assign]
    with pytest.raises(LinkError, match=f"^The board speaks protocol version {PROTOCOL_VERSION + 1},"):
        find_rate(chip, [3_000_000, 1_000_000])
    assert chip.asked == [3_000_000]


def test_order_of_the_rates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The host first tries the rates of the bitstreams that were built on this computer, beginning with the newest, and
    then the rates of all boards."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    of_boards = known_rates()
    assert built_rates() == [] and of_boards[0] == 3_000_000
    assert {3_000_000, 1_000_000, 8_000_000} <= set(of_boards)  # 8 Mbaud: the FT2232H of ECPIX-5 85F, at 65 MHz
    for age, content in enumerate(['{"baud": 9000000}', '{"baud": "x"}', "{", '{"baud": 1000000}', "[]", "{}"]):
        folder = tmp_path / "builds" / f"build-{age}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(content)
        seal(folder)
        os.utime(folder / "manifest.json", (1000 - age, 1000 - age))
    assert built_rates() == [9_000_000, 1_000_000]
    (tmp_path / "builds" / "build-0" / "manifest.json").write_text('{"baud": 9000001}')
    assert built_rates() == [1_000_000], "a manifest that changed after the build must be ignored"
    seal(tmp_path / "builds" / "build-0")
    assert built_rates() == [9_000_001, 1_000_000]
    assert known_rates() == [9_000_001, 1_000_000, *(baud for baud in of_boards if baud != 1_000_000)]


def test_a_chip_that_is_no_preset(folder: Path) -> None:
    """The chip reports the digest of a machine that this program does not know."""
    with SimulatedBoard(SerialLoopback(UNKNOWN, 25)) as chip, PtyBoard(chip) as served:
        done = generate_on(served.port, folder)
    assert_refused(
        done,
        f"the chip was built for machine {UNKNOWN.digest[:32]}, which is none of "
        f"{', '.join(PRESETS)} in this program; use gateware and program of the same release, or "
        "rebuild the bitstream.",
    )


class StuckBit(Board):
    """A board whose memory has bit 5 of word 77 stuck at 0."""

    def __init__(self, board: SimulatedBoard) -> None:
        super().__init__(board)
        self.decoder = FrameDecoder()

    def write(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            payload = bytearray(frame.payload)
            if frame.opcode == Opcode.WRITE:
                first = WRITE.unpack(frame.payload)["address"]
                at = WRITE.byte_count + (77 - first) * CONFIG.word_bytes
                if WRITE.byte_count <= at < len(payload):
                    payload[at] &= ~(1 << 5)
            super().write(encode_frame(frame.opcode, frame.sequence, bytes(payload)))


def test_selftest_of_a_faulty_memory(simulated: SimulatedBoard) -> None:
    """The error message names address and bit, and the other tests of the selftest continue."""
    simulated.reset()
    with PtyBoard(StuckBit(simulated)) as served:
        done = lutern("selftest", "--on", served.port, "--words", "300")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line[6:12] for line in lines] == ["link  ", "memory", "decode"]
    assert re.fullmatch(
        r"fail  memory  The memory is faulty: word 77 was written as [0-9a-f]{8} and differs in bit 5; "
        r"check clock and supply, and have the memory replaced if it stays so\.",
        lines[1],
    )


class StuckCell(Board):
    """A board whose SDRAM has one bit stuck at 1. The simulation sets the bit again every few cycles."""

    ADDRESS, BIT = 5000, 9

    def run(self, cycles: int) -> int:
        for _ in range(cycles // 500):
            word = self.board.peek(self.ADDRESS, 1)
            word[0, self.BIT // 8] |= 1 << self.BIT % 8
            self.board.poke(self.ADDRESS, word)
            if waiting := self.board.run(500):
                return waiting
        return 0


@pytest.mark.slow
def test_selftest_of_a_faulty_sdram() -> None:
    """The first words are enough to find the phase of the clock. Then the march reports address and bit."""
    with SimulatedBoard(with_memory(preset("sdram-x32"), LOWEST_DIVISOR)) as chip, PtyBoard(StuckCell(chip)) as served:
        done = lutern("selftest", "--on", served.port, "--words", "6000")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stderr
    assert [line[:12] for line in lines[:4]] == ["pass  link  ", "pass  clock ", "fail  march ", "fail  memory"]
    assert re.fullmatch(
        r"fail  march   memory: \d+ of the words read from 6,000 were wrong, the first at word 0x1388: "
        r"[0-9a-f]{8} was written, [0-9a-f]{8} came back \(bits 9\); check the memory's clock, .*",
        lines[2],
    )
    assert re.search(r"word 5000 was written as [0-9a-f]{8} and differs in bit 9;", lines[3])


def test_selftest_without_a_board() -> None:
    done = lutern("selftest", "--on", "/dev/ttyLUTERN9")
    assert done.returncode == 1
    assert done.stderr.startswith("lutern: There is no port /dev/ttyLUTERN9;")


def test_the_board_command(folder: Path, expected: str) -> None:
    """`lutern board` serves a port until Ctrl-C."""
    with started(BOARD_COMMAND) as served:
        assert served.stdout is not None
        port = served.stdout.readline().strip()
        assert os.path.exists(port)
        done = generate_on(port, folder)
        served.send_signal(signal.SIGINT)
        ended = finish(served)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_board_command_in_the_background() -> None:
    """A background job of a shell ignores Ctrl-C, so the command serves until SIGTERM."""
    with started(BOARD_COMMAND, ignores_sigint=True) as served:
        assert served.stdout is not None
        port = served.stdout.readline().strip()
        served.send_signal(signal.SIGINT)
        with SerialPort(port) as link:
            assert Client(link).transact(Opcode.INFO)
        served.send_signal(signal.SIGTERM)
        ended = finish(served)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "", "")
