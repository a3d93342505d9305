"""The search for a phase of the memory's clock and the messages of a march, with answers in the layouts of the
protocol. tests/sim/test_sdram_board.py runs both on gateware."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from lutern.firmware.line_quality import LineQuality
from lutern.firmware.memory_test import STEP_WORDS, Result, centre_phase, check_size, march
from lutern.hw.presets import preset
from lutern.hw.protocol import (
    CHECKSUM,
    CHECKSUM_DONE,
    MEMORY_TEST,
    MEMORY_TEST_DONE,
    PHASE,
    PHASE_DONE,
    WRITE,
    WRITE_DONE,
    Opcode,
    crc32c,
)
from lutern.model_ref.errors import LuternError

CONFIG = preset("sdram-x16")


class Part:
    """A chip whose memory passes its test at the clock phases in ``good``. If ``stuck``, bit 5 of word 0x2345 is
    stuck."""

    timeout_s = 1.0

    def __init__(self, good: range, stuck: bool = False, forgets: bool = False) -> None:
        self.good, self.stuck, self.forgets = good, stuck, forgets
        self.place, self.broken, self.ranges = 0, False, list[tuple[int, int]]()

    def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        if opcode == Opcode.PHASE:
            self.place += PHASE.unpack(payload)["steps"]
            return PHASE_DONE.pack(place=self.place)
        span = MEMORY_TEST.unpack(payload)
        self.ranges.append((span["first"], span["count"]))
        bad = self.place not in self.good
        self.broken |= bad and self.forgets
        hit = self.stuck and 0 <= 0x2345 - span["first"] < span["count"]
        errors = span["count"] if bad or self.broken else 2 * hit
        wrong = {"errors": errors, "address": 0x2345, "wanted": 0x1020, "got": 0x1000, "wrong_bytes": int(errors > 0)}
        return MEMORY_TEST_DONE.pack(cycles=span["count"], **wrong)


@pytest.mark.parametrize(("first", "last"), [(-3, 9), (0, 0), (-20, 1), (-7, -0)])
def test_the_middle_is_found(first: int, last: int) -> None:
    part = Part(range(first, last + 1))
    window = centre_phase(part, CONFIG)  # type: ignore[arg-type]
    assert (window.first, window.last) == (first, last)
    assert part.place == window.middle == (first + last) // 2


def test_no_more_steps_than_a_period_has() -> None:
    part = Part(range(-1000, 1000))
    window = centre_phase(part, CONFIG, most=5)  # type: ignore[arg-type]
    assert (window.first, window.last, part.place) == (-5, 5, 0)


def test_memories_without_a_usable_phase() -> None:
    with pytest.raises(LuternError, match="the memory fails its test at the phase 0 of its clock, where it should be"):
        centre_phase(Part(range(2, 9)), CONFIG)  # type: ignore[arg-type]
    with pytest.raises(
        LuternError,
        match=r"passes at \d+ phases of its clock, but no longer in their middle: a "
        "command",
    ):
        centre_phase(Part(range(-4, 5), forgets=True), CONFIG)  # type: ignore[arg-type]


def test_a_march_in_ranges_tells_the_first_error() -> None:
    part, told = Part(range(1), stuck=True), list[tuple[int, int]]()
    result = march(part, CONFIG, 5, 2 * STEP_WORDS + 7, lambda *done: told.append(done))  # type: ignore[arg-type]
    assert part.ranges == [(5, STEP_WORDS), (5 + STEP_WORDS, STEP_WORDS), (5 + 2 * STEP_WORDS, 7)]
    assert told[-1] == (2 * STEP_WORDS + 7,) * 2
    assert result.text(2) == (
        "memory: 2 of the words read from 524,295 were wrong, the first at word 0x2345: 1020 was written, 1000 came "
        "back (bits 5); check the memory's clock, its supply and its solder joints."
    )
    assert Result(10, 0, 0, 0, 0, 99).text(2) == "memory: 10 words, no error, 99 cycles"
    assert march(Part(range(1)), CONFIG).words == CONFIG.memory_words  # type: ignore[arg-type]


class Folded:
    """A chip whose part stores only ``size`` words, at repeating addresses. The address bits in ``stuck`` do not reach
    the part."""

    timeout_s = 1.0
    quality = LineQuality()

    def __init__(self, size: int, stuck: int = 0) -> None:
        self.kept, self.stuck = size - 1, stuck
        self.words: dict[int, bytes] = {}

    def _place(self, address: int) -> int:
        return address & self.kept & ~self.stuck

    def transact_all(self, opcode: Opcode, payloads: Iterable[bytes], split: object) -> Iterator[tuple[bytes, bytes]]:
        for payload in payloads:
            address = WRITE.unpack(payload)["address"]
            self.words[self._place(address)] = payload[WRITE.byte_count :]
            yield payload, WRITE_DONE.pack(next_address=address + 1)

    def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        return CHECKSUM_DONE.pack(crc=crc32c(self.words[self._place(CHECKSUM.unpack(payload)["address"])]))


def test_a_part_that_is_smaller_than_the_machine() -> None:
    machine = preset("ddr3-x16")
    with pytest.raises(
        LuternError,
        match=r"^the memory part repeats after 128 MiB, but the machine ddr3-x16 needs 512 MiB; use a board with "
        r"the larger part, or build a machine with memory_words of at most 8,388,608\.$",
    ):
        check_size(Folded(1 << 23), machine)  # type: ignore[arg-type]
    with pytest.raises(LuternError, match=r"repeats after 256 MiB"):
        check_size(Folded(1 << 24), machine)  # type: ignore[arg-type]
    for part in (Folded(1 << 25), Folded(1 << 26), Folded(1 << 25, stuck=1 << 20)):  # only a march finds the stuck bit
        check_size(part, machine)  # type: ignore[arg-type]
    check_size(Folded(1 << 24), machine.with_(memory_words=1 << 24))  # type: ignore[arg-type]
