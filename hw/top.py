"""The top level joins all blocks between the bytes of the link and the memory.

    rx bytes ─► host port ─► memory ─► readers ─► decoder ─┐
    tx bytes ◄──────┴─────────── tokens, logits, status ◄──┘

Until SETUP, the decoder is held in reset and the memory serves the host. After SETUP, the readers of the memory read
words ahead of the decoder. A board adds pins, clocks, and a converter between its link and bytes. ``SerialTop``
contains the converter for a serial line. The simulated board adds only the DRAM.

The kind of memory decides which further ports and clock domains the top level has:

- "sdram": a second clock domain ``memory``, and the pins ``sdram``, with one register at each pin. ``phase_step`` and
  ``phase_dir`` move the phase of the DRAM's clock (hw/memory/sdram_phase.py).
- "ddr3": the clock domain ``memory`` at half the clock of the DRAM. ``dfi`` connects to the PHY of the DRAM, and
  ``levels`` are the settings of the PHY (hw/memory/ddr3_levels.py).
- "port": the clock domain ``memory``, and ``words``, the port for the user's word source (hw/memory/word_source.py).
- "axi": the AXI4 masters ``m_axi0_*``, ``m_axi1_*`` and so on, in the single clock domain (hw/memory/axi.py).
  ``AxiTop`` adds the control by a processor.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import OUTSIDE, HwConfig
from lutern.hw.decoder import Decoder, taps
from lutern.hw.layouts import NARROW_ITEM_BITS, takes_narrow_rows
from lutern.hw.link import AxiControl, HostPort, Uart, control_members
from lutern.hw.memory import (
    Ddr3Timings,
    Dfi,
    HostLevels,
    LevelSettings,
    PhaseStepper,
    SdramPins,
    Timings,
    WordPort,
    bus_members,
    connect_member,
    has_word_source,
    memory_for,
    source_shape,
    timings_for,
)
from lutern.hw.pipeline import join_streams
from lutern.hw.protocol import level_bytes


def _tap_ports(config: HwConfig) -> dict[str, Any]:
    """Return the ports of the decoder's taps, or no ports without ``debug_tap``."""
    ports: dict[str, Any] = {}
    for name, bits in taps(config).items() if config.debug_tap else ():
        ports[f"tap_{name}_valid"] = Out(1)
        ports[f"tap_{name}_payload"] = Out(bits)
    return ports


def _memory_ports(config: HwConfig, timings: Timings | None) -> dict[str, Any]:
    """Return the ports of a memory outside the chip, or no ports for a memory inside the chip."""
    if isinstance(timings, Ddr3Timings):
        dfi = Dfi(timings.bank_bits, timings.pin_address_bits, timings.word_bits)
        return {"dfi": Out(dfi), "levels": Out(LevelSettings(level_bytes(config)))}
    if timings is not None:
        return {"sdram": Out(SdramPins(timings)), "phase_step": Out(1), "phase_dir": Out(1)}
    if config.memory == "axi":
        return bus_members(config.memory_ports, config.word_bits // config.memory_ports)
    shape = source_shape(config)
    return {} if shape is None else {"words": Out(WordPort(shape))}


class Top(wiring.Component):
    """Joins host port, memory and decoder.

    The attribute ``source_shape`` is the shape of the word source at the port or bus, or None without a word source.

    Parameters
    ----------
    config : HwConfig
        The machine.
    timings : Timings, optional
        Timings of the DRAM. The default is ``timings_for(config)``.

    Members
    -------
    rx : stream of 8 bits, input
        Bytes from the host.
    tx : stream of 8 bits, output
        Bytes to the host.
    tap_h_valid : 1 bit, output, ``debug_tap``
        A beat of h is written in this cycle.
    tap_h_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of h. The 8 bits above the values name the stream.
    tap_s_valid : 1 bit, output, ``debug_tap``
        A beat of the new S is written in this cycle.
    tap_s_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of S. The 8 bits above the values name the stream.
    tap_codes_valid : 1 bit, output, ``debug_tap``
        A beat of codes is written in this cycle.
    tap_codes_payload : Q values of 8 bits and 8 bits, output, ``debug_tap``
        The codes. The 8 bits above the values name the stream.
    bases : 40 bits for each AXI4 master, input, memory "axi"
        The address at which the words of each master begin, see `AxiSource`.
    bus_errors : 16 bits, output, memory "axi"
        Transactions that the bus refused.
    m_axi* : AXI4 masters, input and output, memory "axi"
        The memory of words.
    sdram : ``memory.SdramPins``, output, memory "sdram"
        The pins of the DRAM.
    phase_step : 1 bit, output, memory "sdram"
        Moves the phase of the DRAM's clock by one step.
    phase_dir : 1 bit, output, memory "sdram"
        The direction of the step.
    dfi : ``memory.Dfi``, output, memory "ddr3"
        Commands and words for the PHY.
    levels : ``memory.LevelSettings``, output, memory "ddr3"
        The read leveling of the PHY.
    words : ``memory.WordPort``, output, memory "port"
        The port for the user's word source.

    Numerics
    --------
    Equal to ``model_ref.model``, bit for bit.

    Latency
    -------
    ``measure.cycles`` computes the cycles of a token.

    Reference
    ---------
    hw/protocol.py; ``model_ref.model``.
    """

    def __init__(self, config: HwConfig, timings: Timings | None = None) -> None:
        self.config = config
        self.timings = timings or timings_for(config)
        self.source_shape = source_shape(config)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                **_tap_ports(config),
                **_memory_ports(config, self.timings),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.host = host = HostPort(self.config)
        memory: Any = memory_for(self.config, self.timings)
        if has_word_source(self.config):
            self._add_word_memory(m, host, memory)
        if self.config.memory == "host":
            join_streams(m, host.o_host, memory.i_host)
            join_streams(m, memory.o_want, host.i_want)
        m.submodules.memory = memory
        decoder = Decoder(self.config)
        m.submodules.decoder = ResetInserter(host.stopped)(decoder)
        join_streams(m, self.rx, host.i_rx)
        join_streams(m, host.o_tx, self.tx)
        join_streams(m, host.o_write, memory.i_write)
        join_streams(m, host.o_read, memory.i_read)
        join_streams(m, memory.o_read, host.i_read)
        join_streams(m, host.o_feed, decoder.i_feed)
        join_streams(m, host.o_run, decoder.i_run)
        join_streams(m, decoder.o_start, memory.i_start)
        join_streams(m, memory.o_words, decoder.i_words)
        join_streams(m, memory.o_row, decoder.i_row)
        if self.config.state == "memory":
            join_streams(m, decoder.o_state, memory.i_state)
            join_streams(m, memory.o_state, decoder.i_state)
        if self.config.source == "resident":
            join_streams(m, memory.o_trits, decoder.i_trits)
        if takes_narrow_rows(self.config):
            m.d.comb += decoder.narrow_rows.eq(host.setup.embedding_bits == NARROW_ITEM_BITS)
        join_streams(m, decoder.o_token, host.i_token)
        m.d.comb += [
            memory.setup.eq(host.setup),
            decoder.setup.eq(host.setup),
            host.damage.eq(decoder.damage),
            memory.running.eq(host.running),
            decoder.vocab.eq(host.setup.vocab),
            host.status.eq(decoder.status),
            decoder.logits_stream.eq(host.logits_stream),
            decoder.logits_address.eq(host.logits_address),
            host.scale.eq(decoder.scale),
            host.logits_data.eq(decoder.logits_data),
        ]
        if self.config.counters:
            m.d.comb += [
                decoder.counters_address.eq(host.counters_address),
                host.counters_data.eq(decoder.counters_data),
                host.counted.eq(decoder.counted),
            ]
        m.d.comb += [getattr(self, name).eq(getattr(decoder, name)) for name in _tap_ports(self.config)]
        return m

    def _add_word_memory(self, m: Module, host: Any, memory: Any) -> None:
        """Connect the blocks that only a memory outside the chip needs: its source, a march test, a phase stepper for
        SDRAM, and leveling for DDR3."""
        m.d.comb += host.fault.eq(memory.fault)
        for theirs, ours in (("pins", "sdram"), ("dfi", "dfi"), ("words", "words")):
            if theirs in memory.signature.members:
                wiring.connect(m, getattr(memory, theirs), wiring.flipped(getattr(self, ours)))
        if self.config.memory == "axi":
            for name in _memory_ports(self.config, None):
                connect_member(m, self, memory, name)
        if self.config.memory in OUTSIDE:
            join_streams(m, host.o_test, memory.i_test)
            join_streams(m, memory.o_test, host.i_test)
        if self.config.memory == "ddr3":
            m.submodules.levels = levels = HostLevels(level_bytes(self.config))
            join_streams(m, host.o_level, levels.i)
            join_streams(m, levels.o, host.i_level)
            wiring.connect(m, levels.settings, wiring.flipped(self.levels))
        if self.config.memory == "sdram":
            m.submodules.phase = phase = PhaseStepper()
            join_streams(m, host.o_phase, phase.i)
            join_streams(m, phase.o, host.i_phase)
            m.d.comb += [self.phase_step.eq(phase.step), self.phase_dir.eq(phase.dir)]


class SerialTop(wiring.Component):
    """Adds a serial line to ``Top``. The result is the whole chip of a board that has no other link.

    The attribute ``source_shape`` is the shape of the word source at the port or bus, or None without a word source.

    Parameters
    ----------
    config : HwConfig
        The machine.
    divisor : int
        Clock cycles per bit of the line.
    timings : Timings, optional
        Timings of the DRAM. The default is ``timings_for(config)``.

    Members
    -------
    rx : 1 bit, input
        The line from the host, 1 when idle.
    tx : 1 bit, output
        The line to the host, 1 when idle.
    overrun : 1 bit, output
        Is 1 from the first byte that was lost until a reset.
    tap_h_valid : 1 bit, output, ``debug_tap``
        A beat of h is written in this cycle.
    tap_h_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of h. The 8 bits above the values name the stream.
    tap_s_valid : 1 bit, output, ``debug_tap``
        A beat of the new S is written in this cycle.
    tap_s_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of S. The 8 bits above the values name the stream.
    tap_codes_valid : 1 bit, output, ``debug_tap``
        A beat of codes is written in this cycle.
    tap_codes_payload : Q values of 8 bits and 8 bits, output, ``debug_tap``
        The codes. The 8 bits above the values name the stream.
    bases : 40 bits for each AXI4 master, input, memory "axi"
        The address at which the words of each master begin, see `AxiSource`.
    bus_errors : 16 bits, output, memory "axi"
        Transactions that the bus refused.
    m_axi* : AXI4 masters, input and output, memory "axi"
        The memory of words.
    sdram : ``memory.SdramPins``, output, memory "sdram"
        The pins of the DRAM.
    phase_step : 1 bit, output, memory "sdram"
        Moves the phase of the DRAM's clock by one step.
    phase_dir : 1 bit, output, memory "sdram"
        The direction of the step.
    dfi : ``memory.Dfi``, output, memory "ddr3"
        Commands and words for the PHY.
    levels : ``memory.LevelSettings``, output, memory "ddr3"
        The read leveling of the PHY.
    words : ``memory.WordPort``, output, memory "port"
        The port for the user's word source.

    Numerics
    --------
    Equal to ``model_ref.model``, bit for bit.

    Latency
    -------
    The latency of ``Top``, and for each byte the latency of ``Uart``.

    Reference
    ---------
    ``Top``.
    """

    def __init__(self, config: HwConfig, divisor: int, timings: Timings | None = None) -> None:
        self.config, self.divisor = config, divisor
        self.timings = timings or timings_for(config)
        self.source_shape = source_shape(config)
        super().__init__(
            {
                "rx": In(1, init=1),  # type: ignore[call-arg]
                "tx": Out(1, init=1),  # type: ignore[call-arg]
                "overrun": Out(1),
                **_tap_ports(config),
                **_memory_ports(config, self.timings),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.uart = uart = Uart(self.divisor)
        m.submodules.top = top = Top(self.config, self.timings)
        for name in _memory_ports(self.config, self.timings):
            connect_member(m, self, top, name)
        join_streams(m, uart.o, top.rx)
        join_streams(m, top.tx, uart.i)
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx), self.overrun.eq(uart.overrun)]
        m.d.comb += [getattr(self, name).eq(getattr(top, name)) for name in _tap_ports(self.config)]
        return m


class AxiTop(wiring.Component):
    """Adds AXI4-Lite control to ``Top``, for a system with a processor and one clock.

    The attribute ``source_shape`` is the shape of the word source at the port or bus, or None without a word source.

    Parameters
    ----------
    config : HwConfig
        A machine with memory "axi".

    Members
    -------
    s_axi_* : AXI4-Lite slave of 32 bits, input and output
        The control by the processor, see hw/link/axi_lite.py.
    m_axi* : AXI4 masters, input and output
        The memory of words.
    tap_h_valid : 1 bit, output, ``debug_tap``
        A beat of h is written in this cycle.
    tap_h_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of h. The 8 bits above the values name the stream.
    tap_s_valid : 1 bit, output, ``debug_tap``
        A beat of the new S is written in this cycle.
    tap_s_payload : P values of 32 bits and 8 bits, output, ``debug_tap``
        The values of S. The 8 bits above the values name the stream.
    tap_codes_valid : 1 bit, output, ``debug_tap``
        A beat of codes is written in this cycle.
    tap_codes_payload : Q values of 8 bits and 8 bits, output, ``debug_tap``
        The codes. The 8 bits above the values name the stream.

    Numerics
    --------
    Equal to ``model_ref.model``, bit for bit.

    Latency
    -------
    The latency of ``Top``.

    Reference
    ---------
    hw/axi_registers.py; ``Top``.
    """

    def __init__(self, config: HwConfig) -> None:
        self.config = config
        self._masters = {
            name: member for name, member in _memory_ports(config, None).items() if name.startswith("m_axi")
        }
        self.source_shape = source_shape(config)
        super().__init__({**control_members(), **self._masters, **_tap_ports(config)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.control = control = AxiControl(self.config.memory_ports)
        m.submodules.top = top = Top(self.config)
        join_streams(m, control.o, top.rx)
        join_streams(m, top.tx, control.i)
        m.d.comb += [top.bases.eq(control.bases), control.bus_errors.eq(top.bus_errors)]
        for name in control_members():
            connect_member(m, self, control, name)
        for name in self._masters:
            connect_member(m, self, top, name)
        m.d.comb += [getattr(self, name).eq(getattr(top, name)) for name in _tap_ports(self.config)]
        return m
