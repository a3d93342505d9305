"""The top level: everything between the bytes of the link and the memory.

    rx bytes ─► host port ─► memory ─► readers ─► decoder ─┐
    tx bytes ◄──────┴─────────── tokens, logits, status ◄──┘

Until SETUP the decoder is held in reset, and the memory serves the host; from then on the readers run ahead. A board
adds pins, clocks and the converter from its link to bytes (``SerialTop``: a serial line); the simulated board adds
nothing but the SDRAM.

With memory "sdram" there is a second clock domain, ``memory``, and ``sdram``, the part's pins; one register stands
between each of them and the pin. ``phase_step`` and ``phase_dir`` move the phase of the part's clock
(hw/memory/sdram_phase.py).
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.config import HwConfig
from lutern.hw.decoder import Decoder, taps
from lutern.hw.link import HostPort, Uart
from lutern.hw.memory import PhaseStepper, SdramPins, SdramTimings, any_part, memory_for
from lutern.hw.pipeline import join_streams


def _tap_ports(config: HwConfig) -> dict[str, Any]:
    """The decoder's taps, handed on; none without ``debug_tap``."""
    ports: dict[str, Any] = {}
    for name, bits in taps(config).items() if config.debug_tap else ():
        ports[f"tap_{name}_valid"] = Out(1)
        ports[f"tap_{name}_payload"] = Out(bits)
    return ports


def _sdram_ports(config: HwConfig, timings: SdramTimings) -> dict[str, Any]:
    """The memory part's, if there is one."""
    if config.memory != "sdram":
        return {}
    return {"sdram": Out(SdramPins(timings)), "phase_step": Out(1), "phase_dir": Out(1)}


class Top(wiring.Component):
    """Host port, image memory and decoder.

    Parameters: ``config``; ``timings`` of its memory part, those of ``any_part`` by default.

    Members: ``rx``, ``tx`` bytes of the link; with ``debug_tap`` the decoder's taps; those of the SDRAM.
    """

    def __init__(self, config: HwConfig, timings: SdramTimings | None = None) -> None:
        self.config = config
        self.timings = timings or any_part(config.word_bits)
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                **_tap_ports(config),
                **_sdram_ports(config, self.timings),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.host = host = HostPort(self.config)
        memory: Any = memory_for(self.config, self.timings)
        if self.config.memory == "sdram":
            self._add_sdram(m, host, memory)
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
        if self.config.source == "resident":
            join_streams(m, memory.o_trits, decoder.i_trits)
        join_streams(m, decoder.o_token, host.i_token)
        m.d.comb += [
            memory.setup.eq(host.setup),
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

    def _add_sdram(self, m: Module, host: Any, memory: Any) -> None:
        """What only this memory has: pins, a march test, a phase stepper."""
        m.submodules.phase = phase = PhaseStepper()
        wiring.connect(m, memory.pins, wiring.flipped(self.sdram))
        join_streams(m, host.o_test, memory.i_test)
        join_streams(m, memory.o_test, host.i_test)
        join_streams(m, host.o_phase, phase.i)
        join_streams(m, phase.o, host.i_phase)
        m.d.comb += [self.phase_step.eq(phase.step), self.phase_dir.eq(phase.dir)]


class SerialTop(wiring.Component):
    """``Top`` behind a serial line: the whole chip, for a board that has no other link.

    Parameters: ``config``; ``divisor``, cycles of a bit; ``timings``, see ``Top``. Members: ``rx``, ``tx`` the line;
    ``overrun``, see ``Uart``; with ``debug_tap`` the decoder's taps; those of the SDRAM.
    """

    def __init__(self, config: HwConfig, divisor: int, timings: SdramTimings | None = None) -> None:
        self.config, self.divisor = config, divisor
        self.timings = timings or any_part(config.word_bits)
        super().__init__(
            {
                "rx": In(1, init=1),  # type: ignore[call-arg]
                "tx": Out(1, init=1),  # type: ignore[call-arg]
                "overrun": Out(1),
                **_tap_ports(config),
                **_sdram_ports(config, self.timings),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.uart = uart = Uart(self.divisor)
        m.submodules.top = top = Top(self.config, self.timings)
        if self.config.memory == "sdram":
            wiring.connect(m, top.sdram, wiring.flipped(self.sdram))
            m.d.comb += [self.phase_step.eq(top.phase_step), self.phase_dir.eq(top.phase_dir)]
        join_streams(m, uart.o, top.rx)
        join_streams(m, top.tx, uart.i)
        m.d.comb += [uart.rx.eq(self.rx), self.tx.eq(uart.tx), self.overrun.eq(uart.overrun)]
        m.d.comb += [getattr(self, name).eq(getattr(top, name)) for name in _tap_ports(self.config)]
        return m
