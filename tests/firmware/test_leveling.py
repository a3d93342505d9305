"""Read leveling, with answers in the layouts of the protocol. tests/sim/test_ddr3_pins.py runs read leveling on
gateware."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lutern.firmware.leveling import LEVEL_WORDS, SETTINGS, Setting, choose, level_range, level_reads
from lutern.firmware.line_quality import LineQuality
from lutern.firmware.link import SilenceError
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.protocol import LEVEL, LEVEL_DONE, MEMORY_TEST, MEMORY_TEST_DONE, Opcode
from lutern.model_ref.errors import LuternError

CONFIG = preset("ddr3-x16")
EVERY = frozenset(SETTINGS)
NONE: frozenset[Setting] = frozenset()


def window(slip: int, delays: Iterable[int]) -> frozenset[Setting]:
    return frozenset(Setting(delay, slip) for delay in delays)


class Part:
    """A chip that reads byte n correctly with the settings ``right[n]`` and detects the strobe of this byte with the
    settings ``bursts[n]``.

    ``resends``: numbers of the commands whose first answer is lost. ``long_fails``: bit mask of the bytes that are
    wrong in a march of more than 64 words."""

    timeout_s = 1.0

    def __init__(
        self,
        right: tuple[frozenset[Setting], ...],
        bursts: tuple[frozenset[Setting], ...] | None = None,
        resends: Iterable[int] = (),
        long_fails: int = 0,
    ) -> None:
        self.right, self.bursts = right, right if bursts is None else bursts
        self.resends, self.long_fails = set(resends), long_fails
        self.settings = [Setting(0, 0)] * len(right)
        self.seen = self.resent_count = self.commands = 0
        self.quality = LineQuality()
        self.ranges = list[tuple[int, int]]()

    def transact(self, opcode: Opcode, payload: bytes = b"", *, timeout_s: float | None = None) -> bytes:
        answer = self.answer(opcode, payload)
        if self.commands in self.resends:
            answer = self.answer(opcode, payload)
            self.resent_count += 1
        self.commands += 1
        return answer

    def answer(self, opcode: Opcode, payload: bytes) -> bytes:
        if opcode == Opcode.LEVEL:
            change, seen = LEVEL.unpack(payload), self.seen
            self.settings[change["byte"]] = Setting(change["delay"], change["slip"])
            self.seen = 0
            return LEVEL_DONE.pack(burst_seen=seen)
        assert opcode == Opcode.MEMORY_TEST
        span = MEMORY_TEST.unpack(payload)
        self.ranges.append((span["first"], span["count"]))
        wrong = self.long_fails if span["count"] > 64 else 0
        for byte, setting in enumerate(self.settings):
            self.seen |= (setting in self.bursts[byte]) << byte
            if setting not in self.right[byte]:
                wrong |= 1 << byte
        lanes = sum(wrong << place for place in range(0, 8, len(self.right)))
        return MEMORY_TEST_DONE.pack(errors=wrong, address=0, wanted=0, got=0, cycles=1, wrong_bytes=lanes)


def level(part: Part, config: HwConfig = CONFIG) -> str:
    return level_reads(part, config).text()  # type: ignore[arg-type]


def test_each_byte_gets_the_middle_of_its_window() -> None:
    part = Part((window(0, [0, 1, 2]), window(2, [4, 5, 6, 7]) | window(1, [0])))
    assert level(part) == (
        "byte 0: slip 0 11100000, takes delay 1 of slip 0; byte 1: slip 1 10000000, slip 2 00001111, "
        f"takes delay 5 of slip 2; {LEVEL_WORDS:,} words, no error"
    )
    assert part.settings == [Setting(1, 0), Setting(5, 2)]
    assert part.commands == 132
    assert part.ranges == [level_range(CONFIG, 64)] * 32 + [level_range(CONFIG, LEVEL_WORDS)]


@pytest.mark.parametrize(
    ("passed", "chosen"),
    [
        (window(0, [0, 1, 2, 3, 4, 7]), Setting(2, 0)),
        (window(1, [0, 1, 3, 4, 5]), Setting(4, 1)),
        (window(3, [7]), Setting(7, 3)),
        (window(1, [2, 3]) | window(2, [2, 3]), Setting(2, 1)),
        (window(0, [2, 3]) | window(2, [4, 5]), Setting(3, 0)),
        (window(0, [3]) | window(2, [4, 5, 6]), Setting(4, 2)),
        (window(0, [3, 4, 5]) | window(2, [4, 7]), Setting(4, 0)),
        (window(0, [3, 4, 5]) | window(2, [0, 4, 6, 7]), Setting(5, 0)),
        (window(0, range(8)), Setting(3, 0)),
    ],
)
def test_choice(passed: frozenset[Setting], chosen: Setting) -> None:
    """The chosen delay is the lower middle of the longest run of delays that pass with any slip. Of the slips that pass
    with this delay, the slip that passes with the most delays is chosen."""
    assert choose(passed) == chosen


def test_right_words_without_a_strobe_are_ignored() -> None:
    part = Part((window(0, [0, 1, 2, 3]),) * 2, (window(0, [1, 2, 3, 4]),) * 2)
    assert "slip 0 01110000, takes delay 2" in level(part)


def test_the_march_is_at_the_end_of_the_memory() -> None:
    assert level_range(CONFIG, 64) == ((1 << 25) - 64, 64)
    assert level_range(CONFIG.with_(memory_words=1 << 8), 1024) == (0, 256)


def test_a_trial_with_a_resent_frame_is_made_again() -> None:
    """The answer to a resent LEVEL covers no reads, so the setting would look like a setting that fails."""
    good = window(0, [2, 3, 4])
    part = Part((good, good), resends=(3, 11, 19, 20, 27, 28))
    assert "slip 0 00111000, takes delay 3" in level(part)
    with pytest.raises(LuternError, match=r"^a trial of the DDR3's read leveling was made 8 times, and a frame was lo"):
        level(Part((good, good), resends=range(0, 1000, 3)))


def test_no_window() -> None:
    with pytest.raises(
        LuternError,
        match=r"^no setting reads byte 1 of the DDR3's data pins correctly: 32 settings were tried, delays 0 to 7 "
        r"with slips 0 to 3, and its strobe was seen; check DQ8 to DQ15, DQS1 and VREF, or build with a lower mem",
    ):
        level(Part((window(0, [1, 2]), NONE), (window(0, [1, 2]), EVERY)))
    with pytest.raises(LuternError, match=r"^no setting reads byte 0 of .*, and its strobe was never seen; check DQ0"):
        level(Part((EVERY, window(0, [1, 2])), (NONE, EVERY)))


def test_a_part_that_does_not_answer() -> None:
    with pytest.raises(
        LuternError,
        match=r"^the DDR3 part does not answer: 32 settings were tried, delays 0 to 7 with slips 0 to 3, and no "
        r"setting showed the strobe of any byte; check the supply of the part, its clock and reset, and that the bitst",
    ):
        level(Part((NONE, NONE)))
    noise = window(1, [2]) | window(3, range(8))
    with pytest.raises(LuternError, match=r"^the DDR3 part does not answer: "):
        level(Part((NONE, NONE), (noise, noise)))


def test_a_window_in_which_the_long_march_fails() -> None:
    with pytest.raises(
        LuternError,
        match=r"^byte 1 of the DDR3's data pins fails a march over 1,024 words in the middle of its window \(slip 0 "
        r"01100000, takes delay 1 of slip 0\); check the supply",
    ):
        level(Part((window(0, [1, 2]),) * 2, long_fails=2))


def test_a_line_that_loses_a_frame_in_every_trial() -> None:
    with pytest.raises(LuternError, match=r"a frame was lost in each: 0 frames came through and 0 did not; choose a"):
        level(Part((EVERY, EVERY), resends=range(1000)))


def test_clocks_that_have_not_started() -> None:
    class Silent(Part):
        def answer(self, opcode: Opcode, payload: bytes) -> bytes:
            raise SilenceError("no answer")

    with pytest.raises(LuternError, match=r"^the chip answers, but its DDR3 controller does not answer LEVEL: the mem"):
        level(Silent((EVERY, EVERY)))
