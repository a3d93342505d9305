"""DFI, the interface between a controller and the PHY of a DRAM, with two clocks of the part per cycle.

    controller ─► p0, p1 (one command for each phase) ──► PHY ─► pins
               ─► wrdata, the write latency later ──────►
               ◄─ rddata, the read latency later ────────

A word is a whole burst. All its DDR3 beats are transferred in one cycle, with beat 0 in the lowest bits. ``wrdata_en``
and ``rddata_en`` are 1 in the cycle of the command. Reference: DDR PHY Interface specification 3.1, frequency ratio
1:2.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.dram_rows import NOP


class DfiCommand(wiring.Signature):
    """A command slot, with directions as seen from the controller.

    Members
    -------
    cs_n : 1 bit, output
        1 if there is no command.
    ras_n, cas_n, we_n : 1 bit, output
        The command.
    ba : ``bank_bits``, output
        Bank.
    a : ``pin_address_bits``, output
        Address.
    """

    def __init__(self, bank_bits: int, pin_address_bits: int) -> None:
        super().__init__(
            {
                "cs_n": Out(1),
                **{name: Out(1) for name in ("ras_n", "cas_n", "we_n")},
                "ba": Out(bank_bits),
                "a": Out(pin_address_bits),
            }
        )


class Dfi(wiring.Signature):
    """The whole interface, with directions as seen from the controller.

    Members
    -------
    p0, p1 : ``DfiCommand``, output
        The commands of DFI phases 0 and 1.
    reset_n, cke, odt : 1 bit, output
        Levels of these pins.
    wrdata_en : 1 bit, output
        A WRITE is sent.
    rddata_en : 1 bit, output
        A READ is sent.
    wrdata : ``word_bits``, output
        The word of a WRITE, the write latency after the command.
    rddata : ``word_bits``, input
        The word of a READ, the read latency after the command.
    """

    def __init__(self, bank_bits: int, pin_address_bits: int, word_bits: int) -> None:
        command = DfiCommand(bank_bits, pin_address_bits)
        super().__init__(
            {
                "p0": Out(command),
                "p1": Out(command),
                **{name: Out(1) for name in ("reset_n", "cke", "odt", "wrdata_en", "rddata_en")},
                "wrdata": Out(word_bits),
                "rddata": In(word_bits),
            }
        )


class CommandSlot:
    """Adds the registers of one DFI phase. The registers contain a command in the cycle after `give`, and NOP in all
    other cycles.

    Parameters
    ----------
    m : Module
        The module to which the registers are added.
    pins : ``DfiCommand``
        The outputs of the registers.
    name : str
        Prefix of the registers' names.
    """

    def __init__(self, m: Module, pins: wiring.PureInterface, name: str) -> None:
        self._m = m
        self._code = Signal(3, init=NOP, name=f"{name}_code")
        self._cs_n = Signal(init=1, name=f"{name}_cs_n")
        self._ba, self._a = Signal.like(pins.ba, name=f"{name}_ba"), Signal.like(pins.a, name=f"{name}_a")
        m.d.comb += [
            Cat(pins.ras_n, pins.cas_n, pins.we_n).eq(self._code),
            pins.cs_n.eq(self._cs_n),
            pins.ba.eq(self._ba),
            pins.a.eq(self._a),
        ]
        m.d.sync += [self._cs_n.eq(1), self._code.eq(NOP)]

    def give(self, code: Value | int, bank: Value | int = 0, address: Value | int = 0) -> None:
        """Put a command into the slot in the next cycle.

        Parameters
        ----------
        code : Value | int
            ras_n, cas_n and we_n, from bit 0.
        bank, address : Value | int
            The pins ba and a.
        """
        self._m.d.sync += [self._cs_n.eq(0), self._code.eq(code), self._ba.eq(bank), self._a.eq(address)]


__all__ = ["CommandSlot", "Dfi", "DfiCommand"]
