"""Identifies the machine of a chip by the digest that the chip reports.

The build for a board changes some parameters of a preset. The clock and the sizes in ``LIMITS`` are in the INFO record,
with which the chip answers the command INFO. The kind of the lanes, the taps and the counters are not in this record,
so every combination of these three is tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from lutern.hw.config import CELLS, HwConfig
from lutern.hw.presets import PRESETS
from lutern.hw.protocol import DIGEST_BYTES
from lutern.model_ref.errors import LuternError

SHAPE = ("word_bytes", "rows", "columns", "streams", "results_per_cycle", "codes_per_cycle")
LIMITS = ("memory_words", "trit_beats", "max_width", "max_state", "max_vocab", "clock_hz")


def identify(info: dict[str, Any], among: Iterable[HwConfig] = PRESETS.values()) -> HwConfig:
    """Return the machine that the INFO record describes; raise ``LuternError`` if no known machine matches."""
    known = list(among)
    for config in known:
        if any(getattr(config, name) != info[name] for name in SHAPE):
            continue
        for cells, debug_tap, counters in product(CELLS, (True, False), (False, True)):
            try:
                built = config.with_(
                    cells=cells, debug_tap=debug_tap, counters=counters, **{name: info[name] for name in LIMITS}
                )
            except LuternError:
                continue  # the limits belong to another machine
            if bytes.fromhex(built.chip_digest)[:DIGEST_BYTES] == info["hw_digest"]:
                return built
    names = ", ".join(config.name for config in known)
    raise LuternError(
        f"the chip was built for machine {info['hw_digest'].hex()}, which is none of {names} in this program; use "
        "gateware and program of the same release, or rebuild the bitstream."
    )


__all__ = ["identify"]
