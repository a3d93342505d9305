# amaranth: UnusedElaboratable=no
# If the simulation is in the cache, its component is created but never elaborated, because only its ports are read.
"""A bench with many pairs of a DDR3 controller and a DDR3 part. The part of a pair checks other timings than its
controller obeys, or the commands are damaged on the way.

for each pair:  Ddr3Traffic ─► Ddr3Controller (timings ours) ─ DFI, or damaged DFI ─► Ddr3Model (theirs) ─► error
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutern.hw.memory import Ddr3Controller, Ddr3Timings
from lutern.hw.memory.dfi import Dfi
from lutern.hw.memory.word_source import SourceShape, WordPort
from lutern.sim.ddr3 import COMMAND_PINS, OUTPUTS, Ddr3Model

Damage = Callable[[Module, Any, Any], None]
"""A function (m, sent, arrives). It adds statements to ``m`` that make ``arrives`` differ from ``sent`` for some
commands."""


@dataclass(frozen=True)
class Pair:
    """A controller that obeys the timings ``ours``, and a part that checks the timings ``theirs``."""

    ours: Ddr3Timings
    theirs: Ddr3Timings
    damage: Damage | None = None


class Ddr3Traffic(wiring.Component):
    """Offers random jobs, and shows the address of the next job at ``ahead``. The jobs are reads and writes, mostly of
    one word. The bank of a job is the next bank, the bank of the previous job or a random bank.

    Members: ``port``.
    """

    def __init__(self, shape: SourceShape, timings: Ddr3Timings) -> None:
        self.shape, self.timings = shape, timings
        super().__init__({"port": Out(WordPort(shape))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, port, layout = self.timings, self.port, self.shape.job
        x = Signal(64, init=0x2545F4914F6CDD1D)
        a, b = Signal(64), Signal(64)  # xorshift by Marsaglia
        m.d.comb += [a.eq(x ^ (x << 13)[:64]), b.eq(a ^ (a >> 7))]
        m.d.sync += x.eq(b ^ (b << 17)[:64])
        this, following, turn = Signal(layout), Signal(layout), Signal(16)
        bank, jobs_bank = Signal(t.bank_bits), following.address[t.page_bits :][: t.bank_bits]
        with m.Switch(turn[5:7]):
            with m.Case(0):
                m.d.comb += bank.eq(jobs_bank + 1)
            with m.Case(1):
                m.d.comb += bank.eq(jobs_bank)
            with m.Default():
                m.d.comb += bank.eq(x[8:])
        # A job must end within its block of words, so a job starts at the block's first word.
        length = Mux(x[0:3] == 0, 1 + x[3:6], 1)
        m.d.comb += [port.job.valid.eq(turn > 1), port.job.payload.eq(this), port.ahead.eq(following.address)]
        with m.If((turn <= 1) | port.job.ready):
            m.d.sync += [
                turn.eq(turn + 1 | (turn[15] << 15)),
                this.eq(following),
                following.write.eq(x[16:18] == 0),
                following.length.eq(length),
                following.word.eq(x),
                following.address[: t.page_bits].eq(0),
                following.address[t.page_bits :][: t.bank_bits].eq(bank),
                following.address[t.page_bits + t.bank_bits :].eq(x[24:]),
            ]
        return m


class Ddr3Mutants(wiring.Component):
    """All pairs in one bench. ``errors`` contains the first broken rule of each pair."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)
        super().__init__({"errors": Out(5).array(len(self.pairs))})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for number, pair in enumerate(self.pairs):
            t = pair.ours
            controller = Ddr3Controller(t)
            traffic = Ddr3Traffic(controller.shape, t)
            wires = Dfi(t.bank_bits, t.pin_address_bits, t.word_bits).create(path=(f"dfi_{number}",))
            model = Ddr3Model(wires, pair.theirs, "sync")
            for name, part in (("controller", controller), ("traffic", traffic), ("model", model)):
                m.submodules[f"{name}_{number}"] = part
            wiring.connect(m, traffic.port, controller.port)
            m.d.comb += [getattr(wires, name).eq(getattr(controller.dfi, name)) for name in OUTPUTS]
            m.d.comb += [controller.dfi.rddata.eq(wires.rddata), self.errors[number].eq(model.error)]
            for sent, arrives in ((controller.dfi.p0, wires.p0), (controller.dfi.p1, wires.p1)):
                m.d.comb += [getattr(arrives, name).eq(getattr(sent, name)) for name in COMMAND_PINS]
                if pair.damage is not None:
                    pair.damage(m, sent, arrives)
        return m


__all__ = ["Ddr3Mutants", "Ddr3Traffic", "Pair"]
