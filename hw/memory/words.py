"""A memory of words on top of any word source. It has two clock domains, with FIFOs between the domains.

    sync                                              memory
    i_write, i_read ─┐                           ┌─ writes ─┐
    i_start (rows) ──┼─► requests ──────────────►│─ rows ───┤
    memory test ─────┘                           │          ├─► port of the word source
    i_state ───────────► requests ──────────────►│─ state ──┤     DRAM controller, block RAM
    o_row, o_read ◄───── fetched ◄───────────────┼─ stream ─┘     (block_source.py), a port of the chip
    o_state ◄─────────── state ◄─────────────────┤                │
    o_words ◄─────────── words ◄─────────────────┴────────────────┘
         machine_side.py          AsyncFIFOs            source_side.py

The record stream repeats endlessly, in bursts. At the next burst, rows have the first priority and the state the
second. Every client has its own FIFO, and words are requested for a client only if its FIFO has room. So a client that
does not accept its words does not delay a row. Requests of host and machine never overlap (machine_side.py).

A reset must reset the two domains together. A board has no reset, so on a board the domains may start in any order.
Requests wait while the source initialises its DRAM part.

Row latency, with one clock for both domains: 18 cycles plus the source's latency. This latency can be longer by 2
bursts. Cost with SDRAM (x16): 1,630 LUT4 and 45 distributed RAMs, of which the controller takes 500 LUT4 and the march
test some 650.
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
    """Connects a word source to the ports of a memory of words.

    Parameters
    ----------
    config : HwConfig
        The machine.
    source
        A component with a member ``port`` (see ``WordPort``) and an attribute ``shape``, whose words are as wide as the
        words of ``config``. The source runs in domain ``memory``. The source's members other than ``port`` are members
        of this component, too.

    Members
    -------
    i_write : stream of ``protocol.write_layout``, input
        {address, word}: a word from the host.
    i_read : stream of ``protocol.read_layout``, input
        {address, count}: a request of the host, only while ``running`` is 0.
    o_read : stream of words, output
        Exactly ``count`` words for each request.
    running : 1 bit, input
        The machine runs: rows and the record stream are read.
    setup : ``protocol.SETUP_LAYOUT``, input
        The last SETUP record, constant from the cycle before ``running`` rises.
    i_start : stream of ``layouts.token_payload``, input
        {token, stream}: a request for the row of a token.
    o_row : stream of words, output
        The ``embedding_row_words`` words of the token's row.
    o_words : stream of words, output
        The words 0 to ``record_words`` - 1, repeated endlessly.
    i_state : stream of ``state_request_layout``, input, state "memory"
        {write, address, payload}: a word that is written, or a request for ``payload`` words, in order.
    o_state : stream of words, output, state "memory"
        The words that ``i_state`` requested, in order. If ``running`` falls, a word that ``i_state`` has accepted still
        reaches the memory, but words on their way to ``o_state`` are dropped.
    i_test : stream of ``protocol.range_layout``, input
        A range for a march test, only while ``running`` is 0.
    o_test : stream of ``protocol.MEMORY_TEST_DONE.layout``, output
        The result of the march test (see ``march_test.py``).
    fault : 2 bits (3 with memory "axi"), output
        ``Fault`` in the lowest bits. With memory "axi", the next higher bit is 1 if the bus has refused a transaction.
        A bit that is 1 stays 1, and from then on no word is reliable.

    Numerics
    --------
    None.

    Latency
    -------
    Some 18 cycles more than the latency of the source (see "Row latency" at the top of this file).

    Reference
    ---------
    None.
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
        if self.config.memory == "axi":  # ready of the source depends on the job, so a register cuts this path
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
            side.record_words.eq(self.setup.record_words),  # stable since before `go` rose
        ]
        m.submodules.go_cdc = FFSynchronizer(machine.go, side.going, o_domain="memory")
        m.submodules.rests_cdc = FFSynchronizer(side.rests, machine.rested)
        fault = Cat(side.fault, self.source.bus_error) if "bus_error" in self._of_source else side.fault
        m.submodules.fault_cdc = FFSynchronizer(fault, self.fault)  # a bit of the fault rises and never falls
        return m


def memory_of_part(config: HwConfig, source: Any, width: str) -> WordMemory:
    """Return a ``WordMemory`` over the controller of a DRAM part.

    Parameters
    ----------
    config : HwConfig
        The machine. The function raises a LuternError if the words of the part have another width, or if the part has
        too few words.
    source
        The controller.
    width : str
        Describes the width of the part's words in the error message.
    """
    shape, word_bytes = source.shape, source.shape.word_bits // 8
    if shape.word_bits != config.word_bits:
        raise LuternError(
            f"HwConfig {config.name} has words of {config.word_bytes} bytes, but {width}; choose a preset of "
            f"{word_bytes}-byte words."
        )
    words = 1 << shape.address_bits
    if words < config.memory_words:
        raise LuternError(
            f"HwConfig {config.name} has {config.memory_words:,} words of memory, but the memory part has {words:,}; "
            "choose a smaller memory_words or a larger part."
        )
    return WordMemory(config, source)


def connect_member(m: Module, ours: Any, theirs: Any, name: str) -> None:
    """Connect a member of an inner component to the member of the outer component with this name and direction.

    Parameters
    ----------
    m : Module
        The module to which the connection is added.
    ours, theirs
        The outer component and the inner component.
    name : str
        The name of the member.
    """
    if ours.signature.members[name].is_signature:
        wiring.connect(m, wiring.flipped(getattr(ours, name)), getattr(theirs, name))
    elif ours.signature.members[name].flow is Out:
        m.d.comb += getattr(ours, name).eq(getattr(theirs, name))
    else:
        m.d.comb += getattr(theirs, name).eq(getattr(ours, name))


__all__ = ["REQUESTS", "Fault", "WordMemory", "connect_member", "memory_of_part"]
