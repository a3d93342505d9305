# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""A memory of words for benches, over block RAM that answers late. Some inputs of the bench make the source answer
wrongly.

WordMemory ─► LateSource: BlockSource ─► `latency` registers ─► FIFO ─► words, with random pauses
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, DomainRenamer, Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.memory import BlockSource, SourceShape, WordMemory, WordPort, connect_member

WAITING_WORDS = 2048
"""Depth of a FIFO that can store more words than all FIFOs of a memory together."""


class LateSource(wiring.Component):
    """A word source in block RAM whose words come ``latency`` cycles late. If ``pauses`` is true, jobs and words pause
    at random.

    Members: ``port`` is the source. While ``mute`` is 1, words are lost. While ``astray`` is 1, words name another
    client. While ``stall`` is 1, no job is accepted.
    """

    def __init__(self, block: BlockSource, shape: SourceShape, latency: int, pauses: bool) -> None:
        self.block, self.shape, self.latency, self.pauses = block, shape, latency, pauses
        super().__init__({"port": In(WordPort(shape)), "mute": In(1), "astray": In(1), "stall": In(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        port, shape = self.port, self.shape
        m.submodules.block = block = self.block
        noise = Signal(31, init=1)
        with m.If(self.pauses):
            m.d.sync += noise.eq(Cat(noise[30] ^ noise[27], noise))
        may_take, may_give = ~(noise[3] & noise[5]), ~(noise[9] & noise[11] & noise[12])
        m.submodules.waiting = waiting = SyncFIFO(width=shape.word_bits + shape.client_bits, depth=WAITING_WORDS)
        came: Any = Cat(block.port.word, block.port.client, block.port.valid)
        for stage in range(self.latency):
            register = Signal.like(came, name=f"late_{stage}")
            m.d.sync += register.eq(came)
            came = register
        accepts = may_take & ~self.stall
        m.d.comb += [
            block.port.job.payload.eq(port.job.payload),
            block.port.job.valid.eq(port.job.valid & accepts),
            port.job.ready.eq(block.port.job.ready & accepts),
            waiting.w_data.eq(came[:-1]),
            waiting.w_en.eq(came[-1]),
            waiting.r_en.eq(may_give),
            port.valid.eq(waiting.r_rdy & may_give & ~self.mute),
            Cat(port.word, port.client).eq(waiting.r_data),
            port.idle.eq(block.port.idle & ~waiting.r_rdy),
        ]
        with m.If(self.astray):
            m.d.comb += port.client.eq(waiting.r_data[shape.word_bits :] ^ 1)
        return m


class WordMemoryBench(wiring.Component):
    """``WordMemory`` over a ``LateSource``, with both clock domains on one clock.

    Members: the members of the memory and of the source, and ``words``, which counts the words of the record stream
    that were accepted.
    """

    def __init__(self, config: HwConfig, latency: int, pauses: bool) -> None:
        self.config = config
        bits = 2 if config.state == "memory" else 1
        block = BlockSource(config.word_bits, config.address_bits, config.memory_words, bits)
        shape = SourceShape(config.word_bits, config.address_bits, in_flight=latency + 16, client_bits=bits)
        self.memory = WordMemory(config, LateSource(block, shape, latency, pauses))
        super().__init__({**self.memory.signature.members, "words": Out(32)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.memory = DomainRenamer({"memory": "sync"})(self.memory)
        for name in self.memory.signature.members:
            connect_member(m, self, self.memory, name)
        with m.If(self.o_words.valid & self.o_words.ready):
            m.d.sync += self.words.eq(self.words + 1)
        return m


__all__ = ["LateSource", "WordMemoryBench"]
