"""Control over AXI4-Lite: two FIFOs carry the bytes of the link, and registers store the base addresses of the memory.

    s_axi_aw*, s_axi_w* ─► DATA ─► FIFO ─► o   bytes to the machine        STATUS: room for bytes, bytes that wait
    s_axi_ar*, s_axi_r* ◄─ DATA ◄─ FIFO ◄─ i   bytes from the machine      BASE: a base address for each AXI4 master

hw/axi_registers.py lists the registers. A write is accepted when its address and its data are valid. One write and one
read can be in flight at a time.

Among other cases, the answer to a write is SLVERR if DATA is written without the strobe of byte 0, or BASE without all
strobes. An access that is answered with SLVERR changes nothing.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from lutern.hw.axi_registers import (
    AXI_ADDRESS_BITS,
    BASE_AT,
    BOUNDARY,
    BUS_ERRORS_AT,
    CONTROL_ADDRESS_BITS,
    DATA_AT,
    ERROR_COUNT_BITS,
    HAS_BYTE,
    NAME,
    NAME_AT,
    PORTS_AT,
    STATUS_AT,
)

OKAY, SLVERR = 0b00, 0b10
FIFO_BYTES = 2048
"""Number of bytes that the FIFO of each direction stores, which is enough for three frames of the link."""


def control_members() -> dict[str, Any]:
    """Return the ports of the AXI4-Lite slave. Their names are the names of the standard in lower case."""
    address = {"addr": In(CONTROL_ADDRESS_BITS), "prot": In(3), "valid": In(1), "ready": Out(1)}
    channels = {
        "aw": address,
        "w": {"data": In(32), "strb": In(4), "valid": In(1), "ready": Out(1)},
        "b": {"resp": Out(2), "valid": Out(1), "ready": In(1)},
        "ar": address,
        "r": {"data": Out(32), "resp": Out(2), "valid": Out(1), "ready": In(1)},
    }
    return {
        f"s_axi_{channel}{name}": member for channel, members in channels.items() for name, member in members.items()
    }


class AxiControl(wiring.Component):
    """Connects an AXI4-Lite bus to the link and to the base addresses.

    Parameters
    ----------
    ports : int
        Number of AXI4 masters. Each master has a base address.

    Members
    -------
    s_axi_awaddr, s_axi_awprot, s_axi_awvalid, s_axi_awready : AXI4-Lite write address channel
        The address has ``CONTROL_ADDRESS_BITS``.
    s_axi_wdata, s_axi_wstrb, s_axi_wvalid, s_axi_wready : AXI4-Lite write data channel
        32 bits.
    s_axi_bresp, s_axi_bvalid, s_axi_bready : AXI4-Lite write response channel
        OKAY or SLVERR.
    s_axi_araddr, s_axi_arprot, s_axi_arvalid, s_axi_arready : AXI4-Lite read address channel
        The address has ``CONTROL_ADDRESS_BITS``.
    s_axi_rdata, s_axi_rresp, s_axi_rvalid, s_axi_rready : AXI4-Lite read data channel
        32 bits.
    i : stream of 8 bits, input
        Bytes from the machine.
    o : stream of 8 bits, output
        Bytes to the machine.
    bases : ``AXI_ADDRESS_BITS`` for each port, output
        Base addresses. The address of the first port is in the lowest bits.
    bus_errors : ``ERROR_COUNT_BITS``, input
        The count that the host reads from the register BUS_ERRORS.

    Numerics
    --------
    None.

    Latency
    -------
    READY rises one cycle after AWVALID and WVALID, or after ARVALID. The answer is valid 2 cycles after AWVALID and
    WVALID, or after ARVALID.

    Reference
    ---------
    ARM IHI 0022, part B.
    """

    def __init__(self, ports: int) -> None:
        self.ports = ports
        super().__init__(
            {
                **control_members(),
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "bases": Out(AXI_ADDRESS_BITS * ports),
                "bus_errors": In(ERROR_COUNT_BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.to_machine = to_machine = SyncFIFOBuffered(width=8, depth=FIFO_BYTES)
        m.submodules.to_host = to_host = SyncFIFOBuffered(width=8, depth=FIFO_BYTES)
        m.d.comb += [
            self.o.valid.eq(to_machine.r_rdy),
            self.o.payload.eq(to_machine.r_data),
            to_machine.r_en.eq(self.o.ready),
            self.i.ready.eq(to_host.w_rdy),
            to_host.w_en.eq(self.i.valid),
            to_host.w_data.eq(self.i.payload),
        ]
        self._add_writes(m, to_machine)
        self._add_reads(m, to_machine, to_host)
        return m

    def _add_writes(self, m: Module, to_machine: SyncFIFOBuffered) -> None:
        at, word, strobes = self.s_axi_awaddr[2:], self.s_axi_wdata, self.s_axi_wstrb
        taken = _take(m, self.s_axi_awvalid & self.s_axi_wvalid, self.s_axi_awready, self.s_axi_bvalid)
        refused = Signal()
        m.d.comb += [self.s_axi_wready.eq(self.s_axi_awready), to_machine.w_data.eq(word[:8]), refused.eq(1)]
        with m.If(at == DATA_AT >> 2):
            m.d.comb += [refused.eq(~to_machine.w_rdy | ~strobes[0]), to_machine.w_en.eq(taken & strobes[0])]
        low_bits, high_bits = (BOUNDARY - 1).bit_length(), AXI_ADDRESS_BITS - 32
        for index in range(self.ports):
            base = self.bases.word_select(index, AXI_ADDRESS_BITS)
            parts = (base[:32], word[:low_bits]), (base[32:], word[high_bits:])  # (register, bits that must be 0)
            for number, (part, rest) in enumerate(parts):
                with m.If(at == (BASE_AT + 8 * index + 4 * number) >> 2):
                    m.d.comb += refused.eq(rest.any() | ~strobes.all())
                    with m.If(taken & ~refused):
                        m.d.sync += part.eq(word)
        with m.If(taken):
            m.d.sync += self.s_axi_bresp.eq(Mux(refused, SLVERR, OKAY))
        _answer(m, taken, self.s_axi_bvalid, self.s_axi_bready)

    def _add_reads(self, m: Module, to_machine: SyncFIFOBuffered, to_host: SyncFIFOBuffered) -> None:
        taken = _take(m, self.s_axi_arvalid, self.s_axi_arready, self.s_axi_rvalid)
        word, known, room = Signal(32), Signal(), Signal(16)
        m.d.comb += [known.eq(1), room.eq(FIFO_BYTES - to_machine.level)]
        with m.Switch(self.s_axi_araddr[2:]):
            with m.Case(NAME_AT >> 2):
                m.d.comb += word.eq(NAME)
            with m.Case(STATUS_AT >> 2):
                m.d.comb += word.eq(Cat(room, to_host.level))
            with m.Case(DATA_AT >> 2):
                m.d.comb += [word.eq(to_host.r_data | Mux(to_host.r_rdy, HAS_BYTE, 0)), to_host.r_en.eq(taken)]
            with m.Case(BUS_ERRORS_AT >> 2):
                m.d.comb += word.eq(self.bus_errors)
            with m.Case(PORTS_AT >> 2):
                m.d.comb += word.eq(self.ports)
            for index in range(self.ports):
                base = self.bases.word_select(index, AXI_ADDRESS_BITS)
                with m.Case((BASE_AT + 8 * index) >> 2):
                    m.d.comb += word.eq(base[:32])
                with m.Case((BASE_AT + 8 * index + 4) >> 2):
                    m.d.comb += word.eq(base[32:])
            with m.Default():
                m.d.comb += known.eq(0)
        with m.If(taken):
            m.d.sync += [self.s_axi_rdata.eq(word), self.s_axi_rresp.eq(Mux(known, OKAY, SLVERR))]
        _answer(m, taken, self.s_axi_rvalid, self.s_axi_rready)


def _take(m: Module, offered: Value, ready: Signal, answers: Signal) -> Value:
    """Set READY one cycle after ``offered`` if no answer waits. Return whether the offered request is accepted in this
    cycle."""
    m.d.sync += ready.eq(offered & ~ready & ~answers)
    return offered & ready


def _answer(m: Module, taken: Value, valid: Signal, ready: Value) -> None:
    """Set VALID of the answer in the cycle after the request was accepted, and clear VALID after READY."""
    with m.If(taken):
        m.d.sync += valid.eq(1)
    with m.Elif(ready):
        m.d.sync += valid.eq(0)


__all__ = ["AxiControl", "control_members"]
