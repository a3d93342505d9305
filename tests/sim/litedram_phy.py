"""Writes LiteDRAM's PHY for ECP5 as Verilog, with ports for settings and pads. A Python with LiteDRAM must run it.

    python litedram_phy.py '{"name": ..., "clock_hz": ..., "cl": ..., "cwl": ..., "address_bits": ...}' module.v

A bidirectional pad becomes three ports: `dq_o`, `dq_z` and `dq_i` for dq, and in the same way for dqs.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from litedram.phy import ecp5ddrphy
from migen import ClockDomain, Instance, Module, Signal
from migen.fhdl.verilog import convert

PAD = """
module split_pad(input o, oe, output i, output pad_o, pad_z, input pad_i);
    assign pad_o = o, pad_z = !oe, i = pad_i;
endmodule
"""


class Phy(Module):
    """The PHY and its ports."""

    def __init__(self, given):
        for name in ("sys", "sys2x", "init"):
            setattr(self.clock_domains, name, ClockDomain(name, reset_less=name == "sys2x"))
        one = {"clk_p", "reset_n", "cke", "odt", "cs_n", "ras_n", "cas_n", "we_n"}
        pads = {name: Signal(name=name) for name in sorted(one)}
        pads |= {"a": Signal(given["address_bits"], name="a"), "ba": Signal(3, name="ba")}
        pads |= {name: Signal(bits, name=name) for name, bits in (("dq", 16), ("dqs_p", 2), ("dm", 2))}
        split = {name: [Signal(len(pads[name]), name=f"{name}_{end}") for end in "ozi"] for name in ("dq", "dqs_p")}

        def tristate(target, o, oe, i):
            pad_o, pad_z, pad_i = next(split[name] for name in split if target.value is pads[name])
            at = target.start
            return Instance("split_pad", i_o=o, i_oe=oe, o_i=i, o_pad_o=pad_o[at], o_pad_z=pad_z[at], i_pad_i=pad_i[at])

        ecp5ddrphy.Tristate = tristate
        self.submodules.phy = phy = ecp5ddrphy.ECP5DDRPHY(
            SimpleNamespace(**pads), sys_clk_freq=given["clock_hz"], cl=given["cl"], cwl=given["cwl"]
        )
        latencies = phy.settings.read_latency, phy.settings.write_latency
        wanted = given["read_latency"], given["write_latency"]
        assert latencies == wanted, f"LiteDRAM's latencies {latencies} must equal ours, {wanted}"
        ends = {name: getattr(phy.init, name) for name in ("stop", "reset")}
        ends |= {"dly_sel": phy._dly_sel.storage, "seen": phy._burstdet_seen.status, "clear": phy._burstdet_clr.re}
        ends |= {
            "delay_reset": phy._rdly_dq_rst.re,
            "delay_step": phy._rdly_dq_inc.re,
            "slip_reset": phy._rdly_dq_bitslip_rst.re,
            "slip_step": phy._rdly_dq_bitslip.re,
        }
        for number, phase in enumerate(phy.dfi.phases):
            ends |= {f"p{number}_{name}": getattr(phase, name) for name, _, _ in phase.layout}
        for name, signal in ends.items():
            signal.name_override = name
        plain = {pads[name] for name in pads if name not in split}
        self.ios = {*ends.values(), *plain, *(signal for signals in split.values() for signal in signals)}
        for domain in (self.sys, self.sys2x, self.init):
            self.ios |= {domain.clk} | ({domain.rst} if domain.rst is not None else set())


def main() -> None:
    given = json.loads(sys.argv[1])
    top = Phy(given)
    Path(sys.argv[2]).write_text(str(convert(top, top.ios, name=given["name"])) + PAD)


if __name__ == "__main__":
    main()
