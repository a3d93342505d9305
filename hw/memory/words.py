"""A memory of words over any word source: two clock domains, and FIFOs between them.

    sync                                              memory
    i_write, i_read ─┐                           ┌─ writes ─┐
    i_start (rows) ──┼─► requests ──────────────►│─ rows ───┤
    memory test ─────┘                           │          ├─► port of the word source
    i_state ───────────► requests ──────────────►│─ state ──┤     SDRAM controller (sdram.py), block RAM
    o_row, o_read ◄───── fetched ◄───────────────┼─ stream ─┘     (block_source.py), a port of the chip
    o_state ◄─────────── state ◄─────────────────┤                │
    o_words ◄─────────── words ◄─────────────────┴────────────────┘
         machine_side.py          AsyncFIFOs            source_side.py

The record stream repeats endlessly, in bursts; rows go first, at the next burst, then the state. Every client has a
FIFO of its own and is given only what fits, so nothing waits in the source but for its turn: words that nobody takes
hold no row up. Host and machine never overlap: see machine_side.py.

Reset: both domains together; on a board there is none, and the domains begin in any order. Requests wait while the
source wakes up.

Row latency, one clock for both: 18 cycles and the source's latency, at most 2 bursts more.
Cost with SDRAM (x16): 1,500 LUT4 and 45 distributed RAMs, of which the controller is 500, the march test some 400.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, DomainRenamer, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import Out

from lutern.hw.config import HwConfig
from lutern.hw.memory.machine_side import MachineSide, march_members
from lutern.hw.memory.ports import memory_members
from lutern.hw.memory.source_side import SourceSide
from lutern.hw.memory.source_watch import Fault
from lutern.hw.memory.word_source import PortSource
from lutern.hw.protocol import fault_bits
from lutern.model_ref.errors import LuternError

REQUESTS = 8


class WordMemory(wiring.Component):
    """Ports of ``StreamedMemory`` over a word source.

    Parameters: ``config``; ``source``, a component with a member ``port`` (see ``WordPort``) and an attribute
    ``shape``, with words as wide as ``config``'s. It is put into domain ``memory``.

    Members: as ``StreamedMemory``; those of the source but for ``port``; ``i_test`` a range, ``o_test`` its march
    test's result (see ``march_test.py``), only while ``running`` is 0; ``fault``, see ``Fault``, above it whether a
    bus refused something: it stays, and nothing else is promised any more.

    With state "memory", while ``running``: ``i_state`` {write, address, payload}, in order: a word written, or a
    request for ``payload`` words, which come on ``o_state`` in order. A stop drops words on their way; a write that was
    accepted reaches the memory.
    """

    def __init__(self, config: HwConfig, source: Any) -> None:
        self.config, self.source = config, source
        self.shape = source.shape
        self._of_source = {name: member for name, member in source.signature.members.items() if name != "port"}
        super().__init__(
            {**memory_members(config), **march_members(config), "fault": Out(fault_bits(config)), **self._of_source}
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        in_memory = DomainRenamer("memory")
        m.submodules.machine = machine = MachineSide(self.config, self.shape)
        side = SourceSide(self.shape, self.config.address_bits)
        m.submodules.side = in_memory(side)
        m.submodules.source = in_memory(self.source)
        port = side.port
        if self.config.memory == "axi":  # whose answer hangs upon the job: it goes no further than to a register
            m.submodules.jobs = jobs = in_memory(PortSource(self.shape))
            wiring.connect(m, port, jobs.port)
            port = jobs.words
        wiring.connect(m, port, self.source.port)
        for name in self._of_source:
            connect_member(m, self, self.source, name)
        for name in (*memory_members(self.config), *march_members(self.config)):
            connect_member(m, self, machine, name)

        waiting = []
        for client in self.shape.clients[1:]:
            asks, asked = machine.requests[client - 1], side.i[client - 1]
            bits = asks.payload.as_value().shape().width
            fifo = AsyncFIFO(width=bits, depth=REQUESTS, w_domain="sync", r_domain="memory")
            m.submodules[f"{client.name.lower()}_requests"] = fifo
            m.d.comb += [fifo.w_en.eq(asks.valid), asks.ready.eq(fifo.w_rdy), fifo.w_data.eq(asks.payload)]
            m.d.comb += [asked.valid.eq(fifo.r_rdy), fifo.r_en.eq(asked.ready), asked.payload.eq(fifo.r_data)]
            waiting.append(fifo.w_level != 0)
        for client in self.shape.clients:
            came = machine.came[client]
            fifo = AsyncFIFO(width=self.shape.word_bits, depth=side.depth, w_domain="memory", r_domain="sync")
            m.submodules[f"{client.name.lower()}_words"] = fifo
            m.d.comb += [fifo.w_en.eq(side.enters[client]), fifo.w_data.eq(side.port.word)]
            m.d.comb += [came.valid.eq(fifo.r_rdy), fifo.r_en.eq(came.ready), came.payload.eq(fifo.r_data)]
            m.d.comb += side.levels[client].eq(fifo.w_level)
        m.d.comb += [
            machine.asked_none.eq(~Cat(waiting).any()),
            side.record_words.eq(self.setup.record_words),  # stands still since before `go` rose
        ]
        m.submodules.go_cdc = FFSynchronizer(machine.go, side.going, o_domain="memory")
        m.submodules.rests_cdc = FFSynchronizer(side.rests, machine.rested)
        fault = Cat(side.fault, self.source.bus_error) if "bus_error" in self._of_source else side.fault
        m.submodules.fault_cdc = FFSynchronizer(fault, self.fault)  # each bit of it only rises
        return m


def memory_of_part(config: HwConfig, source: Any, width: str) -> WordMemory:
    """``WordMemory`` over the controller of a DRAM part; refuses a part of other words, whose ``width`` it says, or of
    fewer."""
    shape, word_bytes = source.shape, source.shape.word_bits // 8
    if shape.word_bits != config.word_bits:
        raise LuternError(
            f"HwConfig {config.name} has words of {config.word_bytes} bytes, {width}; choose a preset of "
            f"{word_bytes}-byte words."
        )
    words = 1 << shape.address_bits
    if words < config.memory_words:
        raise LuternError(
            f"HwConfig {config.name} has {config.memory_words:,} words of memory, the memory part has {words:,}; "
            "choose a smaller memory_words or a larger part."
        )
    return WordMemory(config, source)


def connect_member(m: Module, ours: Any, theirs: Any, name: str) -> None:
    """Hand a member of a component inside on, as a member of the same name and direction."""
    if ours.signature.members[name].is_signature:
        wiring.connect(m, wiring.flipped(getattr(ours, name)), getattr(theirs, name))
    elif ours.signature.members[name].flow is Out:
        m.d.comb += getattr(ours, name).eq(getattr(theirs, name))
    else:
        m.d.comb += getattr(theirs, name).eq(getattr(ours, name))


__all__ = ["REQUESTS", "Fault", "WordMemory", "connect_member", "memory_of_part"]
