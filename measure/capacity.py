"""Finds the boards whose memory holds the weights of a model: `lutern estimate --memories`.

    ModelConfig, width of a word, bits of an embedding ─► bytes ─┬─► fraction of every size of memory that a board has
    Board.memories ─► sizes of memory, and their boards ─────────┘

The bytes come from ``program_sizes``. Whether the chip has room for the machine is not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lutern.boards.board import Board
from lutern.boards.catalog import BOARDS
from lutern.firmware.limits import memory_bytes
from lutern.hw.config import HwConfig
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EMBEDDING_BITS, WIDE_BITS
from lutern.model_ref.synthetic import PUBLISHED

WORD_BITS = (64, 128)
"""Widths of a word. DDR3 of 16 bits transfers 64 bits per cycle, or 128 bits in two cycles."""


@dataclass(frozen=True)
class Need:
    """The number of bytes that a model needs in words of ``word_bits``; an element of an embedding has
    ``embedding_bits``."""

    model: str
    word_bits: int
    embedding_bits: int
    byte_count: int


def machine_of_width(word_bits: int) -> HwConfig:
    """Return a machine that takes the trits of one word per cycle. Its other fields do not change the bytes."""
    return HwConfig(
        f"{word_bits}-bit words",
        rows=5,
        columns=word_bits // 8,
        source="streamed",
        word_bytes=word_bits // 8,
        trit_fifo_words=1024,
        gain_fifo_words=1024,
    )


def needs(models: Mapping[str, ModelConfig] = PUBLISHED) -> list[Need]:
    """Return the number of bytes for every model, width of a word and width of an embedding."""
    return [
        Need(name, word_bits, bits, memory_bytes(model, machine_of_width(word_bits), bits))
        for name, model in models.items()
        for word_bits in WORD_BITS
        for bits in EMBEDDING_BITS
    ]


def memories() -> dict[int, dict[str, list[Board]]]:
    """Return boards by the size of their memory in bytes (smallest first), then by the memory's title."""
    found: dict[int, dict[str, list[Board]]] = {}
    for board in BOARDS.values():
        for memory in board.memories:
            found.setdefault(memory.byte_count, {}).setdefault(memory.title, []).append(board)
    return dict(sorted(found.items()))


def would_hold(model_config: ModelConfig, embedding_bits: int = WIDE_BITS) -> str:
    """Return a clause that names the memories in which a model's weights would fit.

    The clause also names memories in which the weights fit only with narrower embeddings (`--embedding-bits`). Use it
    for a model that fits no preset of these boards because of the model's width or the chip's size.
    """
    texts: list[str] = []
    choices = [bits for bits in EMBEDDING_BITS if bits <= embedding_bits]
    needed = {bits: memory_bytes(model_config, machine_of_width(WORD_BITS[0]), bits) for bits in choices}
    for bits, below in zip(choices, (None, *choices), strict=False):
        names = [
            (memory.title, board.name)
            for board in BOARDS.values()
            for memory in board.memories
            if needed[bits] <= memory.byte_count and (below is None or needed[below] > memory.byte_count)
        ]
        titles = dict.fromkeys(title for title, _ in names)
        here = [f"the {title} of {', '.join(name for of, name in names if of == title)}" for title in titles]
        if here:
            how = "" if below is None else f"with `--embedding-bits {bits}` ({needed[bits]:,} bytes) also "
            texts.append(how + " and ".join(here))
    if not texts:
        return "no memory of any board would hold its weights"
    return f"its weights would fit {', '.join(texts)}, for which no preset is large enough"


__all__ = ["WORD_BITS", "Need", "machine_of_width", "memories", "needs", "would_hold"]
