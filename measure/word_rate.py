"""Words/s that a memory supplies to a machine, and the resulting cycles of a pass.

    peak_word_hz   a word per cycle of the part (SDR) or per two cycles of the controller (DDR3), at most clock_hz
    mean_word_hz   words in sequence, with refreshes, at most clock_hz
    pass_cycles    max(cycle model with one word per cycle, words / mean_word_hz x clock_hz)

The FIFOs of trits and gains store the words that arrive during a barrier, so memory and lanes work at the same time,
and a pass takes the longer of their two times. The cycles are within 0.1 % of the RTL's on the
simulated board for two layers of 370M (tests/measure/test_word_rate.py), and within 1 % for the demo, whose token takes
only about ten groups of refreshes.
"""

from __future__ import annotations

import math

from lutern.hw.config import HwConfig
from lutern.hw.memory import Ddr3Timings, timings_for


def _word_hz(hw_config: HwConfig) -> tuple[float, float]:
    """Return peak and mean words/s of a machine's memory, without the limit of the machine."""
    timings = timings_for(hw_config)
    if timings is None:
        return (float(hw_config.clock_hz),) * 2
    peak = timings.clock_hz / timings.cycles(timings.ccd) if isinstance(timings, Ddr3Timings) else timings.clock_hz
    return peak, peak * (1 - timings.refresh_loss)


def peak_word_hz(hw_config: HwConfig) -> float:
    """Return the words/s of the memory without refreshes, at most the machine's clock."""
    return min(_word_hz(hw_config)[0], hw_config.clock_hz)


def mean_word_hz(hw_config: HwConfig, share: float = 1.0) -> float:
    """Return ``share`` times the words/s of a long sequential read, which are at most the machine's clock."""
    return share * min(_word_hz(hw_config)[1], hw_config.clock_hz)


def pass_cycles(hw_config: HwConfig, model_cycles: int, words: int, share: float = 1.0) -> int:
    """Return the number of cycles of a pass that reads ``words`` words and takes ``model_cycles`` at a word per
    cycle."""
    return max(model_cycles, math.ceil(words * hw_config.clock_hz / mean_word_hz(hw_config, share)))


__all__ = ["mean_word_hz", "pass_cycles", "peak_word_hz"]
