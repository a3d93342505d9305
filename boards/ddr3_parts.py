"""The DDR3 parts of the supported boards, with the values of their data sheets.

The values are for the commercial temperature range, up to 85 degrees. A board may have any speed grade of a part, so
each value is from the slowest bin. At the clocks that an ECP5 reaches, all bins need the same number of cycles. To add
a part, copy the most similar entry, and name data sheet and table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lutern.hw.memory import Ddr3Part
from lutern.model_ref.errors import LuternError

MT41K256M16 = Ddr3Part(
    "MT41K256M16",
    "Micron 4Gb x4, x8, x16 DDR3L SDRAM, Electrical Characteristics and AC Operating Conditions; the slowest of its "
    "columns, which are the bins of JEDEC JESD79-3F",
    gigabits=4,
    row_bits=15,
    rc_ns=52.5,
    ras_ns=37.5,
    rp_ns=15.0,
    rcd_ns=15.0,
    rrd_ns=10.0,
    faw_ns=50.0,
)


def _micron(name: str, gigabits: int, row_bits: int, **changes: Any) -> Ddr3Part:
    reference = MT41K256M16.reference.replace("4Gb", f"{gigabits}Gb")
    return replace(MT41K256M16, name=name, reference=reference, gigabits=gigabits, row_bits=row_bits, **changes)


MT41K64M16 = _micron("MT41K64M16", 1, 13)
MT41K128M16 = _micron("MT41K128M16", 2, 14)
# Some editions of the data sheet give a tRAS of 35 ns, others 39 ns.
MT41K512M16 = _micron("MT41K512M16", 8, 16, ras_ns=39.0, rc_ns=54.0)

DDR3_PARTS = {part.name: part for part in (MT41K64M16, MT41K128M16, MT41K256M16, MT41K512M16)}


def ddr3_part(name: str) -> Ddr3Part:
    """Return the part with this name."""
    if name not in DDR3_PARTS:
        raise LuternError(f"there is no DDR3 part {name}; choose one of {', '.join(DDR3_PARTS)}.")
    return DDR3_PARTS[name]


__all__ = ["DDR3_PARTS", "ddr3_part"]
