"""PHY of DDR3 on ECP5: the cells between DFI and the pins, and the logic that controls when these cells act.

    commands ──► ODDRX2F ─► DELAYG ─► ck, cke, cs_n, ras_n, ..., a        two commands per cycle, one after the other
    wrdata   ──► half a word per cycle ─► ODDRX2DQA, TSHX2DQA ─► dq
    wrdata_en ─► delay line ──────────► ODDRX2DQSB, TSHX2DQSA ─► dqs      with preamble and postamble
    rddata_en ─► delay line ─► READ ─► DQSBUFM (each byte) ◄─ dqs
    rddata   ◄── slip ◄── IDDRX2DQA ◄─ DELAYG ◄─ dq

Domain `memory` has one cycle for two clocks of the part, `edge` has the part's clock, and `init` is the domain of
`Ddr3Start`. The board ties the part's masks to 0, because only whole words are written. Commands change with the
falling edge of ck. Strobes rise with ck.

The table lists cycles after a command, which is in cycle 0. WL is ceil(CWL / 2), and RL is ceil(CL / 2):

    WRITE   WL              wrdata is valid; dqs drives in the second half of this cycle (preamble)
            WL + 1, WL + 2  cells receive DDR3 beats 0 to 3, then 4 to 7; dqs drives
            WL + 3          dqs drives in the first half of this cycle (postamble)
    READ    RL + 1, RL + 2  input READ of DQSBUFM is 1
            RL + 10         rddata is valid

Cost (x16, CL 6): 391 LUT4 and 4 carry cells, 351 FF, and the cells of the pins.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.memory.ddr3_clocks import Ddr3Start
from lutern.hw.memory.ddr3_levels import LevelSettings
from lutern.hw.memory.ddr3_part import Ddr3Timings
from lutern.hw.memory.dfi import Dfi

GEAR = 4
"""Number of DDR3 beats that a pin transfers in each cycle."""
STROBE = (0, 1, 0, 1)
"""Pattern of ck and dqs in one cycle. Both signals rise in the middle of a command."""
CONTROLS = ("reset_n", "cke", "odt")
COMMANDS = ("cs_n", "ras_n", "cas_n", "we_n", "ba", "a")


class Ddr3Pins(wiring.Signature):
    """The pins of a part, with directions as seen from the PHY.

    Members
    -------
    ck, reset_n, cke, odt, cs_n, ras_n, cas_n, we_n : 1 bit, output
        Clock and controls.
    ba : ``bank_bits``, output
        Bank.
    a : ``pin_address_bits``, output
        Address.
    dq_o, dq_z : ``data_bits``, output
        Data, and a bit for each data pin that is 1 while the part may drive the pin.
    dq_i : ``data_bits``, input
        Data from the part.
    dqs_o, dqs_z : a bit for each byte, output
        Strobes, and a bit for each strobe that is 1 while the part may drive the pin.
    dqs_i : a bit for each byte, input
        Strobes from the part.
    """

    def __init__(self, bank_bits: int, pin_address_bits: int, data_bits: int) -> None:
        byte_count = data_bits // 8
        super().__init__(
            {
                **{name: Out(1) for name in ("ck", *CONTROLS, "cs_n", "ras_n", "cas_n", "we_n")},
                "ba": Out(bank_bits),
                "a": Out(pin_address_bits),
                **{name: Out(data_bits) for name in ("dq_o", "dq_z")},
                "dq_i": In(data_bits),
                **{name: Out(byte_count) for name in ("dqs_o", "dqs_z")},
                "dqs_i": In(byte_count),
            }
        )


class Ddr3Phy(wiring.Component):
    """Connects DFI to the pins of a part.

    Parameters
    ----------
    timings : Ddr3Timings
        The part at its clock.
    command_delay : int
        Delay of ck, commands and addresses, 0 to 127 steps of DELAYG (25 ps each).

    Members
    -------
    dfi : ``Dfi``, input
        Commands and data of the controller.
    levels : ``LevelSettings``, input
        Settings from `Ddr3Levels`.
    pins : ``Ddr3Pins``, output
        The pins.
    stop : 1 bit, output
        ``stop`` of `Ddr3Start`, to `Ddr3Clocks`.
    reset : 1 bit, output
        ``reset`` of `Ddr3Start`, to `Ddr3Clocks`.
    ready : 1 bit, output
        ``ready`` of `Ddr3Start`, to `Ddr3Clocks`.

    Numerics
    --------
    None.

    Latency
    -------
    ceil(CL / 2) + 10 cycles from a READ to ``dfi.rddata``. The PHY reads the word of a WRITE ceil(CWL / 2) cycles after
    the WRITE.

    Reference
    ---------
    Lattice FPGA-TN-02035, ECP5 high-speed I/O interface.
    """

    def __init__(self, timings: Ddr3Timings, command_delay: int = 0) -> None:
        self.timings, self.command_delay = timings, command_delay
        t = timings
        self.byte_count = t.data_bits // 8
        super().__init__(
            {
                "dfi": In(Dfi(t.bank_bits, t.pin_address_bits, t.word_bits)),
                "levels": In(LevelSettings(self.byte_count)),
                "pins": Out(Ddr3Pins(t.bank_bits, t.pin_address_bits, t.data_bits)),
                **{name: Out(1) for name in ("stop", "reset", "ready")},
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.start = start = Ddr3Start()
        m.d.comb += [getattr(self, name).eq(getattr(start, name)) for name in ("stop", "reset", "ready")]
        self._commands(m)
        oe, preamble, postamble, second = self._write_times(m)
        read = self._read_times(m)
        beats = self._write_beats(m, second)
        for byte in range(self.byte_count):
            buffer = self._strobe_buffer(m, byte, start, read)
            self._strobe(m, byte, buffer, oe, preamble, postamble)
            for bit in range(8 * byte, 8 * byte + 8):
                self._data_out(m, bit, buffer, oe, beats[bit])
                self._data_in(m, bit, buffer, self.levels.slip[byte])
        return m

    def _cell(self, m: Module, kind: str, name: str, **ports: Any) -> None:
        """Add a cell and connect the clocks and the reset, which are the same for all cells."""
        clocks = {"i_RST": ResetSignal("memory"), "i_SCLK": ClockSignal("memory"), "i_ECLK": ClockSignal("edge")}
        m.submodules[f"{name}_{kind.lower()}"] = Instance(kind, **clocks, **ports)

    def _output(self, m: Module, name: str, pin: Value, items: tuple[Value | int, ...]) -> None:
        """Add a pin that outputs the ``items`` one after the other, each for half a clock of the part."""
        early = Signal(name=f"{name}_early")
        data = {
            f"i_D{n}": Value.cast(item) if not isinstance(item, int) else Const(item, 1) for n, item in enumerate(items)
        }
        self._cell(m, "ODDRX2F", name, **data, o_Q=early)
        m.submodules[f"{name}_delayg"] = Instance("DELAYG", p_DEL_VALUE=self.command_delay, i_A=early, o_Z=pin)

    def _commands(self, m: Module) -> None:
        dfi, pins = self.dfi, self.pins
        self._output(m, "ck", pins.ck, STROBE)
        for name in CONTROLS:
            self._output(m, name, getattr(pins, name), (getattr(dfi, name),) * GEAR)
        for name in COMMANDS:
            pin, first, second = (Value.cast(getattr(of, name)) for of in (pins, dfi.p0, dfi.p1))
            for bit in range(len(pin)):
                self._output(m, f"{name}_{bit}", pin[bit], (first[bit], first[bit], second[bit], second[bit]))

    def _line(self, m: Module, value: Value, length: int, name: str) -> list[Value]:
        """Return ``value`` and its delayed copies. Item k is k cycles late."""
        line = Signal(length, name=name)
        m.d.memory += line.eq(Cat(value, line))
        return [value, *line]

    def _write_times(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Return four signals: dq is driven, dqs is driven before dq, dqs is driven after dq, the second half of the
        word is sent."""
        first = self.timings.write_latency + 1
        later = self._line(m, self.dfi.wrdata_en, first + 2, "write_line")
        oe = later[first] | later[first + 1]
        return oe, later[first - 1] & ~later[first], later[first + 2] & ~later[first + 1], later[first]

    def _read_times(self, m: Module) -> Value:
        """Return the input READ of DQSBUFM, which is 1 in the two cycles of a burst."""
        first = (self.timings.cl + 1) // 2 + 1
        later = self._line(m, self.dfi.rddata_en, first + 1, "read_line")
        return later[first] | later[first + 1]

    def _write_beats(self, m: Module, second: Value) -> list[Value]:
        """Return four DDR3 beats of each data pin.

        In one cycle these beats are the first half of a word, and in the next cycle the second half.
        """
        width = self.timings.data_bits
        half = GEAR * width
        rest, now = Signal(half), Signal(half)
        m.d.memory += [rest.eq(self.dfi.wrdata[half:]), now.eq(Mux(second, rest, self.dfi.wrdata[:half]))]
        return [now[bit::width] for bit in range(width)]

    def _strobe_buffer(self, m: Module, byte: int, start: Ddr3Start, read: Value) -> dict[str, Value]:
        """Add DQSBUFM of a byte. Return its clocks and pointers, by the names of the ports of the data cells.

        LOADN is low, so DQSBUFM uses the delay code of the DLL.
        """
        buffer: dict[str, Value] = {
            name: Signal(name=f"{name.lower()}_{byte}") for name in ("DQSR90", "DQSW", "DQSW270")
        }
        pointers = {name: Signal(3, name=f"{name.lower()}_{byte}") for name in ("RDPNTR", "WRPNTR")}
        buffer |= {f"{name}{n}": pointer[n] for name, pointer in pointers.items() for n in range(3)}
        burst, last_burst, seen = (Signal(name=f"{name}_{byte}") for name in ("burst", "last_burst", "seen"))
        delay = Value.cast(self.levels.delay[byte])
        low, high = Const(0, 1), Const(1, 1)
        self._cell(
            m,
            "DQSBUFM",
            f"byte_{byte}",
            p_DQS_LI_DEL_ADJ="MINUS",
            p_DQS_LI_DEL_VAL=1,
            p_DQS_LO_DEL_ADJ="MINUS",
            p_DQS_LO_DEL_VAL=4,
            i_DDRDEL=start.delay,
            i_PAUSE=start.pause | self.levels.pause[byte],
            **{f"i_{side}{name}": value for side in ("RD", "WR") for name, value in (("LOADN", low), ("MOVE", low))},
            **{f"i_{side}DIRECTION": high for side in ("RD", "WR")},
            i_READ0=read,
            i_READ1=read,
            **{f"i_READCLKSEL{n}": delay[n] for n in range(3)},
            i_DQSI=self.pins.dqs_i[byte],
            **{f"o_{name}": value for name, value in buffer.items()},
            o_BURSTDET=burst,
        )
        m.d.comb += self.levels.burst_seen[byte].eq(seen)
        m.d.memory += last_burst.eq(burst)
        with m.If(burst & ~last_burst):
            m.d.memory += seen.eq(1)
        with m.Elif(self.levels.clear):
            m.d.memory += seen.eq(0)
        return buffer

    def _strobe(self, m: Module, byte: int, buffer: dict[str, Value], oe: Value, before: Value, after: Value) -> None:
        """Add the strobe, which drives its pin from half a cycle before the data until half a cycle after the data."""
        items = {f"i_D{n}": Const(level, 1) for n, level in enumerate(STROBE)}
        clock = buffer["DQSW"]
        self._cell(m, "ODDRX2DQSB", f"dqs_{byte}", **items, i_DQSW=clock, o_Q=self.pins.dqs_o[byte])
        self._cell(
            m,
            "TSHX2DQSA",
            f"dqs_{byte}",
            i_T0=~(oe | after),
            i_T1=~(oe | before),
            i_DQSW=clock,
            o_Q=self.pins.dqs_z[byte],
        )

    def _data_out(self, m: Module, bit: int, buffer: dict[str, Value], oe: Value, beats: Value) -> None:
        clock = buffer["DQSW270"]
        items = {f"i_D{n}": beats[n] for n in range(GEAR)}
        self._cell(m, "ODDRX2DQA", f"dq_{bit}", **items, i_DQSW270=clock, o_Q=self.pins.dq_o[bit])
        self._cell(m, "TSHX2DQA", f"dq_{bit}", i_T0=~oe, i_T1=~oe, i_DQSW270=clock, o_Q=self.pins.dq_z[bit])

    def _data_in(self, m: Module, bit: int, buffer: dict[str, Value], slip: Value) -> None:
        """Add a data input. ``slip`` selects half a word from the DDR3 beats of two cycles, and a register keeps the
        previous half."""
        late = Signal(name=f"dq_{bit}_late")
        beats, kept, half, last = (
            Signal(bits, name=f"dq_{bit}_{name}", reset_less=name == "kept")
            for name, bits in (("beats", GEAR), ("kept", 2 * GEAR), ("half", GEAR), ("last", GEAR))
        )
        m.submodules[f"dq_{bit}_delayg"] = Instance(
            "DELAYG", p_DEL_MODE="DQS_ALIGNED_X2", i_A=self.pins.dq_i[bit], o_Z=late
        )
        pointers = {f"i_{name}": value for name, value in buffer.items() if "PNTR" in name}
        outputs = {f"o_Q{n}": beats[n] for n in range(GEAR)}
        self._cell(m, "IDDRX2DQA", f"dq_{bit}", i_D=late, i_DQSR90=buffer["DQSR90"], **pointers, **outputs)
        m.d.memory += [kept.eq(Cat(kept[GEAR:], beats)), last.eq(half)]
        m.d.comb += half.eq(kept.bit_select(slip, GEAR))
        width = self.timings.data_bits
        m.d.comb += Cat(self.dfi.rddata[bit::width]).eq(Cat(last, half))


__all__ = ["Ddr3Phy", "Ddr3Pins"]
