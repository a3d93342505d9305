"""A routed chip of a few cells, as nextpnr writes it, for tests of what is done with routed chips."""

from __future__ import annotations

from lutern.boards.delays import Delays

CLOCK = 2


def cell(kind: str, place: str, **connections: int) -> dict:
    """Return a cell as nextpnr writes it."""
    return {
        "type": f"TRELLIS_{kind}",
        "parameters": {},
        "attributes": {"NEXTPNR_BEL": place},
        "connections": {port: [net] for port, net in connections.items()},
    }


def design(ends: int = 1) -> tuple[dict, Delays]:
    """Return a path between two registers in row 5, with a LUT in row 45. Each tile of a connection takes 0.1 ns.

    Beside the registers are plain LUTs that make their tiles known, a carry chain, and a register that waits for the
    LUT beside it.
    """
    cells = {
        "start": cell("FF", "X4/Y5/SLICEA.FF0", CLK=CLOCK, M=9, Q=10),
        "lut": cell("COMB", "X6/Y45/SLICEA.K0", A=10, F=11),
        "end": cell("FF", "X8/Y5/SLICEA.FF0", CLK=CLOCK, M=11, Q=12),
        **{f"end {index}": cell("FF", f"X8/Y5/SLICEB.FF{index}", CLK=CLOCK, M=11) for index in range(ends - 1)},
        "full": cell("COMB", "X6/Y5/SLICEA.K0", A=12, F=13),
        "carry": cell("COMB", "X6/Y5/SLICEB.K0", A=12, FCO=14),
        "waiting": cell("FF", "X6/Y5/SLICEC.FF0", CLK=CLOCK, DI=13),
    }
    delays = Delays()
    delays.started["start", "Q"] = ("CLK", 0.5)
    delays.connections["lut", "A"] = (("start", "Q"), 4.2)
    delays.through["lut", "F"].append(("A", 0.2))
    for name in ("end", *(f"end {index}" for index in range(ends - 1))):
        delays.connections[name, "M"] = (("lut", "F"), 4.2)
        delays.ended[name, "M"] = ("CLK", 0.0)
    for length in range(1, 60):  # connections of other nets, from which the typical delays come
        cells[f"from {length}"] = cell("FF", "X1/Y1/SLICEA.FF0", Q=100 + length)
        cells[f"to {length}"] = cell("FF", f"X1/Y{1 + length}/SLICEA.FF0", M=100 + length)
        delays.connections[f"to {length}", "M"] = ((f"from {length}", "Q"), 0.1 * length)
    return {"modules": {"top": {"cells": cells}}}, delays
