"""Our DDR3 PHY and LiteDRAM's PHY receive the same random DFI, settings and pins, and every output is compared.

Both PHYs use the same models of cells. So the test shows that wires and cycles are equal, not that the models are
right. The test needs LiteDRAM, as test_ddr3_litedram.py does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Mux, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from lutern.boards.ddr3_parts import ddr3_part
from lutern.hw.memory import Ddr3Modes, Ddr3Phy, Ddr3Timings
from lutern.sim.ddr3_phy import SOURCES, add_clocks
from lutern.sim.runner import run_bench
from processes import run

PYTHON = os.environ.get("LUTERN_LITEDRAM_PYTHON", sys.executable)
SLOTS = {"address": "a", "bank": "ba", "cas_n": "cas_n", "cs_n": "cs_n", "ras_n": "ras_n", "we_n": "we_n"}
NOISE = """
module noise #(parameter BITS = 32, SEED = 1) (input clk, output reg [BITS-1:0] q);
    reg [31:0] x = SEED;
    integer n;
    initial q = 0;
    always @(posedge clk)
        for (n = 0; n < BITS; n = n + 1) begin
            x = x ^ x << 13; x = x ^ x >> 17; x = x ^ x << 5;
            q[n] <= x[7] ^ x[19];
        end
endmodule
"""


class Beside(wiring.Component):
    """Both PHYs with the same inputs.

    Members: counts of ``compared`` outputs, of cycles in which an output ``differs``, and of ``reads``, ``writes`` and
    ``bursts`` that were seen. ``which`` has a bit for each output that has ever differed.
    """

    def __init__(self, timings: Ddr3Timings, seed: int) -> None:
        self.timings, self.seed = timings, seed
        super().__init__(
            {name: Out(32) for name in ("compared", "differs", "which", "reads", "writes", "bursts", "changes")}
        )

    def _noise(self, m: Module, bits: int, domain: str) -> Signal:
        q = Signal(bits)
        self.seed += 1
        m.submodules += Instance(
            "noise", p_BITS=bits, p_SEED=self.seed * 0x9E3779B1 & 0x7FFFFFFF, i_clk=ClockSignal(domain), o_q=q
        )
        return q

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t = self.timings
        m.submodules.phy = phy = Ddr3Phy(t)
        add_clocks(m, phy)
        dfi = phy.dfi
        ports: dict[str, object] = {}
        theirs: dict[str, Signal] = {}

        def out(name: str, bits: int) -> Signal:
            theirs[name] = Signal(bits, name=f"their_{name}")
            ports[f"o_{name}"] = theirs[name]
            return theirs[name]

        # DFI
        shared = {name: self._noise(m, 1, "memory") for name in ("reset_n", "cke", "odt")}
        m.d.comb += [getattr(dfi, name).eq(value) for name, value in shared.items()]
        chance = self._noise(m, 5, "memory")
        m.d.comb += [dfi.wrdata_en.eq(chance[:2] == 0), dfi.rddata_en.eq((chance[2:4] == 0) | chance.all())]
        m.d.comb += dfi.wrdata.eq(self._noise(m, t.word_bits, "memory"))
        rddata = []
        for number, slot in enumerate((dfi.p0, dfi.p1)):
            for name, own in SLOTS.items():
                pin = getattr(slot, own)
                m.d.comb += pin.eq(self._noise(m, len(pin), "memory"))
                ports[f"i_p{number}_{name}"] = pin
            ports |= {f"i_p{number}_{name}": value for name, value in shared.items()}
            ports |= {f"i_p{number}_act_n": Const(1), f"i_p{number}_wrdata_mask": Const(0, 8)}
            ports[f"i_p{number}_wrdata"] = dfi.wrdata[64 * number : 64 * number + 64]
            ports |= {f"i_p{number}_{name}": getattr(dfi, name) for name in ("wrdata_en", "rddata_en")}
            rddata.append(out(f"p{number}_rddata", 64))
        # Settings: sometimes a byte steps or goes back to 0, and the PHY pauses meanwhile.
        dice = self._noise(m, 16, "memory")
        select, rare = dice[:2], dice[2:8] == 0
        pulses = {"delay_reset": 8, "delay_step": 10, "slip_reset": 12, "slip_step": 14}
        acts = {name: Signal(name=name) for name in (*pulses, "clear")}
        m.d.comb += [acts[name].eq(rare & (dice[at : at + 2] == 0)) for name, at in pulses.items()]
        m.d.comb += acts["clear"].eq(self._noise(m, 4, "memory") == 0)
        m.d.comb += [phy.levels.pause.eq(select), phy.levels.clear.eq(acts["clear"])]
        ports |= {f"i_{name}": value for name, value in acts.items()} | {"i_dly_sel": phy.levels.pause}
        for byte in range(phy.byte_count):
            for name in ("delay", "slip"):
                value = getattr(phy.levels, name)[byte]
                held = Signal.like(value)
                m.d.comb += value.eq(held)
                with m.If(select[byte] & acts[f"{name}_reset"]):
                    m.d.memory += held.eq(0)
                    if name == "delay":
                        with m.If(acts["delay_step"]):  # LiteDRAM's later assignment wins
                            m.d.memory += held.eq(held + 1)
                with m.Elif(select[byte] & acts[f"{name}_step"]):
                    m.d.memory += held.eq(held + 1)
        # Pins: strobes that toggle in step most of the time.
        count = Signal(2)
        m.d.sync += count.eq(count + 1)
        calm = self._noise(m, 7, "memory") != 0
        wild = self._noise(m, 2, "sync")
        m.d.comb += [phy.pins.dqs_i.eq(Mux(calm, Cat(count[1], count[1] ^ count[0]), wild))]
        m.d.comb += phy.pins.dq_i.eq(self._noise(m, 16, "sync"))
        ports |= {"i_dq_i": phy.pins.dq_i, "i_dqs_p_i": phy.pins.dqs_i}
        pins = phy.pins
        pairs: list[tuple[Value, Value]] = [(pins.ck, out("clk_p", 1)), (Const(0, 2), out("dm", 2))]
        for name in ("reset_n", "cke", "odt", "cs_n", "ras_n", "cas_n", "we_n", "ba", "a", "dq_z", "dq_o"):
            pairs.append((getattr(pins, name), out(name, len(getattr(pins, name)))))
        pairs += [(getattr(pins, f"dqs_{end}"), out(f"dqs_p_{end}", 2)) for end in "zo"]
        pairs += [(dfi.rddata, Cat(rddata)), (phy.levels.burst_seen, out("seen", 2))]
        pairs += [(getattr(phy, name), out(name, 1)) for name in ("stop", "reset")]
        for name, domain in (("sys", "memory"), ("init", "init")):
            ports |= {f"i_{name}_clk": ClockSignal(domain), f"i_{name}_rst": ResetSignal(domain)}
        m.submodules.theirs = Instance("litedram_phy", i_sys2x_clk=ClockSignal("edge"), **ports)

        differ = Signal(len(pairs))
        m.d.comb += differ.eq(Cat(ours != other for ours, other in pairs))
        m.d.sync += [self.compared.eq(self.compared + len(pairs)), self.which.eq(self.which | differ)]
        with m.If(differ.any()):
            m.d.sync += self.differs.eq(self.differs + 1)
        with m.If(~ResetSignal("memory")):
            was = Signal.like(phy.levels.burst_seen)
            m.d.memory += [
                was.eq(phy.levels.burst_seen),
                self.reads.eq(self.reads + dfi.rddata_en),
                self.writes.eq(self.writes + dfi.wrdata_en),
                self.bursts.eq(self.bursts + (phy.levels.burst_seen & ~was).any()),
                self.changes.eq(self.changes + acts["delay_step"]),
            ]
        return m


def compare(t: Ddr3Timings, folder: Path, ticks: int, seed: int = 31, was: str = "", now: str = "") -> dict[str, int]:
    """Replace ``was`` by ``now`` in LiteDRAM's Verilog, simulate ``ticks`` ticks, and return the counts."""
    done = run([PYTHON, "-c", "import litedram, litex, migen"])
    if done.returncode:
        pytest.skip(f"{PYTHON} has no LiteDRAM: install the extra ddr3-check, or name another LUTERN_LITEDRAM_PYTHON")
    given = {
        "name": "litedram_phy",
        "clock_hz": t.clock_hz,
        "address_bits": t.pin_address_bits,
        **{name: getattr(t, name) for name in ("cl", "cwl", "read_latency", "write_latency")},
    }
    path, noise = folder / "litedram_phy.v", folder / "noise.v"
    done = run([PYTHON, Path(__file__).with_name("litedram_phy.py"), json.dumps(given), path])
    assert done.returncode == 0, done.stderr[-2000:]
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now, 1) if was else text)
    noise.write_text(NOISE)
    made = run_bench(
        Beside(t, seed),
        "lutern.sim.benches.ddr3_beside",
        sources=[*SOURCES, path, noise],
        parameters={"ticks": ticks},
        seed=seed,
    )
    return dict(json.loads((made / "counts.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "modes",
    [Ddr3Modes(), Ddr3Modes(cl=7), Ddr3Modes(cl=6, cwl=6, dll=False, rtt_nom=0, rtt_wr=0)],
    ids=["cl-6", "cl-7", "cwl-6"],
)
def test_equal_at_the_pins(modes: Ddr3Modes, tmp_path: Path) -> None:
    counts = compare(ddr3_part("MT41K256M16").timings(75e6, 1, modes), tmp_path, 400_000)
    print(counts)
    assert counts["differs"] == 0, counts
    assert min(counts[name] for name in ("reads", "writes")) > 5000 and counts["bursts"] > 100, counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "now"), [("READ0(", "READ0(1'd0 & "), (".i_D1(", ".i_D1(1'd1 | ")], ids=["read", "level"]
)
def test_a_difference_is_found(was: str, now: str, tmp_path: Path) -> None:
    t = ddr3_part("MT41K256M16").timings(75e6)
    if was.startswith(".i_"):
        was, now = ".D1(", ".D1(1'd1 ^ "
    counts = compare(t, tmp_path, 20_000, was=was, now=now)
    assert counts["differs"] > 0, counts
