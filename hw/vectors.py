"""Memories that hold one vector in P-beats for each stream: h, z, gates, the newest S.

    place = index of the beat, and above it, of several streams, the stream
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Value
from amaranth.lib.memory import Memory

from lutern.hw.config import HwConfig

LUT_RAM_DEPTH = 64
"""Up to here a resident machine, whose block RAMs hold trits, keeps a vector in distributed RAM."""


def _beats(config: HwConfig) -> tuple[int, int]:
    """Beats of the longest vector, and the bits that count them."""
    beats = -(-config.max_width // config.results_per_cycle)
    return beats, max(1, (beats - 1).bit_length())


def vector_memory(config: HwConfig, bits: int) -> Memory:
    """Memory of P x ``bits`` at every place."""
    beats, index_bits = _beats(config)
    depth = config.tokens << index_bits if config.tokens > 1 else beats
    attrs = {"ram_style": "distributed"} if config.source == "resident" and depth <= LUT_RAM_DEPTH else {}
    return Memory(shape=config.results_per_cycle * bits, depth=depth, init=[], attrs=attrs)


def place_of(config: HwConfig, payload: Any) -> Value:
    """The place of a beat, from its ``index`` and ``stream``."""
    index = payload.index[: _beats(config)[1]]
    return Cat(index, payload.stream) if config.tokens > 1 else Cat(index)


def index_of(config: HwConfig, place: Value) -> Value:
    """The index in a place."""
    return place[: _beats(config)[1]]


def stream_of(config: HwConfig, place: Value) -> Value:
    """The stream in a place; 0 if there is only one."""
    return place[_beats(config)[1] :] if config.tokens > 1 else Const(0, 1)
