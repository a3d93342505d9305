"""Memories that store one vector for each stream in beats of P elements.

Such vectors are h (hw/residual.py), z and the gates (hw/gate_memory.py), and the newest S (hw/mlgru.py).

    place = index of the beat (low bits), stream (high bits)
            stream (low bits), index of the beat (high bits)    if the number of beats is not a power of two

The second order leaves no place unused. If the machine has one stream, a place is the index of the beat.

No block uses a word that it reads in the cycle in which the same word is written, and the attribute ``no_rw_check``
declares this to yosys. Without this attribute, yosys would add an address comparator and a multiplexer to each block
RAM.
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
    """Make an Amaranth memory.

    Parameters
    ----------
    shape, depth, init
        As for ``amaranth.lib.memory.Memory``.
    attrs : Mapping[str, str | int] | None
        Attributes that yosys reads, such as ``no_rw_check`` and ``ram_style``.
    """
    return Memory(shape=shape, depth=depth, init=[*init], attrs=cast(Any, dict(attrs or {})))


def _beats(config: HwConfig) -> tuple[int, int]:
    """Return the number of beats of the longest vector, and the number of bits of an index of a beat."""
    beats = -(-config.max_width // config.results_per_cycle)
    return beats, max(1, (beats - 1).bit_length())


def vector_memory(config: HwConfig, bits: int) -> Any:
    """Make a memory with P x ``bits`` bits at every place."""
    return beats_memory(config, bits, place_count(config, _beats(config)[0]))


def in_luts(config: HwConfig, depth: int) -> bool:
    """Return whether a memory of this depth is built of LUTs, so that the block RAMs are free for trits."""
    return config.source == "resident" and depth <= config.lut_ram_depth


def beats_memory(config: HwConfig, bits: int, depth: int) -> Any:
    """Make a memory of ``depth`` words of P x ``bits`` bits."""
    attrs: dict[str, str | int] = {"no_rw_check": 1}
    if in_luts(config, depth):
        attrs["ram_style"] = "distributed"
    return new_memory(config.results_per_cycle * bits, depth, attrs=attrs)


def read_register(m: Module, memory: Any, address: Value, enable: ValueLike = 1) -> Signal:
    """Return the word at ``address`` one cycle later.

    The port is synchronous, and is written in the only form in which yosys obeys ``no_rw_check``.

    Parameters
    ----------
    m : Module
        The module that receives the port.
    memory
        A memory of `new_memory`.
    address : Value
        The address of the word.
    enable : ValueLike
        If this is 1, the word is read. If it is 0, the previous word stays.
    """
    port = memory.read_port(domain="comb")
    data = Signal.like(port.data, reset_less=True)
    m.d.comb += port.addr.eq(address)
    with m.If(enable):
        m.d.sync += data.eq(port.data)
    return data


def read_ahead_of_register(m: Module, config: HwConfig, stages: Stages, memory: Any, address: Value) -> Value:
    """Return the word at ``address`` of a ``beats_memory``, for a register two cycles after the address.

    The result must go to a register without further logic. A memory of LUTs has a register at the address. A block RAM
    has a register at the output, and this output is slow.

    Parameters
    ----------
    m : Module
        The module that receives the port.
    config : HwConfig
        The machine, which decides whether the memory is built of LUTs.
    stages : Stages
        The registers of the block.
    memory
        A ``beats_memory``.
    address : Value
        The address of the word.
    """
    if not in_luts(config, memory.depth):
        return read_register(m, memory, address)
    port = memory.read_port(domain="comb")
    m.d.comb += port.addr.eq(stages.register(address))
    return port.data


def place_of(config: HwConfig, payload: Any) -> Value:
    """Return the place of a beat from the ``index`` and ``stream`` of its payload."""
    return place_at(config, payload.index, payload.stream)


def place_at(config: HwConfig, index: Value, stream: Value) -> Value:
    """Return the place of the beat ``index`` of a stream."""
    index = index[: _beats(config)[1]]
    if config.streams == 1:
        return Cat(index)
    return Cat(stream, index) if _stream_is_low(config) else Cat(index, stream)


def _stream_is_low(config: HwConfig) -> bool:
    """Return whether the low bits of a place are the stream."""
    beats, index_bits = _beats(config)
    return config.streams > 1 and beats != 1 << index_bits


def place_count(config: HwConfig, beats: int) -> int:
    """Return how many places a vector of ``beats`` beats has, for all streams together."""
    return config.streams * beats


def place_bits(config: HwConfig) -> int:
    """Return the width of a place."""
    return _beats(config)[1] + (config.stream_bits if config.streams > 1 else 0)


def index_of(config: HwConfig, place: Value) -> Value:
    """Return the index of the beat in a place."""
    return place[config.stream_bits :] if _stream_is_low(config) else place[: _beats(config)[1]]


def stream_of(config: HwConfig, place: Value) -> Value:
    """Return the stream in a place, or 0 if the machine has one stream."""
    if config.streams == 1:
        return Const(0, 1)
    return place[: config.stream_bits] if _stream_is_low(config) else place[_beats(config)[1] :]
