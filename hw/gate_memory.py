"""The memory that MLGRU and GLU share. It stores z (hw/mlgru.py) for the MLGRU, and the gates for the GLU.

    F    ─► z ────┐                      ┌─► I
                  ├─► place, data ─║─► ──┤
    GATE ─► gate ─┘                      └─► UP

MLGRU and GLU never use the memory at the same time, because GLU needs the complete output vector of MLGRU, and MLGRU
needs the complete output vector of GLU. Cost: 18 bits for each element of the longest vector and each stream. A memory
of few words is built of LUTs, and a larger memory of block RAM.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.pipeline import Stages, place_bits, read_ahead_of_register, vector_memory

GATE_BITS = 18
"""Number of bits of an element. A gate is signed, and z is unsigned."""


def gates_signature(config: HwConfig) -> wiring.Signature:
    """Return the port of one user. In each cycle the user may write one beat of P x 18 bits and read another beat.

    ``write`` enables the write of ``data`` at ``place``. ``read_data`` is the beat at ``read_place``, one cycle later.
    The user stores ``read_data`` in a register at the end of that cycle.
    """
    beat = config.results_per_cycle * GATE_BITS
    return wiring.Signature(
        {
            "write": Out(1),
            "place": Out(place_bits(config)),
            "data": Out(beat),
            "read_place": Out(place_bits(config)),
            "read_data": In(beat),
        }
    )


class GateMemory(wiring.Component):
    """Stores one vector for each stream, in beats of P elements.

    Parameters
    ----------
    config
        ``results_per_cycle`` (P) elements per beat, ``max_width`` elements per vector, ``streams`` vectors.

    Members
    -------
    user : ``gates_signature``, input
        One write port and one read port. If a beat is read in the cycle of its write, or in the next cycle,
        ``read_data`` is undefined.

    Numerics
    --------
    The memory computes nothing, because it returns the data that was written. There is therefore no ``model()``.

    Latency
    -------
    ``latency`` = 1 cycle from ``read_place`` to ``read_data``.

    Reference
    ---------
    Paper, section 3.3.1 (z, from the forget gate) and 3.3.2 (the gate of the GLU).
    """

    latency = 1

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        super().__init__({"user": In(gates_signature(config))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        memory = m.submodules.gates = vector_memory(self.config, GATE_BITS)
        write = memory.write_port()
        m.d.comb += [
            write.en.eq(self.user.write),
            write.addr.eq(self.user.place),
            write.data.eq(self.user.data),
            self.user.read_data.eq(read_ahead_of_register(m, self.config, Stages(m), memory, self.user.read_place)),
        ]
        return m


__all__ = ["GATE_BITS", "GateMemory", "gates_signature"]
