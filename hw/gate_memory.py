"""The memory that MLGRU and GLU share: it holds z for the MLGRU, and the gates for the GLU.

    F    ─► z ────┐                      ┌─► I
                  ├─► place, data ─║─► ──┤
    GATE ─► gate ─┘                      └─► UP

The two never work at the same time: the inputs of each are sums over the quantised output of the other. Cost: 18 bits
for each element of the longest vector and each stream, in block RAM or, where it has few words, in LUTs.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.pipeline import Stages, place_bits, read_ahead_of_register, vector_memory

GATE_BITS = 18
"""Bits of an element: a gate is signed, z is not."""


def gates_signature(config: HwConfig) -> wiring.Signature:
    """Return the port of one user: a beat of P x 18 bits may be written and another read in each cycle.

    ``write`` enables the write of ``data`` at ``place``. ``read_data`` is the beat at ``read_place`` a cycle later; the
    user registers it at the end of that cycle.
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
    """Keeps one vector of P-beats for each stream.

    Parameters
    ----------
    config
        ``results_per_cycle`` (P) elements a beat, ``max_width`` elements a vector, ``streams`` vectors.

    Members
    -------
    user : ``gates_signature``, input
        One write port and one read port. If a beat is read in the cycle of its write, or in the next cycle, the data is
        undefined.

    Numerics
    --------
    Nothing is computed: the data that was written is read. There is therefore no ``model()``.

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
