"""The AXI4 word source against cocotbext-axi, and mutants of it: hw/memory/axi.py."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.hw.memory.axi import AxiSource, axi_shape
from lutern.sim.runner import run_bench

pytest.importorskip("cocotbext.axi")
SEED = 22


def run_axi(ports: int, port_bytes: int, pause: float, testcase: Any = None, jobs: int = 200, **others: Any) -> None:
    values = {"ports": ports, "port_bytes": port_bytes, "address_bits": 16, "in_flight": 64, "quiet": 128, **others}
    shape = axi_shape(8 * ports * port_bytes, values["address_bits"], values["in_flight"], 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axi, "QUIET_CYCLES", values["quiet"])
        run_bench(
            AxiSource(shape, ports),
            "lutern.sim.benches.axi",
            seed=SEED,
            testcase=testcase,
            parameters={**values, "pause": pause, "jobs": jobs},
        )


@pytest.mark.parametrize(
    ("ports", "port_bytes", "pause"),
    [
        (2, 8, 0.4),
        pytest.param(1, 64, 0.3, marks=pytest.mark.slow),
        pytest.param(4, 16, 0.5, marks=pytest.mark.slow),
        pytest.param(16, 32, 0.2, marks=pytest.mark.slow),
    ],
)
def test_axi(ports: int, port_bytes: int, pause: float) -> None:
    run_axi(ports, port_bytes, pause)
