"""The top level: everything between the bytes of the link and the memory.

    rx bytes ─► host port ─► memory ─► readers ─► decoder ─┐
    tx bytes ◄──────┴─────────── tokens, logits, status ◄──┘

Until SETUP the decoder is held in reset, and the memory serves the host; from then on the readers run ahead. A board
adds pins, clocks and the converter from its link to bytes (``SerialTop``: a serial line); the simulated board adds
nothing but the DRAM.

With memory "sdram" there is a second clock domain, ``memory``, and ``sdram``, the part's pins; one register stands
between each of them and the pin. ``phase_step`` and ``phase_dir`` move the phase of the part's clock
(hw/memory/sdram_phase.py). With memory "ddr3" that domain has half the part's clock, ``dfi`` goes to the PHY of the
part, and ``levels`` are the PHY's settings (hw/memory/ddr3_levels.py). With memory "port" that domain is there, too,
and ``words``, the port to a word source of the user's (hw/memory/word_source.py). With memory "axi" there are AXI4
masters, ``m_axi0_*`` ..., in the one clock domain (hw/memory/axi.py); ``AxiTop`` adds the control of a processor.
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
    """The decoder's taps, handed on; none without ``debug_tap``."""
    ports: dict[str, Any] = {}
    for name, bits in taps(config).items() if config.debug_tap else ():
        ports[f"tap_{name}_valid"] = Out(1)
        ports[f"tap_{name}_payload"] = Out(bits)
    return ports


def _memory_ports(config: HwConfig, timings: Timings | None) -> dict[str, Any]:
    """Those of a memory outside the chip, if there is one."""
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
    """Host port, image memory and decoder.

    Parameters: ``config``; ``timings`` of its DRAM part, those of ``timings_for`` by default.

    Members: ``rx``, ``tx`` bytes of the link; with ``debug_tap`` the decoder's taps; those of the memory outside.
    ``source_shape``: of the word source at ``words``, None without it.
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
        m.submodules.decoder = ResetInserter(~host.running)(decoder)
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
        """What only this memory has: a source, a march test, for an SDRAM a phase stepper, for DDR3 its leveling."""
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
    """``Top`` behind a serial line: the whole chip, for a board that has no other link.

    Parameters: ``config``; ``divisor``, cycles of a bit; ``timings``, see ``Top``. Members: ``rx``, ``tx`` the line;
    ``overrun``, see ``Uart``; with ``debug_tap`` the decoder's taps; those of the memory outside.
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
    """``Top`` in a system with a processor: control over AXI4-Lite, words over AXI4, one clock.

    Parameters: ``config`` with memory "axi". Members: ``s_axi_*`` (hw/link/axi_lite.py); ``m_axi0_*`` ...; with
    ``debug_tap`` the decoder's taps.
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
