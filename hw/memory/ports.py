"""The ports that every memory of words offers to the host and to the decoder."""

from __future__ import annotations

from typing import Any

from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.layouts import token_payload
from lutern.hw.protocol import READ_LAYOUT, SETUP_LAYOUT, write_layout


def memory_members(config: HwConfig) -> dict[str, Any]:
    """Members of the signature of any memory; ``ResidentMemory`` says what each of them means."""
    word = stream.Signature(config.word_bits)
    return {
        "i_write": In(stream.Signature(write_layout(config.word_bytes))),
        "i_read": In(stream.Signature(READ_LAYOUT)),
        "o_read": Out(word),
        "running": In(1),
        "setup": In(SETUP_LAYOUT),
        "i_start": In(stream.Signature(token_payload(config))),
        "o_row": Out(word),
        "o_words": Out(word),
    }


__all__ = ["memory_members"]
