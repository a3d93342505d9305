"""Computes for the cycle model when S of a layer is in the window: ``hw/state_dma.py`` with one word per cycle.

    last beat of I ─► written ─► save: B + K + 1 per unit ─┐
    last beat of G ─► used ────────────────────────────────┴► load: latency, then B + K per unit ─► loaded ─► next I

I and G are the operations of i_proj and g_proj. A unit has B places and K words (``hw.state_dma.unit_shape``). The
words of S take the port of the memory from the record stream. In the model a whole save, or the whole load of a stream,
takes the port without a gap from the first request on, but in the machine the words are spread. So the cycles are
close, but not exact.
"""

from __future__ import annotations

from collections.abc import Callable

from lutern.firmware.schedule import Sizes
from lutern.hw.config import HwConfig
from lutern.hw.memory import StreamedMemory
from lutern.hw.mlgru import WRITTEN
from lutern.hw.state_dma import unit_shape
from lutern.measure.steady import Visitor

LATENCY = 16
"""Cycles from a request for words to the first word, as in ``WordMemory``, which waits for half a burst."""
ROW_LATENCY = StreamedMemory.row_latency + 8
"""Cycles from a token to the first word of its row: ``WordMemory`` answers later than ``StreamedMemory`` does."""
SAVE_AHEAD, LOAD_AHEAD = 2, 2
"""Cycles before the first unit when a stream is saved, and before the request when a stream is loaded."""


class StateTimes:
    """The state DMA of a pass; all times are cycles.

    ``close(start, stop)`` takes the memory's port for these cycles. The caller needs only ``loaded``.
    """

    def __init__(
        self, config: HwConfig, sizes: Sizes, streams: int, chained: bool, close: Callable[[int, int], None]
    ) -> None:
        places, words = unit_shape(config)
        self.words, units = sizes.state_words, sizes.state_words // words
        self.close = close
        self.streams = 1 if chained else streams
        self.save_cycles = self.streams * (SAVE_AHEAD + units * (places + words + 1))
        self.load_cycles = LOAD_AHEAD + LATENCY + units * (places + words)
        self.saved = 0
        self.loaded = 0

    def load(self, when: int) -> None:
        """Load the next layer, for all streams."""
        for _ in range(self.streams):
            self.close(when + LATENCY // 2, when + LATENCY // 2 + self.words)
            when += self.load_cycles
        self.loaded = when + 1

    def save(self, last_i: int) -> None:
        """Save the layer whose last beat of I was accepted in cycle ``last_i``."""
        if self.words:
            written = last_i + WRITTEN
            self.close(written + LATENCY // 2, written + LATENCY // 2 + self.streams * self.words)
            self.saved = written + self.save_cycles

    def load_next(self, last_g: int) -> None:
        """Load the next layer after the save, and after the last beat of G, in cycle ``last_g``."""
        if self.words:
            self.load(max(self.saved, last_g + 1) + 1)

    def visit(self, visitor: Visitor) -> None:
        """Show the state of this object to ``visitor``."""
        self.saved, self.loaded = visitor.time(self.saved), visitor.time(self.loaded)


__all__ = ["ROW_LATENCY", "StateTimes"]
