"""The DDR3 controller with LiteDRAM's model of a part and LiteDRAM's checker of timings, as an independent check.

The tests need LiteDRAM (`pip install litedram==2024.12 litex==2024.12 migen==0.10.0`, the extra `ddr3-check`), here or
in the environment whose Python LUTERN_LITEDRAM_PYTHON names.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from amaranth.hdl import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutern.boards.ddr3_parts import ddr3_part
from lutern.hw.memory import Ddr3Controller, Ddr3Timings
from lutern.hw.memory.dfi import Dfi
from lutern.hw.memory.word_source import WordPort
from lutern.sim.ddr3 import COMMAND_PINS, OUTPUTS, SOURCE, Ddr3Model, Ddr3Sequences
from lutern.sim.runner import run_bench
from processes import run

PYTHON = os.environ.get("LUTERN_LITEDRAM_PYTHON", sys.executable)
ROW_BITS = 11  # the minimum that LiteDRAM's model accepts
SHORT = {"reset_low": 60, "wake": 80}
CLAIM_OF_ALL_REFRESHES = "tREFI violation (64ms period)"


class Bench(wiring.Component):
    """The controller with both models of a part. Words come from LiteDRAM's model, and both models check rules.
    ``differs``: the two models have returned different words."""

    def __init__(self, timings: Ddr3Timings) -> None:
        self.timings = timings
        self.controller = Ddr3Controller(timings)
        super().__init__(
            {
                "port": In(WordPort(self.controller.shape)),
                "error": Out(5),
                "error_address": Out(timings.bank_bits + timings.row_bits),
                "refreshes": Out(32),
                "differs": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        t, dfi = self.timings, self.controller.dfi
        m.submodules.controller = self.controller
        wiring.connect(m, wiring.flipped(self.port), self.controller.port)
        ours = Dfi(t.bank_bits, t.pin_address_bits, t.word_bits).create(path=("ours",))
        m.submodules.ours = model = Ddr3Model(ours, t, "sync")
        m.d.comb += [getattr(ours, name).eq(getattr(dfi, name)) for name in OUTPUTS]
        slots = {"p0": (dfi.p0, ours.p0, dfi.wrdata[:64]), "p1": (dfi.p1, ours.p1, dfi.wrdata[64:])}
        ports, words = {}, []
        for name, (slot, copy, wrdata) in slots.items():
            m.d.comb += [getattr(copy, pin).eq(getattr(slot, pin)) for pin in COMMAND_PINS]
            word = Signal(64, name=f"{name}_rddata")
            words.append(word)
            ports |= {
                f"i_{name}_address": slot.a[:ROW_BITS],
                f"i_{name}_bank": slot.ba,
                **{f"i_{name}_{pin}": getattr(slot, pin) for pin in ("cs_n", "ras_n", "cas_n", "we_n")},
                f"i_{name}_wrdata": wrdata,
                f"i_{name}_wrdata_mask": Const(0, 8),
                f"i_{name}_wrdata_en": dfi.wrdata_en,
                f"i_{name}_rddata_en": dfi.rddata_en,
                f"o_{name}_rddata": word,
            }
        valid = Signal()
        m.submodules.theirs = Instance(
            "litedram_part", i_sys_clk=ClockSignal(), i_sys_rst=Const(0), o_p0_rddata_valid=valid, **ports
        )
        m.d.comb += dfi.rddata.eq(Cat(words))
        m.d.sync += self.differs.eq(self.differs | (valid & (dfi.rddata != ours.rddata)))
        m.d.comb += [getattr(self, name).eq(getattr(model, name)) for name in ("error", "error_address", "refreshes")]
        return m


@pytest.fixture(scope="module")
def litedram() -> str:
    """Return the path of the Python that has LiteDRAM."""
    done = run([PYTHON, "-c", "import litedram, litex, migen"])
    if done.returncode:
        pytest.skip(f"{PYTHON} has no LiteDRAM: install the extra ddr3-check, or name another LUTERN_LITEDRAM_PYTHON")
    return PYTHON


def write_verilog(python: str, part_name: str, t: Ddr3Timings, path: Path, **more: int) -> Path:
    """Write LiteDRAM's model of a part with the times of our model. With ``postponing``, write its controller too."""
    part = ddr3_part(part_name)
    times = ("ras", "rp", "rcd", "rrd", "faw", "wr", "rfc")
    given = {
        "name": path.stem,
        "clock_hz": t.clock_hz,
        "rows": 1 << t.row_bits,
        **{f"{time}_ns": getattr(part, f"{time}_ns") for time in times},
        "rdphase": t.read_phase,
        "wrphase": t.write_phase,
        **{key: getattr(t, key) for key in ("cl", "cwl", "read_latency", "write_latency")},
        **more,
    }
    done = run([python, Path(__file__).with_name("litedram_part.py"), json.dumps(given), path])
    assert done.returncode == 0, done.stderr[-2000:]
    return path


def violations(python: str, name: str, t: Ddr3Timings, folder: Path, jobs: int) -> list[str]:
    """Run random jobs, compare every word, and return the violations that the checker reports."""
    made = run_bench(
        Bench(t),
        "lutern.sim.benches.ddr3",
        testcase=["reads_what_was_written", "pages_in_turn"],
        seed=72,
        sources=[SOURCE, write_verilog(python, name, t, folder / "litedram_part.v")],
        parameters={"timings": asdict(t), "pause": "none", "jobs": jobs},
    )
    log = (made / "bench.log").read_text(errors="replace").splitlines()
    return [line for line in log if "violation" in line and CLAIM_OF_ALL_REFRESHES not in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "clock_hz", "group"),
    [("MT41K256M16", 75e6, 1), ("MT41K256M16", 100e6, 8), ("MT41K64M16", 48e6, 8)],
    ids=["4Gb-75MHz", "4Gb-100MHz", "1Gb-48MHz"],
)
def test_litedram_finds_no_violation(name: str, clock_hz: float, group: int, litedram: str, tmp_path: Path) -> None:
    t = ddr3_part(name).timings(clock_hz, group).with_(row_bits=ROW_BITS, **SHORT)
    assert violations(litedram, name, t, tmp_path, jobs=6000) == []


@pytest.mark.slow
def test_litedram_finds_a_short_trfc(litedram: str, tmp_path: Path) -> None:
    """LiteDRAM's checker reports a controller whose tRFC is half as long. Our model with the same tRFC accepts it."""
    t = ddr3_part("MT41K256M16").timings(75e6).with_(row_bits=ROW_BITS, rfc=19, **SHORT)
    found = violations(litedram, "MT41K256M16", t, tmp_path, jobs=600)
    assert any("REF->ACT violation" in line for line in found), found[:5]


class Readers(Ddr3Sequences):
    """Our controllers, followed by LiteDRAM's controllers, which are modules of the given names. All read words in
    order."""

    def __init__(self, ours: list[Ddr3Timings], theirs: list[str]) -> None:
        self.theirs = theirs
        super().__init__(ours, len(theirs))

    def elaborate(self, platform: object) -> Elaboratable:
        m = super().elaborate(platform)
        assert isinstance(m, Module)
        for name, results in zip(self.theirs, self.results[len(self.readers) :], strict=True):
            m.submodules[name] = Instance(
                name, i_sys_clk=ClockSignal(), i_sys_rst=Const(0), o_words=results.words, o_cycles=results.cycles
            )
        return m


@pytest.mark.slow
def test_share_beside_litedrams_controller(litedram: str, tmp_path: Path) -> None:
    """Our controller reads 1 MiB of 4 Gb at 75 MHz faster than LiteDRAM's, with 1 and with 8 refreshes together."""
    name, groups = "MT41K256M16", (1, 8)
    parts = [ddr3_part(name).timings(75e6, group).with_(row_bits=ROW_BITS, **SHORT) for group in groups]
    sources = [
        write_verilog(litedram, name, t, tmp_path / f"litedram_{t.refresh_group}.v", postponing=t.refresh_group)
        for t in parts
    ]
    made = run_bench(
        Readers(parts, [path.stem for path in sources]),
        "lutern.sim.benches.ddr3_sequence",
        sources=[SOURCE, *sources],
        parameters={
            "words": 1 << 16,
            "wanted": [0.945, 0.963, 0.9, 0.9],
            "formula": [*(1 - t.refresh_loss for t in parts), 0.93, 0.93],
            "group_cycles": [*(t.refresh_cycles for t in parts), 1 << 16, 1 << 16],
        },
    )
    ours_1, ours_8, theirs_1, theirs_8 = json.loads((made / "shares.json").read_text())
    assert ours_1 > theirs_1 and ours_8 > theirs_8
