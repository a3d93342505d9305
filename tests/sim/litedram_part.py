"""Writes modules of LiteDRAM as Verilog. A Python installation that contains LiteDRAM must run this program.

    python litedram_part.py '{"name": ..., "clock_hz": ..., "rows": ..., "rfc_ns": ..., ...}' module.v

Without "postponing" the module is a model of a DDR3 part at DFI, with a checker of timings. With "postponing" the
module contains LiteDRAM's own controller of such a part and a reader. The controller executes that many refreshes
together, and the reader reads all words in order and counts them.

This program and the tests work around two faults of the checker. The checker rounds the period of its own clock down to
whole picoseconds, but not the period from which it computes a time in clocks. So a period with a fraction of a
picosecond seems too short for tCCD. ``ck_ns_to_ps`` corrects this. The checker also prints its message about the
refreshes of 64 ms for every late refresh, so the tests ignore these lines of the log.
"""

import json
import sys
from pathlib import Path

from litedram.common import PhySettings
from litedram.core.controller import ControllerSettings, LiteDRAMController
from litedram.core.crossbar import LiteDRAMCrossbar
from litedram.modules import DDR3Module, _SpeedgradeTimings, _TechnologyTimings
from litedram.phy import model
from migen import ClockDomain, If, Module, Signal
from migen.fhdl.verilog import convert


def ck_ns_to_ps(self, value, tck):
    """Return a time in picoseconds, from clocks or nanoseconds. A clock is rounded down to picoseconds, as in the
    checker."""
    clocks, ns = value
    return max((clocks or 0) * int(tck * 1e3), int((ns or 0) * 1e3))


def make_module(given):
    """Return the part's data for LiteDRAM."""

    class Part(DDR3Module):
        nbanks, nrows, ncols = 8, given["rows"], 1024
        technology_timings = _TechnologyTimings(
            tREFI=64e6 / 8192, tWTR=(4, 7.5), tCCD=(4, None), tRRD=(4, given["rrd_ns"]), tZQCS=(64, 80)
        )
        speedgrade_timings = {
            "default": _SpeedgradeTimings(
                tRP=given["rp_ns"],
                tRCD=given["rcd_ns"],
                tWR=given["wr_ns"],
                tRFC=(None, given["rfc_ns"]),
                tFAW=(None, given["faw_ns"]),
                tRAS=given["ras_ns"],
            )
        }

    return Part(given["clock_hz"], "1:2")


class Part(Module):
    """The model of the part."""

    def __init__(self, given, is_checked):
        names = ("rdphase", "wrphase", "cl", "cwl", "read_latency", "write_latency")
        settings = PhySettings(
            phytype="ECP5DDRPHY",
            memtype="DDR3",
            databits=16,
            dfi_databits=64,
            nphases=2,
            **{name: given[name] for name in names},
        )
        self.clock_domains.sys = ClockDomain()
        self.part = make_module(given)
        verbosity = model.SDRAM_VERBOSE_STD if is_checked else model.SDRAM_VERBOSE_OFF
        self.submodules.phy = model.SDRAMPHYModel(
            self.part, settings, clk_freq=given["clock_hz"], we_granularity=0, verbosity=verbosity
        )

    def ports(self):
        """Return the ports of DFI, with the names that DFI gives them."""
        phases = self.phy.dfi.phases
        for number, phase in enumerate(phases):
            for name, _, _ in phase.layout:
                getattr(phase, name).name_override = f"p{number}_{name}"
        return {signal for phase in phases for signal in phase.flatten()}


class Reader(Part):
    """LiteDRAM's controller, the model of the part, and a reader."""

    def __init__(self, given):
        super().__init__(given, is_checked=False)
        part, phy = self.part, self.phy
        settings = ControllerSettings(refresh_postponing=given["postponing"])
        self.submodules.controller = controller = LiteDRAMController(
            phy.settings, part.geom_settings, part.timing_settings, given["clock_hz"], settings
        )
        self.comb += controller.dfi.connect(phy.dfi)
        self.submodules.crossbar = crossbar = LiteDRAMCrossbar(controller.interface)
        port = crossbar.get_port(mode="read")
        self.words, self.cycles, now = Signal(32), Signal(32), Signal(32)
        self.comb += [port.cmd.valid.eq(1), port.cmd.we.eq(0), port.rdata.ready.eq(1)]
        self.sync += [
            now.eq(now + 1),
            If((self.words == 0) & ~port.rdata.valid, now.eq(1)),
            If(port.cmd.ready, port.cmd.addr.eq(port.cmd.addr + 1)),
            If(port.rdata.valid, self.words.eq(self.words + 1), self.cycles.eq(now)),
        ]

    def ports(self):
        """Return the counters."""
        self.words.name_override, self.cycles.name_override = "words", "cycles"
        return {self.words, self.cycles}


def main() -> None:
    model.DFITimingsChecker.ck_ns_to_ps = ck_ns_to_ps
    given = json.loads(sys.argv[1])
    top = Reader(given) if "postponing" in given else Part(given, is_checked=True)
    text = str(convert(top, top.ports() | {top.sys.clk, top.sys.rst}, name=given["name"]))
    Path(sys.argv[2]).write_text(text)


if __name__ == "__main__":
    main()
