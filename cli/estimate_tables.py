"""Prints the tables of `lutern estimate`: the released models on boards and devices, at AXI4 ports, and in memories."""

from __future__ import annotations

from typing import Any

from lutern.boards.catalog import BOARDS
from lutern.cli.table import Column, Printer, percent, round_number
from lutern.hw.presets import preset
from lutern.measure import axi_rates, on_boards
from lutern.measure.capacity import memories, needs
from lutern.measure.estimate import DEVICES, device_tokens_per_second, estimate
from lutern.measure.fits import presets_that_hold
from lutern.measure.published import PUBLISHED_FIGURES, Published
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.synthetic import PUBLISHED

OWN = "lutern"
COLUMNS = (
    Column("model", left=True),
    Column("tokens_per_second", "tokens/s", round_number),
    Column("token_seconds", "a token", lambda seconds: _duration(seconds)),
    Column("grade", folds=True),
    Column("by", folds=True),
    Column("device", folds=True),
    Column("what", folds=True),
)


def _own_rows(size: str, model_config: ModelConfig) -> list[tuple[Any, ...]]:
    """Return the rates of a model on Lutern's machines: on boards, at AXI4 ports, and on larger devices."""
    found = [
        _row(size, one.tokens_per_second, "estimated", "", ", ".join(one.boards), _machine_text(one))
        for one in on_boards.rows()
        if one.model == size
    ]
    for (name, baud), boards in _sent(model_config).items():
        rate = estimate(model_config, preset(name), baud=baud).tokens_per_second
        what = f"preset {name}, {baud / 1e6:.3g} Mbaud"
        found.append(_row(size, rate, "estimated, at most", "", ", ".join(boards), what))
    clock = max(axi_rates.CLOCKS)
    for one in axi_rates.rows():
        if one.model == size:
            streams = f"{one.streams} streams" if one.streams > 1 else "one stream"
            what = f"{one.preset} at {clock / 1e6:.0f} MHz, {streams}, a word in every cycle"
            found.append(_row(size, one.rate(clock), "estimated, at most", "", "AXI4 ports", what))
    for device in DEVICES:
        what = f"{device.lanes:,} lanes at {device.clock_hz / 1e6:.4g} MHz, {device.bandwidth / 1e9:.0f} GB/s"
        rate = device_tokens_per_second(model_config, device)
        found.append(_row(size, rate, "estimated, not built", "", device.name, what))
    return found


def _sent(model_config: ModelConfig) -> dict[tuple[str, int], list[str]]:
    """Return the boards that receive a model's weights from the host, by preset and baud."""
    sent: dict[tuple[str, int], list[str]] = {}
    for board, name in presets_that_hold(model_config, memory="host").items():
        sent.setdefault((name, BOARDS[board].baud(BOARDS[board].config(name))), []).append(board)
    return sent


def _row(model: str, rate: float, grade: str, who: str, device: str, what: str) -> tuple[Any, ...]:
    return (model.upper() if model in PUBLISHED else model, rate, 1 / rate, grade, who or OWN, device, what)


def _duration(seconds: float) -> str:
    unit, name = (60, "min") if seconds > 60 else (1, "s") if seconds > 1 else (1e-3, "ms")
    return f"{round_number(seconds / unit)} {name}"


def print_released(printer: Printer) -> None:
    """Print the rates of the released models on every board that can hold the model and on larger devices. Also print
    the rates that other projects report."""
    rows: list[tuple[Any, ...]] = []
    unheld: list[str] = []
    for size, model_config in PUBLISHED.items():
        own = _own_rows(size, model_config)
        if not any(row[3] == "estimated" for row in own) and not _sent(model_config):
            unheld.append(size.upper())
        rows += own
        rows += [_published(other) for other in PUBLISHED_FIGURES if other.model == size]
    rows += [_published(other) for other in PUBLISHED_FIGURES if other.model not in PUBLISHED]
    printer.table("released", COLUMNS, rows)
    printer.say(
        "Our rows count o_proj, channel mixer, lm_head and embedding. Rows of DDR3 assume that the machine waits for "
        "the memory only while it refreshes; on the simulated board two layers of 370M are within 0.1 % of that. With "
        "presets host the weights are sent for every token. Rows of AXI4 ports are from the cycle model, see --axi. "
        "Grades of others: measured on hardware; simulated; projected from something smaller; published, if the source "
        "does not say how." + (f" No board holds {', '.join(unheld)}." if unheld else "")
    )


def _published(other: Published) -> tuple[Any, ...]:
    return _row(other.model, other.tokens_per_second, other.grade, other.who, other.device, other.what)


def print_axi(printer: Printer) -> None:
    """Print the tokens/s of the machines with AXI4, by clock and by the share of cycles in which the memory gives a
    word."""
    points = [(clock, share) for clock in axi_rates.CLOCKS for share in axi_rates.SHARES]
    rates = [Column(f"{clock / 1e6:.0f}_mhz_{share}", f"{clock / 1e6:.0f}\n{share}", _rate) for clock, share in points]
    columns = (Column("model", left=True), Column("machine", left=True), Column("streams", "T"), *rates)
    lines, changed_machines = [], []
    for row in axi_rates.rows():
        changes = axi_rates.machine(row.preset, row.model, 1)[1]
        if changes and row.streams == 1:
            sets = " ".join(f"--set {change}" for change in changes)
            changed_machines.append(f"{row.model.upper()} on {row.preset} with {sets}")
        of_row = (row.rate(clock, share) for clock, share in points)
        lines.append([row.model.upper(), row.preset, row.streams, *of_row])
    printer.table("axi", columns, lines)
    printer.say(
        "tokens/s of T streams, by clock in MHz, and by the share of cycles in which the memory gives a word. With "
        "share 1.0, cycles are the cycle model's; with less, the larger of these and words / share. T 8 (--set "
        "streams=8 --set state=memory): cycles are a close estimate. No share of a DDR4 or HBM2 was measured, and no "
        f"build reached a clock, since no open router supports such chips. {'; '.join(changed_machines)}."
    )


def _rate(rate: float) -> str:
    return f"{rate:.{0 if rate >= 100 else 1}f}"


def _machine_text(found: on_boards.OnBoard) -> str:
    """Return the machine of a row as options of the command line, the clock of its memory, the bytes of the program in
    this memory, and the rate relative to the most tokens/s that the memory allows."""
    changes = "".join(f" --set {change}" for change in found.changes)
    embedding = "" if found.embedding_bits == WIDE_BITS else f", --embedding-bits {found.embedding_bits}"
    streams = f", {found.config.streams} streams" if found.config.streams > 1 else ""
    return (
        f"{on_boards.PRESET}{changes}{embedding}{streams}, memory {found.config.memory_hz / 1e6:g} MHz: "
        f"{found.byte_count:,} bytes, {found.share:.1%} of at most {found.bound:.3g} tokens/s"
    )


def print_memories(printer: Printer) -> None:
    """Print the bytes of the released models, and the share of each board's memory that these bytes need."""
    sizes = memories()
    columns = (
        Column("model", left=True),
        Column("word_bits", "word"),
        Column("embedding_bits", "embedding"),
        Column("bytes"),
        *(Column(f"share_of_{size >> 20}_mib", f"{size >> 20} MiB", percent(1)) for size in sizes),
    )
    rows = [
        [
            need.model.upper(),
            need.word_bits,
            need.embedding_bits,
            need.byte_count,
            *(need.byte_count / size for size in sizes),
        ]
        for need in needs()
    ]
    printer.table("memories", columns, rows)
    printer.say(
        "word, embedding: bits of a word of memory and of an element of the embedding table; above 100% it does not fit"
    )
    for boards in (boards for kinds in sizes.values() for boards in kinds.values()):
        memory = boards[0].memories[0]
        by_note: dict[str, list[str]] = {}
        for board in boards:
            by_note.setdefault(board.memories[0].note, []).append(board.name)
        names = "; ".join(f"{', '.join(names)}{f' ({note})' if note else ''}" for note, names in by_note.items())
        printer.say(f"{memory.title}, {'driven' if memory.driven else 'not driven yet'}: {names}")
