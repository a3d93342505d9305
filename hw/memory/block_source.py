"""Block RAM as a word source: a word a cycle, for machines whose state lies in it, for benches and for proofs.

    port.job ─► job █─► address ─► block RAM █─► port.valid, client, word

Latency: 2 from a job to its first word, then one a cycle. Two jobs follow one another without a pause when the second
is offered before the first ends.
"""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from lutern.hw.memory.word_source import SourceShape, WordPort
from lutern.hw.pipeline import new_memory


def block_shape(word_bits: int, address_bits: int, client_bits: int) -> SourceShape:
    """Under way are the words of the job that is served, and of the next one."""
    return SourceShape(word_bits, address_bits, in_flight=16, client_bits=client_bits, is_trusted=True)


class BlockSource(wiring.Component):
    """``depth`` words in block RAM, in the place of an external memory.

    Members: ``port``, see ``WordPort``; an address beyond ``depth`` is never used.
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
