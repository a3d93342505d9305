"""Finds when the words of a DDR3 part must be sampled: read leveling of each byte of its data pins, by march tests.

    for each delay and slip: LEVEL of each byte ─► MEMORY_TEST ─► which bytes were wrong ┐
                                                   LEVEL ─► which bytes' strobe was seen ┴─► map of settings per byte
    for each byte: longest run of delays that pass with any slip ─► middle of the run ─► LEVEL ─► longer march

The command LEVEL sets the delay and the slip of one byte, and MEMORY_TEST runs a march. A setting passes for a byte of
the data pins if the byte was right in all words of the march, and if the strobe of a read was seen. In a trial, all
bytes get the same setting, and each byte is judged separately. So 32 trials test all settings for any number of bytes.
One more trial is the longer march with the chosen settings. The march overwrites the last LEVEL_WORDS of the memory,
which images seldom use. DDR3 keeps all other words while the settings change. A reset clears the settings of the chip,
so each session begins with leveling.

Cost: with two bytes, each of the 33 trials takes 4 commands, one after the other, 132 in total. The commands take
0.2 s if a USB bridge needs 1 ms for each command, and 2 s if it needs 16 ms. The marches take 50,000 cycles of the
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.firmware.link import Client, SilenceError
from lutern.firmware.memory_test import march
from lutern.hw.config import HwConfig
from lutern.hw.protocol import LEVEL, LEVEL_DELAYS, LEVEL_DONE, LEVEL_SLIPS, WRONG_BYTES, Opcode, level_bytes
from lutern.model_ref.errors import LuternError

TRIAL_WORDS = 64
LEVEL_WORDS = 1024
"""Number of words of the march with the chosen settings."""
TRIES = 8
"""Largest number of attempts for one trial. A LEVEL that is sent again does not report the strobes that were seen, so a
trial with a lost frame is repeated.
"""


@dataclass(frozen=True)
class Setting:
    """When a byte is sampled: ``delay`` is in quarters of a clock cycle of the part, ``slip`` in beats of a read."""

    delay: int
    slip: int


SETTINGS = tuple(Setting(delay, slip) for slip in range(LEVEL_SLIPS) for delay in range(LEVEL_DELAYS))


@dataclass(frozen=True)
class ByteLevel:
    """The result for one byte of the data pins: the settings that ``passed``, and the setting that was ``chosen``."""

    passed: frozenset[Setting]
    chosen: Setting

    def text(self) -> str:
        """Return a text with the chosen setting, and the ``delay_map`` of every slip with which a delay passed."""
        maps = ", ".join(
            f"slip {slip} {delay_map(self.passed, slip)}"
            for slip in range(LEVEL_SLIPS)
            if any(setting.slip == slip for setting in self.passed)
        )
        return f"{maps}, takes delay {self.chosen.delay} of slip {self.chosen.slip}"


@dataclass(frozen=True)
class Leveling:
    """The results for all bytes of the data pins. ``words`` is the length of the longer march, which all bytes
    passed."""

    of_bytes: tuple[ByteLevel, ...]
    words: int

    def text(self) -> str:
        """Return the text for `lutern selftest`."""
        parts = [f"byte {number}: {level.text()}" for number, level in enumerate(self.of_bytes)]
        return f"{'; '.join(parts)}; {self.words:,} words, no error"


def delay_map(passed: frozenset[Setting], slip: int) -> str:
    """Return one digit for each delay from 0 on: 1 if the delay passed with ``slip``, otherwise 0."""
    return "".join(str(int(Setting(delay, slip) in passed)) for delay in range(LEVEL_DELAYS))


def longest_run(delays: list[int]) -> list[int]:
    """Return the longest run of consecutive delays, the first one if there are several."""
    runs: list[list[int]] = []
    for delay in sorted(delays):
        if not runs or delay != runs[-1][-1] + 1:
            runs.append([])
        runs[-1].append(delay)
    return max(runs, key=len)


def has_strobe(bursts: set[Setting]) -> bool:
    """Return whether a byte has a strobe.

    There is a strobe if, with at least one delay, it was seen with every slip. Noise is seen with some slips only.
    """
    return any(all(Setting(delay, slip) in bursts for slip in range(LEVEL_SLIPS)) for delay in range(LEVEL_DELAYS))


def choose(passed: frozenset[Setting]) -> Setting:
    """Choose the setting of a byte among the settings that ``passed``. The delay is the middle of the longest run of
    delays that pass with any slip. Of the slips that pass with this delay, the slip that passes with the most delays is
    chosen.

    A delay moves the gate of the strobe. The delays that pass form one window, but from some delay on, the window needs
    another slip.
    """
    run = longest_run(sorted({setting.delay for setting in passed}))
    delay = run[(len(run) - 1) // 2]
    slips = [slip for slip in range(LEVEL_SLIPS) if Setting(delay, slip) in passed]
    return Setting(delay, max(slips, key=lambda slip: sum(setting.slip == slip for setting in passed)))


def level_reads(client: Client, config: HwConfig) -> Leveling:
    """Find the setting of each byte, and send it to the chip. The march overwrites its words.

    Raise ``LuternError`` if no setting passes for a byte, or if the part does not answer at all.
    """
    byte_count = level_bytes(config)
    passed: list[set[Setting]] = [set() for _ in range(byte_count)]
    bursts: list[set[Setting]] = [set() for _ in range(byte_count)]
    for setting in SETTINGS:
        wrong, seen = _trial(client, config, [setting] * byte_count, TRIAL_WORDS)
        for byte in range(byte_count):
            if seen >> byte & 1:
                bursts[byte].add(setting)
                if not wrong >> byte & 1:
                    passed[byte].add(setting)
    tried = f"{len(SETTINGS)} settings were tried, delays 0 to {LEVEL_DELAYS - 1} with slips 0 to {LEVEL_SLIPS - 1}"
    if not any(passed) and not any(has_strobe(seen) for seen in bursts):
        raise LuternError(
            f"the DDR3 part does not answer: {tried}, and no setting showed the strobe of any byte; check the supply "
            "of the part, its clock and reset, and that the bitstream is for this board."
        )
    for byte, settings in enumerate(passed):
        if not settings:
            strobe = "was seen" if has_strobe(bursts[byte]) else "was never seen"
            raise LuternError(
                f"no setting reads byte {byte} of the DDR3's data pins correctly: {tried}, and its strobe {strobe}; "
                f"check DQ{8 * byte} to DQ{8 * byte + 7}, DQS{byte} and VREF, or build with a lower memory clock."
            )
    levels = tuple(ByteLevel(frozenset(settings), choose(frozenset(settings))) for settings in passed)
    chosen = [level.chosen for level in levels]
    wrong, seen = _trial(client, config, chosen, LEVEL_WORDS)
    for byte, level in enumerate(levels):
        if wrong >> byte & 1 or not seen >> byte & 1:
            raise LuternError(
                f"byte {byte} of the DDR3's data pins fails a march over {LEVEL_WORDS:,} words in the middle of its "
                f"window ({level.text()}); check the supply of the part and VREF, or build with a lower memory clock."
            )
    return Leveling(levels, level_range(config, LEVEL_WORDS)[1])


def _trial(client: Client, config: HwConfig, settings: list[Setting], words: int) -> tuple[int, int]:
    """March with ``settings``.

    Return two numbers with a bit for each byte of the data pins: whether the byte was wrong, and whether its strobe was
    seen.
    """
    byte_count = len(settings)
    for _ in range(TRIES):
        before = client.resent_count
        for byte, setting in enumerate(settings):
            _set_level(client, byte, setting)
        first, count = level_range(config, words)
        wrong_bytes = march(client, config, first, count).wrong_bytes
        wrong = sum(1 << byte for byte in range(byte_count) if wrong_bytes & _lanes(byte, byte_count))
        seen = _set_level(client, 0, settings[0])
        if client.resent_count == before:
            return wrong, seen
    raise LuternError(
        f"a trial of the DDR3's read leveling was made {TRIES} times, and a frame was lost in each: "
        f"{client.quality.text()}; choose a lower rate with --baud."
    )


def _set_level(client: Client, byte: int, setting: Setting) -> int:
    """Send the setting of one byte, and return a bit for each byte whose strobe was seen since the previous LEVEL."""
    command = LEVEL.pack(byte=byte, delay=setting.delay, slip=setting.slip)
    try:
        answer = client.transact(Opcode.LEVEL, command)
    except SilenceError as error:
        raise LuternError(
            "the chip answers, but its DDR3 controller does not answer LEVEL: the memory's clocks have not started; "
            "reset the board, and check its oscillator and that the bitstream is for this board."
        ) from error
    return int(LEVEL_DONE.unpack(answer)["burst_seen"])


def _lanes(byte: int, byte_count: int) -> int:
    """Return the bits of ``wrong_bytes`` that belong to a byte of the data pins."""
    return sum(1 << lane for lane in range(byte, WRONG_BYTES, byte_count))


def level_range(config: HwConfig, words: int) -> tuple[int, int]:
    """Return the first word and the number of words of a march over the last words of the memory."""
    count = min(words, config.memory_words)
    return config.memory_words - count, count


__all__ = ["LEVEL_WORDS", "SETTINGS", "ByteLevel", "Leveling", "Setting", "choose", "level_range", "level_reads"]
