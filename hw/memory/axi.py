"""AXI4 as a word source: a word is striped over 1 to 16 ports, each with its own read and write channels.

    port.job ─► stage 1 ─┬─► AR of port 0 ───► m_axi0_ar*      m_axi0_r* ─► FIFO 0 ─┐
               (held)    ├─► AR of port 1 ───► m_axi1_ar*      m_axi1_r* ─► FIFO 1 ─┼─► join ─► port.word
                         └─► write: m_axi*_aw*, m_axi*_w*, later one m_axi*_b* of each port

A port is ``port_bytes`` wide. Byte b of word w is in the memory of port ``k = b // port_bytes``, at the address
``bases[k] + port_bytes * w + b % port_bytes``. A read is one INCR burst on each port, and all these bursts have the
same length. A burst has at most ``BURST`` beats and lies within an aligned block of 4 KiB. A write is one beat on each
port. All transactions have ID 0, so the data of a port come in order. One port may be ahead of another port by as many
words as a FIFO stores.

*Credit.* The source requests a read only while the FIFOs have room for the words of this read and for all words in
flight. So RREADY and BREADY are always 1, and the bus never waits for this machine. A port has at most ``MOST_WRITES``
writes in flight.

*Order.* AXI4 does not order a read after a write. So a read of ``Client.FETCH`` or ``Client.STATE`` waits until all
writes are answered, and a write waits until the words of all such reads have come. A read of the record stream does not
wait, because the words of the record stream are written only while the machine does not run, and a run begins only
after ``idle`` has reported that all writes are answered.

*Reset.* During reset, no VALID is 1. AXI4 expects that the bus is reset together with the machine. If only the machine
is reset, beats that answer jobs from before the reset may still come. The source drops these beats, and the first job
waits until ``QUIET_CYCLES`` have passed without a beat. Such a reset must not happen during a write, because the bus
may have accepted the address of the write but not its data.

Cost in time: each job takes 3 cycles (one to register the job, one to compute its addresses, one to offer it). Bursts
of 16 words hide these cycles.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.axi_registers import AXI_ADDRESS_BITS, BOUNDARY, ERROR_COUNT_BITS
from lutern.hw.memory.word_source import Client, SourceShape, WordPort

BURST = 16
"""Largest number of beats of a burst."""
INCR = 0b01
CACHE = 0b0011
"""AxCACHE: normal memory, not cacheable, bufferable."""
MOST_WRITES = 15
"""Largest number of writes in flight on a port."""
QUIET_CYCLES = 1024
"""Cycles without a beat after which the first job may start. The number is a power of two, and is larger than the
latency and the refresh pause of any memory."""


def axi_members(index: int, data_bits: int) -> dict[str, Any]:
    """Return the ports of an AXI4 master. Their names are the names of the standard in lower case, such as
    ``m_axi0_araddr``.

    Parameters
    ----------
    index : int
        Number of the master, which is part of the names.
    data_bits : int
        Width of the master's data.
    """
    address = {"id": Out(1), "addr": Out(AXI_ADDRESS_BITS), "len": Out(8), "size": Out(3), "burst": Out(2)}
    address |= {"lock": Out(1), "cache": Out(4), "prot": Out(3), "qos": Out(4), "valid": Out(1), "ready": In(1)}
    channels = {
        "aw": address,
        "w": {"data": Out(data_bits), "strb": Out(data_bits // 8), "last": Out(1), "valid": Out(1), "ready": In(1)},
        "b": {"id": In(1), "resp": In(2), "valid": In(1), "ready": Out(1)},
        "ar": address,
        "r": {"id": In(1), "data": In(data_bits), "resp": In(2), "last": In(1), "valid": In(1), "ready": Out(1)},
    }
    return {
        f"m_axi{index}_{channel}{name}": member
        for channel, members in channels.items()
        for name, member in members.items()
    }


def axi_shape(word_bits: int, address_bits: int, in_flight: int, client_bits: int = 1) -> SourceShape:
    """Return the shape of an ``AxiSource``.

    Parameters
    ----------
    word_bits, address_bits : int
        Width of a word, and width of an address.
    in_flight : int
        Number of words that must be requested ahead to hide the latency of the memory.
    client_bits : int
        Width of ``client`` in the port.
    """
    return SourceShape(word_bits, address_bits, in_flight, BURST, client_bits=client_bits)


def fifo_words(shape: SourceShape) -> int:
    """Return how many words each port's FIFO stores. This is also the largest number of words that may be in flight."""
    return 1 << (shape.in_flight + 2 * BURST - 1).bit_length()


def bus_members(ports: int, port_bits: int) -> dict[str, Any]:
    """Return the members of an ``AxiSource`` that leave the machine.

    Parameters
    ----------
    ports : int
        Number of AXI4 masters.
    port_bits : int
        Width of the data of each master.
    """
    masters = [axi_members(index, port_bits) for index in range(ports)]
    merged = {name: member for members in masters for name, member in members.items()}
    return {"bases": In(AXI_ADDRESS_BITS * ports), "bus_errors": Out(ERROR_COUNT_BITS), **merged}


class AxiSource(wiring.Component):
    """Reads and writes words over AXI4 masters.

    Parameters
    ----------
    shape : SourceShape
        An ``axi_shape``.
    ports : int
        1, 2, 4, 8 or 16 AXI4 masters, each ``word_bits / ports`` wide: 64, 128, 256 or 512 bits.

    Members
    -------
    port : ``WordPort``, input
        Jobs and their words.
    bases : ``AXI_ADDRESS_BITS`` for each port, input
        Base address of the words of each port. The address of the first port is in the lowest bits. All base addresses
        are multiples of ``BOUNDARY``, and they are constant while the memory is used.
    m_axi* : AXI4 master of each port, ``m_axi0_*`` and so on
        ``axi_members`` lists the signals.
    bus_error : 1 bit, output
        Becomes 1 at the first RRESP or BRESP that is SLVERR or DECERR, and stays 1.
    bus_errors : ``ERROR_COUNT_BITS``, output
        Number of read beats and writes that were answered with SLVERR or DECERR. The count stops at its largest value.

    Numerics
    --------
    None.

    Latency
    -------
    2 cycles from a job to ARVALID, 3 from the RVALID of the port that answers last to the word (1 if there is only one
    port, because this port has no FIFO).

    Reference
    ---------
    AMBA AXI and ACE Protocol Specification, ARM IHI 0022.
    """

    def __init__(self, shape: SourceShape, ports: int) -> None:
        self.shape, self.ports, self.port_bits = shape, ports, shape.word_bits // ports
        self.depth = fifo_words(shape)
        self.promised = Signal(range(self.depth + 1))  # words that were requested and are not delivered yet
        self.ordered = Signal(range(self.depth + 1))  # the promised words that are not for the record stream
        self.held, self.there = Signal(shape.job, reset_less=True), Signal()  # the job whose addresses are computed
        self.unanswered = Signal()  # a port has a write in flight
        self.open_writes = [Signal(range(MOST_WRITES + 1), name=f"writes_of_{index}") for index in range(ports)]
        self.awake = Signal()  # beats that come are answers to jobs
        fifos = ports if ports > 1 else 0
        self.beats = [SyncFIFOBuffered(width=self.port_bits, depth=self.depth) for _ in range(fifos)]
        super().__init__({"port": In(WordPort(shape)), "bus_error": Out(1), **bus_members(ports, self.port_bits)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        port = self.port
        held, there = self.held, self.there
        offered = [self._tie(m, index) for index in range(self.ports)]
        for index in range(self.ports):
            self._ask(m, index, held, there)
        any_open = Cat(writes != 0 for writes in self.open_writes).any()
        m.d.comb += self.unanswered.eq(there & held.write | any_open)
        self._wake_up(m)
        has_place = self._join(m)
        room, in_order = self._add_credit(m)
        m.d.comb += port.job.ready.eq(self.awake & ~there & ~Cat(offered).any() & room & in_order & has_place)
        m.d.sync += there.eq(port.job.valid & port.job.ready)
        with m.If(port.job.ready):
            m.d.sync += held.eq(port.job.payload)
        self._note_errors(m)
        m.d.comb += port.idle.eq(~there & ~Cat(offered).any() & ~self.unanswered & (self.promised == 0))
        return m

    def _axi(self, index: int, name: str) -> Any:
        return getattr(self, f"m_axi{index}_{name}")

    def _tie(self, m: Module, index: int) -> Value:
        """Set the constant signals of a port. Return whether the port offers a transaction that is not accepted yet."""
        size = (self.port_bits // 8).bit_length() - 1
        for channel in ("aw", "ar"):
            m.d.comb += [
                self._axi(index, f"{channel}size").eq(size),
                self._axi(index, f"{channel}burst").eq(INCR),
                self._axi(index, f"{channel}cache").eq(CACHE),
            ]
        m.d.comb += [
            self._axi(index, "wstrb").eq(~Const(0, self.port_bits // 8)),
            self._axi(index, "wlast").eq(1),
            self._axi(index, "rready").eq(1),
            self._axi(index, "bready").eq(1),
        ]
        return Cat(self._axi(index, f"{channel}valid") for channel in ("aw", "w", "ar")).any()

    def _add_credit(self, m: Module) -> tuple[Value, Value]:
        """Return whether the FIFOs have room for one more burst, and whether the job at the port keeps the order."""
        job, takes = self.port.job.p, self.port.job.valid & self.port.job.ready
        room, may_write, ends = Signal(), Signal(), self.port.valid
        is_stream, gives_stream = job.client == Client.STREAM, self.port.client == Client.STREAM
        asks = takes & ~job.write
        m.d.sync += [
            self.promised.eq(self.promised + Mux(asks, job.length, 0) - ends),
            self.ordered.eq(self.ordered + Mux(asks & ~is_stream, job.length, 0) - (ends & ~gives_stream)),
            # ``room`` and ``may_write`` are a cycle late. They still include the previous job, because at most one job
            # in three cycles is accepted.
            room.eq(self.promised <= self.depth - 2 * BURST),
            may_write.eq(~Cat(writes == MOST_WRITES for writes in self.open_writes).any()),
        ]
        in_order = Mux(job.write, may_write & (self.ordered == 0), is_stream | ~self.unanswered)
        return room, in_order

    def _wake_up(self, m: Module) -> None:
        """Drop the beats that come after reset and before the first job. They answer jobs from before the reset."""
        quiet = Signal(range(QUIET_CYCLES + 1))
        beats = Cat(self._axi(index, f"{channel}valid") for index in range(self.ports) for channel in "rb")
        m.d.comb += self.awake.eq(quiet[-1])
        with m.If(~self.awake):
            m.d.sync += quiet.eq(Mux(beats.any(), 0, quiet + 1))

    def _ask(self, m: Module, index: int, held: Any, there: Value) -> None:
        """Add the transactions of one port."""
        size = (self.port_bits // 8).bit_length() - 1
        address = Signal(AXI_ADDRESS_BITS)
        m.d.comb += address.eq(self.bases.word_select(index, AXI_ADDRESS_BITS) + Cat(Const(0, size), held.address))
        writes, reads = there & held.write, there & ~held.write
        for channel, begins in (("aw", writes), ("w", writes), ("ar", reads)):
            valid = self._axi(index, f"{channel}valid")
            with m.If(begins):
                m.d.sync += valid.eq(1)
            with m.Elif(self._axi(index, f"{channel}ready")):
                m.d.sync += valid.eq(0)
        with m.If(writes):
            m.d.sync += self._axi(index, "awaddr").eq(address)
            m.d.sync += self._axi(index, "wdata").eq(held.word.word_select(index, self.port_bits))
        with m.If(reads):
            m.d.sync += [self._axi(index, "araddr").eq(address), self._axi(index, "arlen").eq(held.length - 1)]
        m.d.sync += self.open_writes[index].eq(self.open_writes[index] + writes - self._came(index, "b"))

    def _came(self, index: int, channel: str) -> Value:
        """Return whether a beat that answers a job comes on ``channel``, which is R or B."""
        return self._axi(index, f"{channel}valid") & self.awake

    def _join(self, m: Module) -> Value:
        """Join the beats of all ports to a word for the client of the job. Return whether the queue has room for one
        more job."""
        port, job = self.port, self.port.job
        layout = data.StructLayout({"client": self.shape.client_bits, "length": range(BURST + 1)})
        m.submodules.asked = asked = SyncFIFOBuffered(width=layout.size, depth=self.depth // 2)
        entry, oldest = data.View(layout, asked.w_data), data.View(layout, asked.r_data)
        m.d.comb += [
            asked.w_en.eq(job.valid & job.ready & ~job.p.write),
            entry.client.eq(job.p.client),
            entry.length.eq(job.p.length),
        ]
        valid, word = self._beats(m)
        came, ends = Signal(range(BURST + 1)), Signal()
        m.d.comb += [ends.eq(came + 1 == oldest.length), asked.r_en.eq(valid & ends)]
        m.d.sync += [port.valid.eq(valid), port.word.eq(word), port.client.eq(oldest.client)]
        with m.If(valid):
            m.d.sync += came.eq(Mux(ends, 0, came + 1))
        return asked.w_rdy

    def _beats(self, m: Module) -> tuple[Value, Value]:
        """Return whether every port has a beat, and the beats of all ports."""
        if self.ports == 1:
            return self._came(0, "r"), self._axi(0, "rdata")
        all_there = Signal()
        for index, fifo in enumerate(self.beats):
            m.submodules[f"beats_{index}"] = fifo
            m.d.comb += [
                fifo.w_en.eq(self._came(index, "r")),
                fifo.w_data.eq(self._axi(index, "rdata")),
                fifo.r_en.eq(all_there),
            ]
        m.d.comb += all_there.eq(Cat(fifo.r_rdy for fifo in self.beats).all())
        return all_there, Cat(fifo.r_data for fifo in self.beats)

    def _note_errors(self, m: Module) -> None:
        """Count the transactions that the bus refused."""
        bad = []
        for index in range(self.ports):
            bad += [self._came(index, channel) & self._axi(index, f"{channel}resp")[1] for channel in "rb"]
        found = Signal(range(len(bad) + 1))
        m.d.sync += found.eq(sum(bad[1:], start=bad[0]))
        with m.If(found != 0):
            total = self.bus_errors + found
            m.d.sync += [self.bus_error.eq(1), self.bus_errors.eq(Mux(total[ERROR_COUNT_BITS:].any(), ~0, total))]


__all__ = [
    "AXI_ADDRESS_BITS",
    "BOUNDARY",
    "BURST",
    "ERROR_COUNT_BITS",
    "MOST_WRITES",
    "QUIET_CYCLES",
    "AxiSource",
    "axi_members",
    "axi_shape",
    "bus_members",
    "fifo_words",
]
