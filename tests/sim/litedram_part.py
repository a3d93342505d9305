"""Writes LiteDRAM's model of a DDR3 part, with its checker of timings, as Verilog: run by a Python that has LiteDRAM.

    python litedram_part.py '{"clock_hz": ..., "rows": ..., "rfc_ns": ..., ...}' part.v

Two faults of the checker are mended: it cuts a time given in clocks to picoseconds after the product, but its clock
before, so that any clock that is no whole number of picoseconds is too fast for tCCD; and its claim about the refreshes
of 64 ms is true of every late refresh, so the reader of the log leaves these lines out.
"""

import json
import sys
from pathlib import Path

from litedram.common import PhySettings
from litedram.modules import DDR3Module, _SpeedgradeTimings, _TechnologyTimings
from litedram.phy import model
from migen import ClockDomain, Module
from migen.fhdl.verilog import convert


def ck_ns_to_ps(self, value, tck):
    """A time of so many clocks or nanoseconds, in picoseconds of clocks that are cut as the checker's own."""
    clocks, ns = value
    return max((clocks or 0) * int(tck * 1e3), int((ns or 0) * 1e3))


class Top(Module):
    """The model in a clock domain of its own."""

    def __init__(self, given):
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
        part = Part(given["clock_hz"], "1:2")
        self.submodules.phy = model.SDRAMPHYModel(
            part, settings, clk_freq=given["clock_hz"], we_granularity=0, verbosity=model.SDRAM_VERBOSE_STD
        )


def main() -> None:
    model.DFITimingsChecker.ck_ns_to_ps = ck_ns_to_ps
    top = Top(json.loads(sys.argv[1]))
    ports = {signal for phase in top.phy.dfi.phases for signal in phase.flatten()}
    for number, phase in enumerate(top.phy.dfi.phases):
        for name, _, _ in phase.layout:
            getattr(phase, name).name_override = f"p{number}_{name}"
    text = str(convert(top, ports | {top.sys.clk, top.sys.rst}, name="litedram_part"))
    Path(sys.argv[2]).write_text(text)


if __name__ == "__main__":
    main()
