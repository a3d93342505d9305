"""This package contains what every block uses: registers, memories of vectors, and FIFOs for back-pressure."""

from lutern.hw.pipeline.credits import CREDITS, FIFO_BITS, ROOM, CreditFifo
from lutern.hw.pipeline.luts import constant, fewer, lut4, parity
from lutern.hw.pipeline.shifts import shift_right, spread
from lutern.hw.pipeline.skid import Skid
from lutern.hw.pipeline.stages import (
    Stages,
    beyond,
    clamp,
    exceeds,
    join_streams,
    magnitude,
    own_register,
    pack,
    saturate,
)
from lutern.hw.pipeline.stream_register import StreamRegister
from lutern.hw.pipeline.vectors import (
    beats_memory,
    in_luts,
    index_of,
    new_memory,
    place_at,
    place_bits,
    place_count,
    place_of,
    read_ahead_of_register,
    read_register,
    stream_of,
    vector_memory,
)

__all__ = [
    "CREDITS",
    "FIFO_BITS",
    "ROOM",
    "CreditFifo",
    "Skid",
    "Stages",
    "StreamRegister",
    "beats_memory",
    "beyond",
    "clamp",
    "constant",
    "exceeds",
    "fewer",
    "in_luts",
    "index_of",
    "join_streams",
    "lut4",
    "magnitude",
    "new_memory",
    "own_register",
    "pack",
    "parity",
    "place_at",
    "place_bits",
    "place_count",
    "place_of",
    "read_ahead_of_register",
    "read_register",
    "saturate",
    "shift_right",
    "spread",
    "stream_of",
    "vector_memory",
]
