"""Memories that hold one vector in P-beats for each stream: h, z, gates, the newest S.

    place = index of the beat, and above it, of several streams, the stream; below it where beats are no power of two,
            so that no place is left unused

Their owners never read what is written in the same cycle, or do not use it, and say so to the synthesis: for a read
that must see the old word, yosys would put a comparator of addresses and a multiplexer behind a block RAM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal, Value, ValueLike
from amaranth.lib.memory import Memory

from lutern.hw.config import HwConfig
from lutern.hw.pipeline.stages import Stages


def new_memory(
    shape: ShapeLike, depth: int, init: Sequence[int] = (), attrs: Mapping[str, str | int] | None = None
) -> Any:
    """An Amaranth memory; ``attrs`` are attributes that yosys reads, such as ``no_rw_check`` and ``ram_style``."""
    return Memory(shape=shape, depth=depth, init=[*init], attrs=cast(Any, dict(attrs or {})))


def _beats(config: HwConfig) -> tuple[int, int]:
    """Beats of the longest vector, and the bits that count them."""
    beats = -(-config.max_width // config.results_per_cycle)
    return beats, max(1, (beats - 1).bit_length())


def vector_memory(config: HwConfig, bits: int) -> Any:
    """Memory of P x ``bits`` at every place."""
    return beats_memory(config, bits, place_count(config, _beats(config)[0]))


def in_luts(config: HwConfig, depth: int) -> bool:
    """Whether a memory of that depth leaves the block RAMs to the trits."""
    return config.source == "resident" and depth <= config.lut_ram_depth


def beats_memory(config: HwConfig, bits: int, depth: int) -> Any:
    """Memory of ``depth`` times P x ``bits``."""
    attrs: dict[str, str | int] = {"no_rw_check": 1}
    if in_luts(config, depth):
        attrs["ram_style"] = "distributed"
    return new_memory(config.results_per_cycle * bits, depth, attrs=attrs)


def read_register(m: Module, memory: Any, address: Value, enable: ValueLike = 1) -> Signal:
    """The word at ``address``, one cycle later: a synchronous port in the form in which yosys obeys ``no_rw_check``."""
    port = memory.read_port(domain="comb")
    data = Signal.like(port.data, reset_less=True)
    m.d.comb += port.addr.eq(address)
    with m.If(enable):
        m.d.sync += data.eq(port.data)
    return data


def read_ahead_of_register(m: Module, config: HwConfig, stages: Stages, memory: Any, address: Value) -> Value:
    """The word at ``address`` of a ``beats_memory``, to be held by a register two cycles after the address: a memory of
    LUTs has a register ahead of it, a block RAM is one, and slow."""
    if not in_luts(config, memory.depth):
        return read_register(m, memory, address)
    port = memory.read_port(domain="comb")
    m.d.comb += port.addr.eq(stages.register(address))
    return port.data


def place_of(config: HwConfig, payload: Any) -> Value:
    """The place of a beat, from its ``index`` and ``stream``."""
    return place_at(config, payload.index, payload.stream)


def place_at(config: HwConfig, index: Value, stream: Value) -> Value:
    """The place of a beat of a stream."""
    index = index[: _beats(config)[1]]
    if config.streams == 1:
        return Cat(index)
    return Cat(stream, index) if _stream_is_low(config) else Cat(index, stream)


def _stream_is_low(config: HwConfig) -> bool:
    """Whether the stream is the low part of a place."""
    beats, index_bits = _beats(config)
    return config.streams > 1 and beats != 1 << index_bits


def place_count(config: HwConfig, beats: int) -> int:
    """Places of a vector of so many beats for every stream."""
    return config.streams * beats


def place_bits(config: HwConfig) -> int:
    """Bits of a place."""
    return _beats(config)[1] + (config.stream_bits if config.streams > 1 else 0)


def index_of(config: HwConfig, place: Value) -> Value:
    """The index in a place."""
    return place[config.stream_bits :] if _stream_is_low(config) else place[: _beats(config)[1]]


def stream_of(config: HwConfig, place: Value) -> Value:
    """The stream in a place; 0 if there is only one."""
    if config.streams == 1:
        return Const(0, 1)
    return place[: config.stream_bits] if _stream_is_low(config) else place[_beats(config)[1] :]
