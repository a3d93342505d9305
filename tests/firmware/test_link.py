"""The host's end of the link, with a model of the chip: lost frames, late frames, and an error message for each way in
which the board stays silent. A waiting time is how long the host waits for an answer before it gives up."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from lutern.firmware.line_quality import CHUNKS, MOST_FRAMES, LineQuality
from lutern.firmware.link import (
    HEARD_TRIES,
    TRIES,
    WINDOW,
    Client,
    LinkError,
    RefusedError,
    SilenceError,
    UnansweredError,
)
from lutern.firmware.loader import SPAN_BYTES, load_sections
from lutern.firmware.slip import FrameDecoder, encode_frame
from lutern.hw.presets import preset
from lutern.hw.protocol import CHECKSUM, CHUNK_BYTES, FEED, RESPONSE, RUN, SETUP, WRITE, Opcode, capability, crc32c
from lutern.sim.chip_model import FaultyLine, LineCut, ModelChip

CONFIG = preset("stream-x32").with_(name="link", memory_words=1 << 16)
FOUR_MB = preset("stream-x32").with_(name="link", memory_words=1 << 20)
SET_UP = SETUP.pack(**dict.fromkeys(SETUP.names, 1) | {"vocab": 50})


def random_words(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, CONFIG.word_bytes), dtype=np.uint8)


def run_command(streams: int = 1, count: int = 1) -> bytes:
    feed = FEED.pack(token=7, state_base=0, fresh=1, seed=1)
    return RUN.pack(count=count, temperature=0, streams=streams, chained=0) + streams * feed


class Picky(ModelChip):
    """A chip on a line that loses the frames for which ``loses`` returns true, given their number and opcode."""

    def __init__(self, loses: Callable[[int, int], bool]) -> None:
        super().__init__(CONFIG)
        self.loses, self.number = loses, 0
        self.waited: list[float] = []
        self.sent: list[tuple[int, int]] = []  # opcode, sequence number

    def write(self, data: bytes) -> None:
        self.number += 1
        self.sent.append((data[1], data[2]))
        if not self.loses(self.number, data[1]):
            super().write(data)

    def read(self, limit: int, timeout_s: float) -> bytes:
        data = super().read(limit, timeout_s)
        if not data:
            self.waited.append(timeout_s)
        return data


@pytest.mark.parametrize("which", [0, 5, WINDOW - 2])
def test_a_lost_frame_is_sent_again_at_once(which: int) -> None:
    """The answer to a later frame shows the loss, so the host sends the frame again without waiting."""
    chip = Picky(lambda number, opcode: number == 2 + which)  # frame 1 is the INFO of the greeting
    payloads = [WRITE.pack(address=number) + bytes(4) for number in range(WINDOW)]
    answers = list(Client(chip).transact_all(Opcode.WRITE, payloads))
    assert sorted(payload for payload, _ in answers) == payloads and chip.waited == []
    assert len(chip.sent) == 1 + WINDOW + 1


def test_the_last_frame_is_sent_again_after_a_silence() -> None:
    chip = Picky(lambda number, opcode: number == 1 + WINDOW)
    client = Client(chip)
    payloads = [WRITE.pack(address=number) + bytes(4) for number in range(WINDOW)]
    assert len(list(client.transact_all(Opcode.WRITE, payloads))) == WINDOW
    assert chip.waited == [client.timeout_s] and client.resent_count == 1
    assert [opcode for opcode, _ in chip.sent[-3:]] == [Opcode.INFO, Opcode.INFO, Opcode.WRITE]


def test_a_late_answer_is_not_taken_for_the_next() -> None:
    """The first answer arrives after the host sent the frame again, so the second answer arrives during the next
    command. The host drops the second answer."""

    class Late(ModelChip):
        is_late = False

        def read(self, limit: int, timeout_s: float) -> bytes:
            if self.is_late:
                self.is_late = False
                return b""
            end = self._answers.find(b"\xc0", 1) + 1
            return super().read(min(limit, end), timeout_s)

    chip = Late(CONFIG)
    chip.memory[:] = random_words(len(chip.memory), 3)
    client = Client(chip)
    client.transact(Opcode.INFO)
    for address in range(20):
        chip.is_late = address % 3 == 0
        answer = client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=address, count=1))
        assert answer == crc32c(chip.memory[address].tobytes()).to_bytes(4, "little"), f"word {address}"
    assert client.resent_count == 7


def assert_arrives(byte_count: int, seed: int) -> None:
    """Check that an image arrives whole over a line that damages one byte in 1000, and that the progress reports this
    error rate."""
    words, chip = random_words(byte_count // CONFIG.word_bytes, seed), ModelChip(FOUR_MB)
    line = FaultyLine(chip, seed, 1e-3)
    client = Client(line)
    told: set[str] = set()
    load_sections(client, [(0, words)], progress=lambda what, done, total: told.add(what))
    np.testing.assert_array_equal(chip.memory[: len(words)], words, err_msg=f"seed {seed}")
    share = words.size / line.byte_count
    print(f"{words.size:,} bytes: {share:.1%} of the line, {line.fault_count:,} faults; {client.quality.text()}")
    assert share > 0.7, f"seed {seed}"  # frames of 512 bytes would reach only 0.53
    assert client.quality.chunk_bytes() == 128, f"seed {seed}"
    assert 0.8e-3 < client.quality.error_rate < 1.25e-3, f"seed {seed}"
    assert any(what.startswith("sending (1 byte in ") for what in told), f"seed {seed}"


def test_a_line_that_damages_one_byte_in_1000() -> None:
    assert_arrives(1 << 19, 5)


@pytest.mark.slow
def test_4_mb_over_a_line_that_damages_one_byte_in_1000() -> None:
    assert_arrives(1 << 22, 6)


def test_frames_of_a_clean_line_stay_long() -> None:
    quality = LineQuality()
    for _ in range(1000):
        quality.answered(536)
    assert (quality.chunk_bytes(), quality.note(), quality.frames_enough(600)) == (CHUNK_BYTES, "", 1)
    quality.lost(524, is_certain=True)
    assert (quality.chunk_bytes(), quality.note()) == (CHUNK_BYTES, "")


def test_frame_length_and_tries_follow_the_error_rate() -> None:
    """Higher error rates give shorter frames and more frames that must be lost before the host gives up. Frames are
    lost at random with the probability that follows from the error rate, and ``LineQuality`` estimates the rate from
    the lost frames."""
    lengths, patience = [], []
    for rate in (1e-5, 3e-4, 1e-3, 3e-3, 1e-2):
        quality, draw = LineQuality(), np.random.default_rng(1)
        for _ in range(5000):
            size = quality.chunk_bytes() + 24
            if draw.random() < (1 - rate) ** size:
                quality.answered(size)
            else:
                quality.lost(size, is_certain=True)
        assert rate < 1e-4 or 0.6 * rate < quality.error_rate < 1.6 * rate, f"rate {rate}, seed 1"
        lengths.append(quality.chunk_bytes())
        patience.append(quality.frames_enough(64))
    print(lengths, patience)
    assert lengths == sorted(lengths, reverse=True) and {*lengths} >= {512, 256, 128, 32} and {*lengths} <= {*CHUNKS}
    assert patience == sorted(patience) and patience[-1] > 2 * TRIES
    for _ in range(10_000):
        quality.lost(30, is_certain=True)
    assert quality.frames_enough(600) == MOST_FRAMES


def test_frames_to_a_dead_board_are_no_line_errors() -> None:
    """Lost frames increase the measured error rate, and so the waiting time, only if a later frame was answered."""
    quality = LineQuality()
    quality.answered(536)
    for _ in range(1000):
        quality.lost(524, is_certain=False)
    assert quality.frames_enough(600) == 1 and quality.error_rate == 0
    quality.answered(536)
    assert quality.error_rate > 1e-3


def test_a_frame_that_is_never_answered_ends_the_load() -> None:
    """One frame is always lost, for example because the port drops one of its bytes. The host gives up only after the
    other frames are answered."""
    lost = WRITE.pack(address=3) + bytes(4)
    chip = Picky(lambda number, opcode: False)
    plain = chip.write
    chip.write = lambda data: None if lost in data else plain(data)  # type: ignore[method-assign]

    def load() -> None:
        commands = (WRITE.pack(address=number) + bytes(4) for number in range(500))
        list(Client(chip).transact_all(Opcode.WRITE, commands))

    with pytest.raises(UnansweredError, match=r"did not answer WRITE: .* but INFO is answered; before, "):
        load()
    assert chip.written > 200 * CONFIG.word_bytes
    assert len(chip.waited) <= HEARD_TRIES * TRIES + 2


def test_a_silent_board() -> None:
    chip = Picky(lambda number, opcode: True)
    with pytest.raises(SilenceError) as error:
        Client(chip).transact(Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=1))
    assert str(error.value) == (
        "The board did not answer INFO: 4 frames were sent, 4 s passed in silence, and not a byte came back; give the "
        "port of a board that has power and a bitstream of Lutern."
    )
    assert error.value.heard_bytes == 0


def test_a_board_that_sends_noise() -> None:
    class Noise:
        answers = b""

        def write(self, data: bytes) -> None:
            self.answers = b"\x55\xc0\xaa" * 7

        def read(self, limit: int, timeout_s: float) -> bytes:
            data, self.answers = self.answers, b""
            return data

    with pytest.raises(SilenceError) as error:
        Client(Noise()).transact(Opcode.INFO)
    assert str(error.value) == (
        "The board did not answer INFO: 8 frames were sent, 8 s passed in silence, and the 168 bytes that came back "
        "make no whole frame; give the rate of its gateware with --baud, or program a bitstream of Lutern."
    )


def test_the_board_falls_silent() -> None:
    chip = Picky(lambda number, opcode: number > 100)
    with pytest.raises(SilenceError) as error:
        load_sections(Client(chip), [(0, random_words(40_000, 1))])
    assert re.fullmatch(
        r"The board did not answer WRITE: \d+ frames were sent, 4 s passed in silence, and not a byte came back; "
        r"before, 100 frames came through and 0 did not; reset the board or plug it in again, and repeat the command: "
        r"data that its memory holds already are not sent again\.",
        str(error.value),
    ), str(error.value)
    assert chip.sent[-1][0] == Opcode.INFO


def test_answers_that_are_all_damaged() -> None:
    """The host sends the frame more often than on a silent line. Then the error message says how many bytes came."""

    class Hoarse(ModelChip):
        is_hoarse, asked = False, 0

        def write(self, data: bytes) -> None:
            self.asked += 1
            super().write(data)

        def read(self, limit: int, timeout_s: float) -> bytes:
            data = super().read(limit, timeout_s)
            return data.replace(b"\xc0", b"\xc1") if self.is_hoarse else data

    chip = Hoarse(CONFIG)
    client = Client(chip)
    client.transact(Opcode.INFO)
    chip.is_hoarse, chip.asked = True, 0
    with pytest.raises(
        SilenceError, match=r"did not answer CHECKSUM: 16 frames were sent, .*, and the 192 bytes that came "
    ):
        client.transact(Opcode.CHECKSUM, CHECKSUM.pack(address=0, count=1))
    assert chip.asked == HEARD_TRIES * TRIES + 2


def test_a_run_that_does_not_end() -> None:
    """The chip answers INFO while the RUN does not end, so the error message says that the machine stopped."""
    chip = ModelChip(CONFIG)
    client = Client(chip)
    client.transact(Opcode.SETUP, SET_UP)
    client.token_cycles = 4_000_000
    chip.hangs = True
    with pytest.raises(UnansweredError) as error:
        client.transact(Opcode.RUN, run_command(2, 3))
    assert str(error.value) == (
        "The board answers INFO, but its RUN did not end in 10 s, though a token takes 4,000,000 cycles at most: the "
        "machine stopped in the middle of it; reset the board and load the model again."
    )


def test_a_run_on_a_board_that_falls_silent() -> None:
    """The host sends a RUN again every second while the run may still compute. After that, the host sends the RUN as
    many times as any other command."""
    chip = Picky(lambda number, opcode: number > 2)
    client = Client(chip)
    client.transact(Opcode.SETUP, SET_UP)
    with pytest.raises(
        SilenceError, match="did not answer RUN: 10 frames were sent, 10 s passed in silence, and not a byte"
    ):
        client.transact(Opcode.RUN, run_command(2, 3))


def test_waiting_time_grows_with_all_tokens_of_a_run() -> None:
    """The host waits for all tokens of a run: for each token ``token_timeout_s``, or the time of the token's cycles if
    this is longer. A simulated board says how many cycles count as a second."""

    class Simulated(Picky):
        cycles_per_second = 1_000_000

    for kind, seconds in ((Picky, 0.5 + 12 * 2.0), (Simulated, 0.5 + 12 * 8.0)):
        chip = kind(lambda number, opcode: opcode == Opcode.RUN)
        client = Client(chip, timeout_s=0.5, token_timeout_s=2.0, tries=1)
        client.token_cycles = 8_000_000
        client.transact(Opcode.SETUP, SET_UP)
        with pytest.raises(UnansweredError):
            client.transact(Opcode.RUN, run_command(3, 4))
        assert sum(chip.waited) == seconds, kind.__name__


def test_a_lost_run_costs_a_second() -> None:
    chip = Picky(lambda number, opcode: number == 3)
    client = Client(chip)
    client.transact(Opcode.SETUP, SET_UP)
    client.transact(Opcode.RUN, run_command(4, 32))
    assert chip.waited == [1.0] and len(chip.tokens) == 128


def test_error_of_the_watchdog() -> None:
    assert str(RefusedError(Opcode.RUN, 12)) == (
        "The board refused RUN: its watchdog ended the run, because a step took more cycles than the limit that "
        "SETUP gave; load the model again, and run lutern selftest if it stays so."
    )
    assert "with error code 99, unknown here; update this program" in str(RefusedError(Opcode.RUN, 99))


@pytest.mark.parametrize(
    ("size", "cut_bytes"), [(3_000, 0), (3_000, 1), (3_000, 7), (20_000, 0), (20_000, 300), (70_000, 0)]
)
def test_the_host_is_killed_at_every_frame(size: int, cut_bytes: int) -> None:
    """The host is killed after every frame, also in the middle of a frame. A new host sends the words that are missing,
    and sends at most one span again. The same is true for small images."""
    words = random_words(size // 4, size)
    line = FaultyLine(ModelChip(CONFIG), 0, 0)
    load_sections(Client(line), [(9, words)])
    again = []
    for cut in range(1, line.written_frames):
        chip = ModelChip(CONFIG)
        with pytest.raises(LineCut):
            load_sections(Client(FaultyLine(chip, 0, 0, cut_after=cut, cut_bytes=cut_bytes)), [(9, words)])
        there, chip.written = chip.written, 0
        load_sections(Client(chip), [(9, words)])
        np.testing.assert_array_equal(chip.memory[9:][: len(words)], words, err_msg=f"killed after frame {cut}")
        again.append(chip.written - (words.size - there))
        assert 0 <= again[-1] <= SPAN_BYTES, f"killed after frame {cut}"
    print(f"{words.size:,} bytes, killed at {len(again)} frames: {max(again):,} bytes sent again at most")


def test_a_second_answer_does_not_count_as_another_frames() -> None:
    """A chip answers every frame twice. The second answers are dropped."""

    class Twice:
        def __init__(self) -> None:
            self.decoder, self.answers = FrameDecoder(), b""

        def write(self, data: bytes) -> None:
            for frame in self.decoder.feed(data):
                done = capability(CONFIG) if frame.opcode == Opcode.INFO else frame.payload[:4]
                self.answers += 2 * encode_frame(frame.opcode | RESPONSE, frame.sequence, done)

        def read(self, limit: int, timeout_s: float) -> bytes:
            data, self.answers = self.answers[:limit], self.answers[limit:]
            return data

    client = Client(Twice())
    payloads = [WRITE.pack(address=number) + bytes(4) for number in range(1000)]
    answers = list(client.transact_all(Opcode.WRITE, payloads))
    assert answers == [(payload, payload[:4]) for payload in payloads] and client.resent_count == 0


def test_too_long_a_payload() -> None:
    with pytest.raises(LinkError, match="WRITE has 521 bytes of payload, but a frame holds 520; split it"):
        Client(ModelChip(CONFIG)).transact(Opcode.WRITE, bytes(521))
