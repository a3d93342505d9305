"""The AXI4 word source of hw/memory/axi.py against cocotbext-axi, and mutants of this source."""

from __future__ import annotations

from typing import Any

import pytest

from lutern.hw.memory import axi
from lutern.hw.memory.axi import AxiSource, axi_shape
from lutern.sim.benches.axi_mutants import MUTANTS, Mutant
from lutern.sim.runner import run_bench

pytest.importorskip("cocotbext.axi")
SEED = 22


def run_axi(
    ports: int, port_bytes: int, pause: float, mutant: Mutant | None = None, testcase: str | None = None, **others: Any
) -> None:
    values = {
        "ports": ports,
        "port_bytes": port_bytes,
        "address_bits": 16,
        "in_flight": 64,
        "quiet": 128,
        "error_bits": 16,
        **others,
    }
    shape = axi_shape(8 * ports * port_bytes, values["address_bits"], values["in_flight"], 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axi, "QUIET_CYCLES", values["quiet"])
        patch.setattr(axi, "ERROR_COUNT_BITS", values["error_bits"])
        block = mutant.block() if mutant else AxiSource
        run_bench(
            block(shape, ports),
            "lutern.sim.benches.axi",
            seed=SEED,
            testcase=mutant.testcase if mutant else testcase,
            parameters={**values, "pause": pause, "jobs": 200},
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


@pytest.mark.slow
def test_errors_are_counted_up_to_the_highest_number() -> None:
    run_axi(2, 8, 0.0, testcase="a_refused_transaction_is_named", error_bits=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name: str) -> None:
    with pytest.raises(AssertionError, match=f"(?:{MUTANTS[name].complaint}).* seed {SEED}"):
        run_axi(2, 8, 0.4, MUTANTS[name])
