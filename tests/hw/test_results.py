"""The control of the results stage, and the join of vectors with their gains."""

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring

from lutern.hw.config import HwConfig
from lutern.hw.results import GainJoin, ResultsControl
from lutern.sim.runner import run_bench


class ClockedGainJoin(GainJoin):
    """The join has no register; benches want a clock."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.join = join = GainJoin(self.config)
        wiring.connect(m, wiring.flipped(self), join)
        m.d.sync += Signal(name="unused").eq(1)
        return m


CASES = [(1, "none"), (2, "none"), (2, "random"), (2, "bursty"), (2, "alternating")]


@pytest.mark.parametrize(("lanes", "pause"), CASES)
def test_results_control(lanes: int, pause: str) -> None:
    values = {"results_per_cycle": lanes}
    run_bench(ResultsControl(HwConfig("bench", **values)), "lutern.sim.tb_results", seed=71,
              parameters={"config": values, "pause": pause})


@pytest.mark.parametrize(("lanes", "pause"), CASES)
def test_gain_join(lanes: int, pause: str) -> None:
    values = {"results_per_cycle": lanes}
    run_bench(ClockedGainJoin(HwConfig("bench", **values)), "lutern.sim.tb_gain_join", seed=72,
              parameters={"config": values, "pause": pause})
