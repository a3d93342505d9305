"""Three readers of a memory: two repeat words or beats endlessly, and one reads when a token or the host requests
words.

    Repeater      a port that is shared ─► register ─► o                    one item per cycle while granted
    ReaderAhead   a port ─► registers ─► FIFO ─► o                          as far ahead as the FIFO has room
    Fetcher       a token's row, or words for the host ─► registers ─► FIFO of ``hw/memory/block.py``

Cost: an address counter for each reader. The FIFO of a ReaderAhead takes 1.5 LUT4 per bit. The Fetcher also takes a
multiplier for the row's address.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.layouts import full_parts, token_payload
from lutern.hw.pipeline import FIFO_BITS, CreditFifo
from lutern.hw.protocol import SETUP_LAYOUT, read_layout

TRIT_MEMORY_BIT = TRIT_MEMORY.bit_length() - 1
FETCHED = 16
"""Depth of the FIFO for rows and for the host, which is larger than the number of words in flight."""


class Repeater(wiring.Component):
    """Reads items 0 to ``count`` - 1 of a memory again and again, on a port that other readers share.

    The reader begins with item 0 after reset. If ``granted`` falls while an item is at the output of the port, the item
    is read again later, unless ``o`` accepts it in that cycle.

    Parameters
    ----------
    bits : int
        Width of an item.
    address_bits : int
        Width of an address.

    Members
    -------
    count : ``address_bits``, input
        Number of items, constant since the cycle before reset ends.
    granted : 1 bit, input
        This reader may use the read port in this cycle.
    address : ``address_bits``, output
        Address, to the port.
    read : 1 bit, output
        Enable of the port.
    data : ``bits``, input
        The item, one cycle after its address.
    o : stream of ``bits``, output
        The items.

    Numerics
    --------
    None.

    Latency
    -------
    ``latency`` = 2 cycles from ``granted`` to the item at ``o``. One item per cycle while ``granted`` is 1.

    Reference
    ---------
    None.
    """

    latency = 2

    def __init__(self, bits: int, address_bits: int) -> None:
        self.address_bits = address_bits
        super().__init__(
            {
                "count": In(address_bits),
                "granted": In(1),
                "address": Out(address_bits),
                "read": Out(1),
                "data": In(bits),
                "o": Out(stream.Signature(bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        there = Signal()  # an item is at the output of the port
        its_address, last = Signal(self.address_bits), Signal(self.address_bits, reset_less=True)
        advance = ~self.o.valid | self.o.ready
        m.d.comb += self.read.eq(self.granted & (~there | advance))
        m.d.sync += last.eq(self.count - 1)
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(there), there.eq(0)]
        with m.If(self.read):
            m.d.sync += [
                there.eq(1),
                its_address.eq(self.address),
                self.address.eq(Mux(self.address == last, 0, self.address + 1)),
            ]
        with m.Elif(~self.granted & there & ~advance):
            m.d.sync += [there.eq(0), self.address.eq(its_address)]
        held = Signal(len(self.data), reset_less=True)
        with m.If(advance):
            m.d.sync += held.eq(self.data)
        m.d.comb += self.o.payload.eq(held)
        return m


class ReaderAhead(wiring.Component):
    """Reads items 0 to ``count`` - 1 of a resident memory again and again, as far ahead as a FIFO has room.

    An item is read only if the FIFO has room for it, so no register between port and FIFO needs an enable.

    Parameters
    ----------
    bits : int
        Width of an item.
    address_bits : int
        Width of an address.
    stages : int
        Registers between the port and ``data``.
    part_bits : int
        Number of bits of an item that share one FIFO.

    Members
    -------
    count : ``address_bits``, input
        Number of items, constant since the cycle before reset ends.
    granted : 1 bit, input
        This reader may use the read port in this cycle.
    address : ``address_bits``, output
        Address, to the port.
    data : ``bits``, input
        The item, ``stages`` + 1 cycles after its address.
    o : stream of ``bits``, output
        The items.

    Numerics
    --------
    None.

    Latency
    -------
    ``stages`` + 2 cycles from ``granted`` to the item at ``o``. One item per cycle while ``granted`` is 1, if
    ``CREDITS`` is at least ``stages`` + 4.

    Reference
    ---------
    None.
    """

    def __init__(self, bits: int, address_bits: int, stages: int, part_bits: int = FIFO_BITS) -> None:
        self.address_bits, self.stages, self.part_bits = address_bits, stages, part_bits
        super().__init__(
            {
                "count": In(address_bits),
                "granted": In(1),
                "address": Out(address_bits),
                "data": In(bits),
                "o": Out(stream.Signature(bits)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        last = Signal(self.address_bits, reset_less=True)
        valid = Signal(1 + self.stages)  # valid bits of the port's output and of each register after it
        m.submodules.ahead = ahead = CreditFifo(len(self.data), self.part_bits)
        issue = self.granted & ahead.room
        m.d.comb += [ahead.enters.eq(issue), ahead.i.valid.eq(valid[-1]), ahead.i.payload.eq(self.data)]
        m.d.sync += [last.eq(self.count - 1), valid.eq(Cat(issue, valid))]
        with m.If(issue):
            m.d.sync += self.address.eq(Mux(self.address == last, 0, self.address + 1))
        wiring.connect(m, ahead.o, wiring.flipped(self.o))
        return m


class Fetcher(wiring.Component):
    """Reads words for the host, or the row of a token, on request.

    A row's address is ``embedding_base + token * embedding_stride``. On a machine with source "resident" this address
    counts beats, and a row is stored in those parts of each beat that have all bits of a word.

    The port is followed by ``stages`` registers and a FIFO of ``FETCHED`` words. The FIFO always has room for the words
    in flight, so no register after the port needs an enable.

    Parameters
    ----------
    config : HwConfig
        The machine.
    stages : int
        Registers between the port and the FIFO.
    steps : int
        Number of cycles in which a word is read.

    Members
    -------
    host : 1 bit, input
        If 1, requests of ``i_read`` are served, otherwise requests of ``i_start``.
    i_read : stream of ``protocol.read_layout``, input
        Requests of the host.
    i_start : stream of ``layouts.token_payload``, input
        Requests for the row of a token.
    setup : ``protocol.SETUP_LAYOUT``, input
        Base, stride and length of the rows.
    address : ``address_bits``, output
        Address to the port, with the host's numbering of words and parts.
    step : ``range(steps)``, output
        Number of the step of a word that is read.
    owns : 1 bit, output
        The reader needs the read port in this cycle.
    granted : 1 bit, input
        The reader may use the port in this cycle.
    valid : 1 bit, output
        A word is written to the FIFO.
    taken : 1 bit, input
        A word has left the FIFO.

    Numerics
    --------
    None.

    Latency
    -------
    2 cycles from a token to the first address of its row, and 1 from a request of the host. The word is ``valid``
    ``steps`` + ``stages`` cycles after the first address.

    Reference
    ---------
    None.
    """

    def __init__(self, config: HwConfig, stages: int, steps: int = 1) -> None:
        self.config, self.stages, self.steps = config, stages, steps
        largest = config.memory_words
        if config.source == "resident":
            largest = max(largest, config.trit_beats << config.part_bits)
        self.count_bits = bits_for(largest - 1)  # bits of a count that is one less than the words of a request
        super().__init__(
            {
                "host": In(1),
                "i_read": In(stream.Signature(read_layout(config))),
                "i_start": In(stream.Signature(token_payload(config))),
                "setup": In(SETUP_LAYOUT),
                "address": Out(config.address_bits),
                "step": Out(range(steps)),
                "owns": Out(1),
                "granted": In(1),
                "valid": Out(1),
                "taken": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        config, setup = self.config, self.setup
        asked, busy = Signal(), Signal()
        product = Signal(config.address_bits, reset_less=True)  # a register at the multiplier
        left = Signal(self.count_bits, reset_less=True)  # words that are left after the present word
        valid = Signal(1 + self.stages)  # valid bits of the port's output and of each register after it
        room = Signal(range(FETCHED + 1), init=FETCHED)  # places in the FIFO that no read in flight will fill
        reads = busy & self.granted & (room != 0)
        issue = reads & (self.step == self.steps - 1)  # the last step of a word
        idle = ~asked & ~busy
        m.d.comb += [
            self.i_read.ready.eq(idle & self.host),
            self.i_start.ready.eq(idle & ~self.host),
            self.valid.eq(valid[-1]),
            self.owns.eq(busy),
        ]
        m.d.sync += [valid.eq(Cat(issue, valid)), room.eq(room - issue + self.taken)]
        if self.steps > 1:
            with m.If(reads):
                m.d.sync += self.step.eq(Mux(issue, 0, self.step + 1))
        m.d.sync += product.eq(self.i_start.payload.token * setup.embedding_stride)
        with m.If(self.i_start.valid & self.i_start.ready):
            m.d.sync += asked.eq(1)

        row, following = setup.embedding_base + product, self.address + 1
        if config.source == "resident":  # a carry must not change the bit that selects the memory
            following = Cat(following[:TRIT_MEMORY_BIT], self.address[TRIT_MEMORY_BIT])
            row = Cat(Const(0, config.part_bits), row[: TRIT_MEMORY_BIT - config.part_bits], Const(1, 1))
            last_part = self.address[: config.part_bits] == full_parts(config) - 1
            next_beat = Cat(Const(0, config.part_bits), (self.address[config.part_bits : TRIT_MEMORY_BIT] + 1)[:-1], 1)
            following = Mux(~self.host & last_part, next_beat, following)
        with m.If(asked):
            m.d.sync += [asked.eq(0), busy.eq(1), self.address.eq(row), left.eq(setup.embedding_row_words - 1)]
        with m.Elif(self.i_read.valid & self.i_read.ready):
            count = self.i_read.payload.count
            m.d.sync += [busy.eq(count != 0), self.address.eq(self.i_read.payload.address), left.eq(count - 1)]
        with m.Elif(issue):
            m.d.sync += [busy.eq(left != 0), left.eq(left - 1), self.address.eq(following)]
        return m
