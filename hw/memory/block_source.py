"""Block RAM as a word source that delivers one word per cycle.

    port.job ─► job █─► address ─► block RAM █─► port.valid, client, word

In the drawing, "█" is a register. Machines with memory "block" and state "memory" use this source, and so do benches
and proofs.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lutern.hw.memory.word_source import SourceShape, WordPort
from lutern.hw.pipeline import new_memory


def block_shape(word_bits: int, address_bits: int, client_bits: int) -> SourceShape:
    """Return the shape of a ``BlockSource``. The words of the present job and of the next job are in flight.

    Parameters
    ----------
    word_bits, address_bits : int
        Width of a word, and width of an address.
    client_bits : int
        Width of ``client`` in the port.
    """
    return SourceShape(word_bits, address_bits, in_flight=16, client_bits=client_bits, is_trusted=True)


class BlockSource(wiring.Component):
    """Stores ``depth`` words in block RAM and has the port of an external memory.

    Parameters
    ----------
    word_bits : int
        Width of a word.
    address_bits : int
        Width of an address.
    depth : int
        Number of words. Larger addresses are never used.
    client_bits : int
        Width of ``client`` in the port.

    Members
    -------
    port : ``WordPort``, input
        Jobs and their words.

    Numerics
    --------
    None.

    Latency
    -------
    2 cycles from a job to its first word, then one word per cycle. There is no gap between two jobs if the second job
    is offered before the first job ends.

    Reference
    ---------
    None.
    """

    def __init__(self, word_bits: int, address_bits: int, depth: int, client_bits: int = 1) -> None:
        self.depth = depth
        self.shape = block_shape(word_bits, address_bits, client_bits)
        self.job, self.there = Signal(self.shape.job), Signal()  # the job that is served
        self.memory = new_memory(word_bits, depth)
        self.read = self.memory.read_port()
        super().__init__({"port": In(WordPort(self.shape))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        port = self.port
        m.submodules.memory = self.memory
        write, read = self.memory.write_port(), self.read
        job, there, ends = self.job, self.there, Signal()
        found, its_client = Signal(), Signal(self.shape.client_bits)
        m.d.comb += [
            ends.eq(job.write | (job.length == 1)),
            port.job.ready.eq(~there | ends),
            write.addr.eq(job.address),
            write.data.eq(job.word),
            write.en.eq(there & job.write),
            read.addr.eq(job.address),
            read.en.eq(1),
            port.valid.eq(found),
            port.client.eq(its_client),
            port.word.eq(read.data),
            port.idle.eq(~there & ~found),
        ]
        m.d.sync += [found.eq(there & ~job.write), its_client.eq(job.client)]
        m.d.sync += [job.length.eq(job.length - 1), job.address.eq(job.address + 1)]
        with m.If(port.job.ready):
            m.d.sync += [there.eq(port.job.valid), job.eq(port.job.payload)]
        return m


__all__ = ["BlockSource", "block_shape"]
