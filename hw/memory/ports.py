"""The ports that every memory of words offers to the host and to the decoder, as functions of the machine."""

from __future__ import annotations

from typing import Any

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from lutern.hw.config import OUTSIDE, HwConfig
from lutern.hw.layouts import token_payload
from lutern.hw.memory.axi import axi_shape
from lutern.hw.memory.word_source import SourceShape
from lutern.hw.protocol import SETUP_LAYOUT, read_layout, write_layout


def state_request_layout(config: HwConfig) -> data.StructLayout:
    """Return the layout of an item of ``i_state``: a word of the state to be written, or a request for ``payload``
    words."""
    payload_bits = max(config.word_bits, config.address_bits)
    return data.StructLayout({"write": 1, "address": config.address_bits, "payload": payload_bits})


def client_bits(config: HwConfig) -> int:
    """Return the width of ``client`` in the word source of a machine."""
    return 2 if config.state == "memory" else 1


def has_word_source(config: HwConfig) -> bool:
    """Return whether the memory is a ``WordMemory``: over a DRAM, a port, or block RAM that also stores the state."""
    return config.memory in OUTSIDE or (config.memory == "block" and config.state == "memory")


def source_shape(config: HwConfig) -> SourceShape | None:
    """Return the shape of the word source at the port or AXI4 bus of a machine's top; None if the top has neither."""
    if config.memory == "axi":
        return axi_shape(config.word_bits, config.address_bits, config.words_in_flight, client_bits(config))
    if config.memory != "port":
        return None
    return SourceShape(config.word_bits, config.address_bits, config.words_in_flight, client_bits=client_bits(config))


def memory_members(config: HwConfig) -> dict[str, Any]:
    """Return the members that every memory of words has. ``ResidentMemory`` and ``WordMemory`` describe them."""
    word = stream.Signature(config.word_bits)
    state = {"i_state": In(stream.Signature(state_request_layout(config))), "o_state": Out(word)}
    return {
        "i_write": In(stream.Signature(write_layout(config))),
        "i_read": In(stream.Signature(read_layout(config))),
        "o_read": Out(word),
        "running": In(1),
        "setup": In(SETUP_LAYOUT),
        "i_start": In(stream.Signature(token_payload(config))),
        "o_row": Out(word),
        "o_words": Out(word),
        **(state if config.state == "memory" else {}),
    }


__all__ = ["client_bits", "has_word_source", "memory_members", "source_shape", "state_request_layout"]
