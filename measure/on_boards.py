"""Tokens/s of the released models on boards with DDR3, each with a fitting machine: `lutern estimate --table`.

    PUBLISHED, board, streams ─► machine: ddr3-x16 as wide as the model, S in the part ─► bytes, slots ─► tokens/s
                                                                                     └─► what the chip lacks

The memory limits the speed of all these machines, because a word of trits is a beat, and the machine's clock is at
least as fast as the rate of words. So the cycle model is not needed. ``estimate`` gives the same tokens/s
(tests/measure/test_on_boards.py). The table takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lutern.boards.board import Board
from lutern.boards.catalog import BOARDS
from lutern.firmware.limits import lacks, memory_bytes, sizes_of, state_elements, state_slots
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.measure.fits import chip_lacks
from lutern.measure.word_rate import mean_word_hz, peak_word_hz
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EMBEDDING_BITS
from lutern.model_ref.synthetic import PUBLISHED

PRESET = "ddr3-x16"
STREAMS = (1, 2, 4)


@dataclass(frozen=True)
class OnBoard:
    """A model on the machine ``config``, which is the same for all ``boards``.

    ``byte_count`` is the bytes of the program in the memory. ``changes`` make the machine from its preset. ``bound`` is
    the tokens/s of all streams together at the peak of the pins, and ``tokens_per_second`` the tokens/s with refreshes.
    """

    model: str
    embedding_bits: int
    boards: tuple[str, ...]
    config: HwConfig
    changes: tuple[str, ...]
    byte_count: int
    bound: float
    tokens_per_second: float

    @property
    def share(self) -> float:
        """Fraction of the peak that refreshes leave."""
        return self.tokens_per_second / self.bound


def machine(model_config: ModelConfig, board: Board, streams: int) -> tuple[HwConfig, tuple[str, ...]]:
    """Return a board's machine for a model, and the fields ("name=value") in which it differs from the preset. There
    are none if the preset is large enough.
    """
    assert board.ddr3 is not None
    base = preset(PRESET)
    width = max(model_config.hidden_size, model_config.intermediate_size)
    words, base_bytes = board.memories[0].byte_count // base.word_bytes, base.memory_words * base.word_bytes
    changes: dict[str, int | str] = {}
    if width > base.max_width:
        changes["max_width"] = width
    if streams > 1 or state_elements(model_config) > base.max_state:
        changes["state"] = "memory"
    if streams > 1:
        changes["streams"] = streams
    if words < base.memory_words or memory_bytes(model_config, base.with_(**changes)) > base_bytes:
        changes["memory_words"] = words
    clocks = {"clock_hz": board.ddr3.machine_hz, "memory_hz": board.ddr3.memory_hz}
    config = base.with_(**changes, **clocks, debug_tap=False, cells="ecp5")
    return config, tuple(f"{name}={value}" for name, value in changes.items())


def rows() -> list[OnBoard]:
    """Return a row for every model and every board with DDR3 that holds it. Boards with equal machines share a row.

    Embeddings are as wide as the memory allows.
    """
    found: dict[tuple[str, int, HwConfig], tuple[OnBoard, list[str]]] = {}
    for name, model_config in PUBLISHED.items():
        for board in BOARDS.values():
            for row in _of_board(name, model_config, board) if board.ddr3 else ():
                key = (row.model, row.embedding_bits, row.config)
                found.setdefault(key, (row, []))[1].append(board.name)
    return [replace(row, boards=tuple(names)) for row, names in found.values()]


def _of_board(name: str, model_config: ModelConfig, board: Board) -> Iterator[OnBoard]:
    """Yield the rows of a board: one for each number in ``STREAMS`` for which chip and memory are large enough. With
    several streams, S is in the DDR3.
    """
    for streams in STREAMS:
        config, changes = machine(model_config, board, streams)
        if chip_lacks(config, board):
            continue
        for bits in sorted(EMBEDDING_BITS, reverse=True):
            if lacks(model_config, config, bits) or state_slots(model_config, config, bits) < streams:
                continue
            words = sizes_of(model_config, config, bits).pass_words(streams)
            peak, mean = (streams * rate(config) / words for rate in (peak_word_hz, mean_word_hz))
            size = sizes_of(model_config, config, bits).words * config.word_bytes
            yield OnBoard(name, bits, (board.name,), config, changes, size, peak, mean)
            break


__all__ = ["OnBoard", "machine", "rows"]
