"""The AXI4-Lite registers of hw/link/axi_lite.py against cocotbext-axi."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Elaboratable

from lutern.hw.link import axi_lite
from lutern.hw.link.axi_lite import AxiControl
from lutern.sim.runner import run_bench

pytest.importorskip("cocotbext.axi")
SEED, FIFO_BYTES = 23, 16


def run(ports: int = 2, pause: float = 0.4, testcase: str | None = None, block: type[AxiControl] = AxiControl) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axi_lite, "FIFO_BYTES", FIFO_BYTES)
        run_bench(
            block(ports),
            "lutern.sim.benches.axi_lite",
            seed=SEED,
            testcase=testcase,
            parameters={"ports": ports, "fifo_bytes": FIFO_BYTES, "pause": pause},
        )


@pytest.mark.parametrize(
    "ports", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(16, marks=pytest.mark.slow)]
)
def test_axi_lite(ports: int) -> None:
    run(ports)


class EarlyAnswer(AxiControl):
    """A mutant that answers in the cycle in which it accepts a request."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(self.s_axi_arvalid & ~self.s_axi_arready & ~self.s_axi_rvalid):
            m.d.sync += self.s_axi_rvalid.eq(1)
        return m


class ShortAnswer(AxiControl):
    """A mutant that drops an answer which is not accepted in its first cycle."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(self.s_axi_bvalid):
            m.d.sync += self.s_axi_bvalid.eq(0)
        return m


class AddressAlone(AxiControl):
    """A mutant that accepts an address without its data."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(self.s_axi_awvalid & ~self.s_axi_awready & ~self.s_axi_bvalid):
            m.d.sync += self.s_axi_awready.eq(1)
        return m


class NothingRefused(AxiControl):
    """A mutant that answers every write with OKAY."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        m.d.sync += self.s_axi_bresp.eq(axi_lite.OKAY)
        return m


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "testcase", "text"),
    [
        (EarlyAnswer, "registers", "RVALID before its request"),
        (ShortAnswer, "bytes_both_ways", "BVALID fell"),
        (AddressAlone, "address_and_data", "READY for a write without address or data"),
        (NothingRefused, "registers", "was answered with OKAY"),
    ],
)
def test_mutation_is_found(block: type[AxiControl], testcase: str, text: str) -> None:
    with pytest.raises(AssertionError, match=f"{text}.* seed {SEED}"):
        run(testcase=testcase, block=block)
