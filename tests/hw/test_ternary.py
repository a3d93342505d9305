"""The ternary unit against the golden model."""

import pytest

import lutern.hw.ternary as unit
from lutern.hw.config import HwConfig
from lutern.hw.layouts import decode_byte
from lutern.sim.runner import run_bench

SEED = 7
SHAPES = {(4, 4, 1): 3, (4, 16, 2): 4, (6, 8, 2): 4, (3, 2, 1): 3, (2, 1, 1): 2}
"""R, C, P and the latency: a power of two, the default's columns, rows and word that do not come out even, one column.
"""


def run(shape: tuple[int, int, int], pause: str = "none", testcase: str | None = None) -> None:
    values = {"rows": shape[0], "columns": shape[1], "results_per_cycle": shape[2], "codes_per_cycle": shape[1]}
    run_bench(unit.TernaryUnit(HwConfig("bench", **values)), "lutern.sim.tb_ternary", seed=SEED, testcase=testcase,
              parameters={"config": values, "pause": pause, "latency": SHAPES[shape]})


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_latency_and_reset(shape: tuple[int, int, int]) -> None:
    run(shape)


@pytest.mark.parametrize("pause", ["random", "bursty", "alternating", "after_valid"])
@pytest.mark.parametrize("shape", list(SHAPES)[:2])
def test_pauses(shape: tuple[int, int, int], pause: str) -> None:
    run(shape, pause, "edges_then_random")


def test_pair_tables_name_all_pairs() -> None:
    names = {tuple(table >> index & 1 for table in unit.PAIR_TABLES) for index in range(8)}
    assert len(names) == 8 and (0, 0, 0, 0) not in names
    assert len({decode_byte(byte) for byte in range(256)} - {None}) == 243


@pytest.mark.parametrize("table", range(4))
def test_mutation_of_the_decoder_is_found(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = list(unit.PAIR_TABLES)
    tables[table] ^= 1 << (0, 0, 2, 2)[table]  # the pairs (0, +1) and (+1, 0): their 0 becomes something
    monkeypatch.setattr(unit, "PAIR_TABLES", tuple(tables))
    with pytest.raises(AssertionError, match=r"ternary\.sums, .*: layer \d+, index \d+, cycle \d+: got"):
        run((4, 4, 1), testcase="every_byte")


@pytest.mark.parametrize(("constant", "value"), [("OFFSET", 129), ("SUM_BITS", 20), ("LEVELS_PER_STAGE", 1)])
def test_mutation_of_a_constant_is_found(constant: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, constant, value)
    with pytest.raises(AssertionError, match=r"got 0x.* expected 0x.* seed 7|row groups ended in cycles"):
        run((4, 4, 1))
