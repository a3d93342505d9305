"""The SDRAM parts of the supported boards, with the values of their data sheets.

The values are for the commercial temperature range. If editions of a data sheet or makers of a part differ, the slower
value is used. To add a part, copy the most similar entry, and name data sheet and table.
"""

from __future__ import annotations

from dataclasses import replace

from lutern.hw.memory import SdramPart
from lutern.model_ref.errors import LuternError

MT48LC16M16A2_7E = SdramPart(
    "MT48LC16M16A2-7E",
    "Micron 256Mb x4, x8, x16 SDRAM, Electrical Characteristics and Recommended AC Operating Conditions, column -7E",
    bank_bits=2,
    row_bits=13,
    column_bits=9,
    data_bits=16,
    period_ns={2: 7.5, 3: 7.0},
    access_ns={2: 5.4, 3: 5.4},
    hold_ns=2.7,
    setup_ns=1.5,
    input_hold_ns=0.8,
    rc_ns=60.0,
    ras_ns=37.0,
    rp_ns=15.0,
    rcd_ns=15.0,
    rrd_ns=14.0,
    rfc_ns=66.0,
    wr_ns=14.0,
    power_up_us=100.0,
)
# There are boards with either grade. With CL 2, -6A reaches only 100 MHz.
MT48LC16M16A2_6A = replace(
    MT48LC16M16A2_7E,
    name="MT48LC16M16A2-6A",
    reference=MT48LC16M16A2_7E.reference.replace("-7E", "-6A"),
    period_ns={2: 10.0, 3: 6.0},
    access_ns={2: 7.5, 3: 5.4},
    hold_ns=3.0,
    ras_ns=42.0,
    rp_ns=18.0,
    rcd_ns=18.0,
    rrd_ns=12.0,
    rfc_ns=60.0,
    wr_ns=15.0,
)
AS4C32M16SB_7 = SdramPart(
    "AS4C32M16SB-7",
    "Alliance Memory AS4C32M16SB, Electrical Characteristics and Recommended A.C. Operating "
    "Conditions, column -7; 32 MB of its 64 are used by machines of 2^24 words",
    bank_bits=2,
    row_bits=13,
    column_bits=10,
    data_bits=16,
    period_ns={2: 10.0, 3: 7.0},
    access_ns={2: 6.0, 3: 5.4},
    hold_ns=2.5,
    setup_ns=1.5,
    input_hold_ns=1.0,
    rc_ns=63.0,
    ras_ns=42.0,
    rp_ns=21.0,
    rcd_ns=21.0,
    rrd_ns=14.0,
    rfc_ns=63.0,
    wr_ns=14.0,
)
W9825G6KH_6 = SdramPart(
    "W9825G6KH-6",
    "Winbond W9825G6KH, AC Characteristics and Operating Condition, column -6",
    bank_bits=2,
    row_bits=13,
    column_bits=9,
    data_bits=16,
    period_ns={2: 7.5, 3: 6.0},
    access_ns={2: 6.0, 3: 5.0},
    hold_ns=2.5,
    setup_ns=1.5,
    input_hold_ns=0.8,
    rc_ns=60.0,
    ras_ns=42.0,
    rp_ns=18.0,
    rcd_ns=18.0,
    rrd_ns=12.0,
    rfc_ns=60.0,
    wr_ns=12.0,
)
IS42S16160_6 = SdramPart(
    "IS42S16160-6",
    "ISSI IS42S16160G, AC Electrical Characteristics, column -6",
    bank_bits=2,
    row_bits=13,
    column_bits=9,
    data_bits=16,
    period_ns={2: 10.0, 3: 6.0},
    access_ns={2: 6.5, 3: 5.4},
    hold_ns=2.5,
    setup_ns=1.5,
    input_hold_ns=0.8,
    rc_ns=60.0,
    ras_ns=42.0,
    rp_ns=18.0,
    rcd_ns=18.0,
    rrd_ns=12.0,
    rfc_ns=60.0,
    wr_ns=12.0,
)
IS42S16160_7 = replace(
    IS42S16160_6,
    name="IS42S16160-7",
    reference=IS42S16160_6.reference.replace("-6", "-7"),
    period_ns={2: 10.0, 3: 7.0},
    ras_ns=42.0,
    rc_ns=63.0,
    rp_ns=20.0,
    rcd_ns=20.0,
    rrd_ns=14.0,
    rfc_ns=63.0,
    wr_ns=14.0,
)
# The 8 MB of Colorlight. Some of these boards have an M12L64322A or another part. tRFC and tRRD suit all of them.
EM638325_6 = SdramPart(
    "EM638325-6",
    "Etron EM638325 2M x 32, Electrical Characteristics and Recommended A.C. Operating Conditions, "
    "column -6; 4096 refreshes in 64 ms",
    bank_bits=2,
    row_bits=11,
    column_bits=8,
    data_bits=32,
    period_ns={2: 10.0, 3: 6.0},
    access_ns={2: 6.5, 3: 5.5},
    hold_ns=2.0,
    setup_ns=2.0,
    input_hold_ns=1.0,
    rc_ns=60.0,
    ras_ns=42.0,
    rp_ns=18.0,
    rcd_ns=18.0,
    rrd_ns=12.0,
    rfc_ns=60.0,
    wr_ns=12.0,
    refresh_count=4096,
)

SDRAM_PARTS = {
    part.name: part
    for part in (MT48LC16M16A2_7E, MT48LC16M16A2_6A, AS4C32M16SB_7, W9825G6KH_6, IS42S16160_6, IS42S16160_7, EM638325_6)
}


def sdram_part(name: str) -> SdramPart:
    """Return the part with this name."""
    if name not in SDRAM_PARTS:
        raise LuternError(f"there is no memory part {name}; choose one of {', '.join(SDRAM_PARTS)}.")
    return SDRAM_PARTS[name]


__all__ = ["SDRAM_PARTS", "sdram_part"]
