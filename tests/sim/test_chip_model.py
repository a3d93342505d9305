"""The model of the chip's end of the link and the gateware give the same answers to the same damaged line."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from lutern.firmware.slip import encode_frame
from lutern.hw.presets import preset
from lutern.hw.protocol import CHECKSUM, CHUNK_BYTES, WRITE, Opcode
from lutern.sim.board import SimulatedBoard
from lutern.sim.chip_model import FAULTS, ModelChip
from lutern.sim.loopback import Loopback

CONFIG = preset("tiny").with_(streams=4)
WORDS = 200
FRAMES_A_LINE = 250
QUICK, SLOW, ALL = 40, 400, 4_000
Pair = tuple[SimulatedBoard, ModelChip]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Yield gateware and model, with the same words in their memories."""
    with SimulatedBoard(Loopback(CONFIG)) as board:
        chip = ModelChip(CONFIG)
        for address in range(0, WORDS, CHUNK_BYTES // CONFIG.word_bytes):
            frame = encode_frame(Opcode.WRITE, 1, WRITE.pack(address=address) + bytes(CHUNK_BYTES))
            assert answers(board, frame) == answers(chip, frame)
        yield board, chip


def answers(end: SimulatedBoard | ModelChip, line: bytes) -> bytes:
    """Return all answers. The model receives each frame alone, so that INFO counts only the frames dropped before
    it."""
    for part in line.split(b"\xc0") if isinstance(end, ModelChip) else [line]:
        end.write(part + b"\xc0")
    found = b""
    while data := end.read(1 << 16, 0.01):
        found += data
    return found


def damaged_line(seed: int) -> bytes:
    """Return frames, two thirds of which are damaged. Some are empty, some too long, and some have no valid opcode."""
    draw = random.Random(seed)
    line = bytearray()
    for _ in range(FRAMES_A_LINE):
        address, count = draw.randrange(WORDS - 16), draw.randint(1, 16)
        opcode, payload = draw.choice(
            (
                (Opcode.INFO, b""),
                (Opcode.WRITE, WRITE.pack(address=address) + draw.randbytes(count * CONFIG.word_bytes)),
                (Opcode.CHECKSUM, CHECKSUM.pack(address=address, count=count)),
                (draw.randrange(0x40, 0x80), draw.randbytes(draw.randrange(30))),
                (Opcode.INFO, b""),
                (draw.randrange(256), draw.randbytes(draw.randrange(521, 540))),
            )
        )
        frame = bytearray(encode_frame(opcode, draw.randrange(256), payload))
        for _ in range(draw.choice((0, 1, 1))):
            draw.choice(FAULTS)(frame, draw.randrange(len(frame)), draw)
        line += frame
    return bytes(line) + encode_frame(Opcode.INFO, 1) * 2


def compare(pair: Pair, seed: int) -> int:
    """Check that both answer the same bytes, with the same count of dropped frames in INFO. Return the number of
    bytes."""
    board, chip = pair
    line = damaged_line(seed)
    got = answers(board, line)
    assert got == answers(chip, line), f"seed {seed}: gateware and model must give the same answers"
    return len(got)


def test_damaged_lines(pair: Pair) -> None:
    """`make test` compares ten thousand frames."""
    assert sum(compare(pair, seed) for seed in range(QUICK)) > QUICK * FRAMES_A_LINE


@pytest.mark.slow
def test_a_million_frames(pair: Pair, request: pytest.FixtureRequest) -> None:
    """Each call of this test runs the next seeds, and starts again after the last seed."""
    cache = request.config.cache
    assert cache is not None
    first = int(cache.get("lutern/board_frames", QUICK)) % ALL
    for seed in range(first, first + SLOW):
        compare(pair, seed)
    cache.set("lutern/board_frames", first + SLOW)
