"""Which board holds a model, how fast it would be there, and what another board lacks: one sentence.

    ModelConfig ─► every board, every machine of it ─► the fastest that holds it ─► "fits B with P at N tokens/s"
                                                   └─► the first board that does not ─► what its machine lacks

Cost: the cycle model of one machine, as in ``estimate.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lutern.boards.board import Board
from lutern.boards.catalog import BOARDS
from lutern.firmware.contents import reason_against
from lutern.measure.estimate import estimate
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS


@dataclass(frozen=True)
class Fit:
    """A board, the name of its machine, and tokens a second; ``host``: the host sends the weights for every token."""

    board: str
    preset: str
    tokens_per_second: float
    host: bool


def fastest_fit(model_config: ModelConfig, embedding_bits: int = WIDE_BITS) -> Fit | None:
    """The board with the most lanes and the fastest clock of those that hold a model; the host's weights come last."""
    found = []
    for board in BOARDS.values():
        for name in board.presets:
            hw_config = board.config(name)
            if reason_against(model_config, hw_config, embedding_bits) is None:
                host = hw_config.memory == "host"
                speed = board.baud(hw_config) if host else hw_config.lanes * hw_config.clock_hz
                found.append((not host, speed, board, hw_config))
    if not found:
        return None
    own, _, board, hw_config = max(found, key=lambda one: one[:2])  # the first of several
    baud = board.baud(hw_config)
    rate = estimate(model_config, hw_config, baud=baud, embedding_bits=embedding_bits).tokens_per_second
    return Fit(board.name, hw_config.name, rate, not own)


def lack_of(model_config: ModelConfig, board: Board, embedding_bits: int = WIDE_BITS) -> tuple[str, str] | None:
    """The machine of a board with the most memory, and what it lacks; None if one of its machines holds the model."""
    lacks = []
    for name in board.presets:
        hw_config = board.config(name)
        if hw_config.memory == "host":
            continue
        reason = reason_against(model_config, hw_config, embedding_bits)
        if reason is None:
            return None
        size = hw_config.memory_words * hw_config.word_bytes + hw_config.trit_beats * hw_config.beat_bytes
        lacks.append((size, name, reason))
    return max(lacks)[1:] if lacks else None


def sentence(model_config: ModelConfig, board: Board | None = None, embedding_bits: int = WIDE_BITS) -> str:
    """Where a model fits and how fast it is, and what ``board`` lacks: the first that lacks something, if not given."""
    fit = fastest_fit(model_config, embedding_bits)
    text = "fits no board"
    if fit is not None:
        rate = f"{fit.tokens_per_second:,.0f}" if fit.tokens_per_second >= 1000 else f"{fit.tokens_per_second:.3g}"
        how = "at most, its weights sent by the host for every token" if fit.host else "by the cycle model"
        text = f"fits {fit.board} with {fit.preset} at {rate} tokens/s {how}"
    for other in [board] if board else BOARDS.values():
        lack = lack_of(model_config, other, embedding_bits)
        if lack:
            return f"{text}; {other.name} does not hold it in {lack[0]}: {lack[1]}."
    return f"{text}; {f'{board.name} holds it too' if board else 'every board holds it'}."


__all__ = ["Fit", "fastest_fit", "lack_of", "sentence"]
