"""`lutern power table`: prints the joules per token of the released models by kind of memory, and of other projects."""

from __future__ import annotations

from lutern.cli.table import Cell, Column, Printer, round_number
from lutern.measure import token_joules
from lutern.measure.calibration import Coefficient
from lutern.measure.dram import DRAMS
from lutern.measure.published import PUBLISHED_FIGURES
from lutern.model_ref.synthetic import PUBLISHED

COLUMNS = (
    Column("model", left=True),
    Column("streams"),
    Column("memory", left=True),
    Column("tokens_per_second", "tokens/s", round_number),
    *(
        column
        for part in ("read", "standby", "idle chip", "together")
        for column in (
            Column(f"{part.replace(' ', '_')}_joules_low", part),
            Column(f"{part.replace(' ', '_')}_joules_high"),
        )
    ),
)
OTHERS = (
    Column("model", left=True),
    Column("device", folds=True),
    Column("by", folds=True),
    Column("grade", folds=True),
    Column("tokens_per_second", "tokens/s", round_number),
    Column("watts", "W"),
    Column("joules", "mJ", lambda joules: round_number(1e3 * joules)),
)


def print_released(printer: Printer) -> None:
    """Print the joules per token of the released models by kind of memory, and the joules that other projects
    report."""
    rows = [
        [
            row.model.upper(),
            row.streams,
            row.memory.name,
            row.token.tokens_per_second,
            *(
                cell
                for item in (row.token.transport, row.token.standby, row.idle, row.together)
                for cell in (Cell(item.low, _rounded(item)), Cell(item.high, ""))
            ),
        ]
        for row in token_joules.rows()
    ]
    printer.say("estimated: mJ a token, of a pass that advances this number of streams by one token")
    printer.table("memories", COLUMNS, rows)
    idle = dict.fromkeys(f"with {kind} {chip.title}" for kind, (_, chip) in token_joules.MACHINES.items())
    printer.say(
        "read: joules of the bytes that are read, in the pins and the array of the memory. standby: joules of its "
        "parts. idle chip: joules of the chip; for DDR4 and HBM2, of a whole board or card, which includes the "
        f"standby of its memory a second time. The chips are: {'; '.join(idle)}. Logic, clocks and block "
        "RAM of the machine are not included.\n"
        f"Machines: {', '.join(name for name, _ in token_joules.MACHINES.values())}, as wide as the model; the last "
        f"two at {token_joules.AXI_HZ / 1e6:.0f} MHz with {token_joules.SHARE:.0%} of the words that the clock allows, "
        "which is assumed and not measured. No SDR part of a board holds these models, and no open router supports "
        "the chips of the last two."
    )
    for dram in DRAMS.values():
        bits = f"array {_rounded(dram.core, 1e-12)}, interface {_rounded(dram.interface, 1e-12)} pJ a bit"
        watts = f"standby {_rounded(dram.standby, 1)} W a {dram.part}" if dram.standby.high else "standby included"
        printer.say(f"{dram.name}: {dram.title}, {bits}, {watts}; {dram.source}.")
    for chip in (token_joules.ECP5, token_joules.KV260, token_joules.U50):
        printer.say(f"{chip.title}: {_rounded(chip.watts, 1)} W; {chip.source}.")
    printer.say("\nreported by others: mJ a token, of everything that their watts include")
    printer.table(
        "others",
        OTHERS,
        [
            [
                other.model.upper() if other.model in PUBLISHED else other.model,
                other.device,
                other.who,
                other.joules_grade,
                other.tokens_per_second,
                other.watts,
                other.joules,
            ]
            for other in PUBLISHED_FIGURES
            if other.joules
        ],
    )
    printer.say(
        "projected: from something smaller, by its author. simulated: synthesis and a simulation. published: what was "
        "read does not say how it was found. lutern estimate --table says what each figure counts."
    )


def _rounded(item: Coefficient, unit: float = 1e-3) -> str:
    """Return an interval as ``low-high``, or one number if both ends round to the same text."""
    low, high = (round_number(end / unit, 2) for end in (item.low, item.high))
    return low if low == high else f"{low}-{high}"
