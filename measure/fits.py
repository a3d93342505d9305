"""Finds the board that runs a model fastest, and what another board lacks for this model, in one sentence.

    ModelConfig ─► every machine of every board ─┬─► the fastest that holds it ─► "fits B with P at N tokens/s"
                                                 ├─► the first board that does not hold it ─► what its machine lacks
                                                 └─► boards whose memory would hold it

The search takes the time of the cycle model of one machine, as ``estimate.py`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lutern.boards.board import Board
from lutern.boards.catalog import BOARDS
from lutern.firmware.limits import Lack, lacks, reasons
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.capacity import would_hold
from lutern.measure.estimate import estimate
from lutern.measure.resources import errors, resources
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError


@dataclass(frozen=True)
class Fit:
    """A board, its machine, and the tokens/s. If ``host``, the host sends the weights for every token."""

    board: str
    preset: str
    tokens_per_second: float
    host: bool


def fastest_fit(model_config: ModelConfig, embedding_bits: int = WIDE_BITS) -> Fit | None:
    """Return the board that holds a model and has the largest product of lanes and clock. Boards to which the host
    sends the weights come last.
    """
    found = []
    for board in BOARDS.values():
        for name in board.presets:
            hw_config = board.config(name)
            if _holds(model_config, board, name, embedding_bits):
                host = hw_config.memory == "host"
                speed = board.baud(hw_config) if host else hw_config.lanes * hw_config.clock_hz
                found.append((not host, speed, board, hw_config))
    if not found:
        return None
    own, _, board, hw_config = max(found, key=lambda one: one[:2])  # ``max`` takes the first of several equal maxima
    baud = board.baud(hw_config)
    rate = estimate(model_config, hw_config, baud=baud, embedding_bits=embedding_bits).tokens_per_second
    return Fit(board.name, hw_config.name, rate, not own)


@cache
def chip_lacks(hw_config: HwConfig, board: Board) -> tuple[Lack, ...]:
    """Return the resources of which a board's chip has too few for a machine.

    LUTs are reported only if the chip has fewer than the estimate minus the largest error of the estimate.
    """
    found, fpga = resources(hw_config), board.fpga
    lacking = []
    for what, needed, surely, held in (
        ("block RAMs", found.block_rams, found.block_rams, fpga.block_rams),
        ("LUT", round(found.placed_luts), found.placed_luts * (1 - errors("preset").placed_luts), fpga.luts),
    ):
        if surely > held:
            text = f"{hw_config.name} needs {needed:,} {what}, the {fpga.name} of {board.name} has {held:,}"
            lacking.append(Lack(what, needed, held, text, f"{what} {needed:,} (at most {held:,})"))
    return tuple(lacking)


def largest_machine(board: Board) -> HwConfig:
    """Return that machine of a board whose own memory is the largest."""
    return max((board.config(name) for name in board.presets), key=_own_bytes)


def _own_bytes(hw_config: HwConfig) -> int:
    if hw_config.memory == "host":
        return 0
    beats = hw_config.trit_beats if hw_config.source == "resident" else 0
    return hw_config.memory_words * hw_config.word_bytes + beats * hw_config.beat_bytes


def _holds(model_config: ModelConfig, board: Board, name: str, embedding_bits: int) -> bool:
    hw_config = board.config(name)
    return not lacks(model_config, hw_config, embedding_bits) and not chip_lacks(hw_config, board)


def lack_of(model_config: ModelConfig, board: Board, embedding_bits: int = WIDE_BITS) -> tuple[str, str] | None:
    """Return the board's machine with the most memory, and the first thing that this machine lacks; None if the board
    holds the model.
    """
    own = [name for name in board.presets if board.config(name).memory != "host"]
    if any(_holds(model_config, board, name, embedding_bits) for name in own):
        return None
    largest = largest_machine(board)
    found = [*lacks(model_config, largest, embedding_bits), *chip_lacks(largest, board)]
    return largest.name, found[0].text.partition(";")[0]


def presets_that_hold(
    model_config: ModelConfig, embedding_bits: int = WIDE_BITS, *, memory: str = ""
) -> dict[str, str]:
    """Return the first preset of each board that holds a model, by the board's name. If ``memory`` is given, only
    presets with this kind of memory are considered."""
    found = {
        board.name: next(
            (
                name
                for name in board.presets
                if memory in ("", preset(name).memory) and _holds(model_config, board, name, embedding_bits)
            ),
            "",
        )
        for board in BOARDS.values()
    }
    return {board: name for board, name in found.items() if name}


def check_chip(hw_config: HwConfig, board: Board) -> None:
    """Refuse a machine for which the chip of a board surely has no room, by the estimate, before any synthesis."""
    found = chip_lacks(hw_config, board)
    if found:
        others = [name for name in board.presets if not chip_lacks(board.config(name), board)]
        raise LuternError(
            f"{reasons(found)}; build one of {', '.join(others)}, or build for a board with a larger chip."
        )


def check_model(
    model_config: ModelConfig, name: str, board: Board, machine: str | HwConfig = "", embedding_bits: int = WIDE_BITS
) -> None:
    """Raise ``LuternError`` if the board's machine cannot hold a model: the message says what is too small, and which
    machine would hold the model.

    If ``machine`` is empty, the message is about the board's machine with the most memory.
    """
    hw_config = board.config(machine)
    if not lacks(model_config, hw_config, embedding_bits):
        return
    largest = largest_machine(board)
    if not machine and lacks(model_config, largest, embedding_bits):
        hw_config = largest
    found = [*lacks(model_config, hw_config, embedding_bits), *chip_lacks(hw_config, board)]
    where = where_it_fits(model_config, embedding_bits)
    raise LuternError(f"{name} does not fit {board.name}: {reasons(found, numbers=False)}; {where}.")


def where_it_fits(model_config: ModelConfig, embedding_bits: int = WIDE_BITS) -> str:
    """Return a clause that names the presets of boards that hold a model, and the memories that would hold it."""
    by_preset: dict[str, list[str]] = {}
    own = False
    for board, name in presets_that_hold(model_config, embedding_bits).items():
        by_preset.setdefault(name, []).append(board)
        own |= BOARDS[board].config(name).memory != "host"
    fitting = ", ".join(f"{name} on {', '.join(boards)}" for name, boards in by_preset.items())
    if own:
        return f"it fits {fitting}"
    sent = f"it fits {fitting}, its weights sent by the host for every token" if fitting else "no board holds it"
    return f"{sent}; {would_hold(model_config, embedding_bits)}"


def sentence(model_config: ModelConfig, board: Board | None = None, embedding_bits: int = WIDE_BITS) -> str:
    """Return a sentence that says where a model fits, how fast it is, and what ``board`` (by default the first board
    that does not hold it) lacks."""
    fit = fastest_fit(model_config, embedding_bits)
    text = "fits no board"
    if fit is not None:
        rate = f"{fit.tokens_per_second:,.0f}" if fit.tokens_per_second >= 1000 else f"{fit.tokens_per_second:.3g}"
        how = "at most, its weights sent by the host for every token" if fit.host else "by the cycle model"
        text = f"fits {fit.board} with {fit.preset} at {rate} tokens/s {how}"
    would = f"; {would_hold(model_config, embedding_bits)}" if fit is None or fit.host else ""
    for other in [board] if board else BOARDS.values():
        lack = lack_of(model_config, other, embedding_bits)
        if lack:
            return f"{text}; {other.name} does not hold it in {lack[0]}: {lack[1]}{would}."
    return f"{text}; {f'{board.name} holds it too' if board else 'every board holds it'}{would}."


__all__ = [
    "Fit",
    "check_chip",
    "check_model",
    "chip_lacks",
    "fastest_fit",
    "lack_of",
    "largest_machine",
    "presets_that_hold",
    "sentence",
    "where_it_fits",
]
