"""The latencies in docs/engine.md and in docstrings equal those of the classes. The blocks' own tests check the
classes."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lutern.hw.code_memory import LUT_RAM_WORDS, CodeMemory
from lutern.hw.config import HwConfig
from lutern.hw.glu import Glu
from lutern.hw.head import Head
from lutern.hw.memory import ResidentMemory, StreamedMemory
from lutern.hw.mlgru import Mlgru
from lutern.hw.norm.quantiser import Quantiser
from lutern.hw.norm.scalar import NormScalar
from lutern.hw.norm.statistics import largest_latency
from lutern.hw.presets import PRESETS
from lutern.hw.residual import Residual
from lutern.hw.scale import SumScale
from lutern.hw.ternary import TernaryUnit

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "engine.md").read_text()
STATED = re.compile(r"\bLatency: (\d+)\b(?! \*)|``latency`` = (\d+)\b")
"""The latency that a docstring states for its class."""
RESULTS = (1, 2, 4, 8)


def cell(step: str) -> str:
    """Return the cell with the cycles, in the row whose step begins with ``step``."""
    found = re.findall(rf"^\| {re.escape(step)}[^|]*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert len(found) == 1, f"{len(found)} rows begin with {step!r}, but one row must"
    return str(found[0])


def clauses(text: str) -> dict[int, int]:
    """Return the cycles in a text such as "6 for P = 1 and 2, 7 for 4", by the number that follows "for"."""
    found = re.findall(r"(\d+) for (?:[CP] = )?(\d+)(?: and (\d+))?", text)
    return {int(key): int(latency) for latency, *keys in found for key in keys if key}


def cycles(text: str, p: int = 0) -> int:
    """Return the sum of the numbers in a text such as "7 + p", where p stands for the given number."""
    return sum(p if term == "p" else int(term) for term in text.split(" + "))


def machine(results: int = 1, rows: int = 8, columns: int = 8, **changes: int) -> HwConfig:
    return HwConfig("m", rows=rows, columns=columns, results_per_cycle=results, codes_per_cycle=columns, **changes)


def test_ternary_unit() -> None:
    said = clauses(cell("beat of trits and codes accepted"))
    assert said == {columns: TernaryUnit.latency_of(machine(columns=columns)) for columns in (2, 4, 8, 16, 32)}


def test_constants() -> None:
    assert cycles(cell("sum → value")) == SumScale.latency
    assert cycles(cell("largest → R")) == NormScalar.factor_latency
    assert cycles(cell("R → first Q codes")) == Quantiser.latency - Quantiser.factor_stage
    assert NormScalar.pass_latency + Quantiser.factor_stage == NormScalar.factor_latency, "R must be valid in time"
    assert [cycles(text) for text in cell("sum → v of up").split(" / ")] == [Glu.latency, Residual.latency]
    resident = {ResidentMemory.row_latency_of(config) for config in PRESETS.values() if config.source == "resident"}
    assert cell("token → first word") == f"{resident.pop()} resident, {StreamedMemory.row_latency} streamed"
    assert not resident


@pytest.mark.parametrize("results", RESULTS)
def test_latencies_that_depend_on_results_per_cycle(results: int) -> None:
    config, p = machine(results), results.bit_length() - 1
    said, several = clauses(cell("last element into the norm"))[results], machine(results, streams=2)
    assert (said, said + 1) == (largest_latency(config), largest_latency(several))
    assert [cycles(text, p) for text in cell("value → v of g").split(" / ")] == [Mlgru.latency, Head.latency_of(config)]


def test_code_memory() -> None:
    small, large = (machine(max_width=beats * 8) for beats in (LUT_RAM_WORDS // 2, LUT_RAM_WORDS // 2 + 1))
    assert cell("codes → ternary unit") == (
        f"{CodeMemory.latency_of(small)}; {CodeMemory.latency_of(large)} from block RAM"
    )


def test_barrier() -> None:
    """The page states the sum of its column for the machine that the page names."""
    config = machine(results=4, rows=32, columns=32)
    norm = largest_latency(config) + NormScalar.pass_latency + Quantiser.latency
    blocks = [SumScale.latency + Mlgru.latency, Glu.latency, Residual.latency]
    others = [TernaryUnit.latency_of(config), config.rows // config.results_per_cycle]
    codes = CodeMemory.latency_of(config)
    least, most = (sum(others) + block + norm + codes for block in (min(blocks), max(blocks)))
    terms = [*map(str, others), f"{{{', '.join(map(str, blocks))}}}", str(norm), str(codes)]
    assert f"{' + '.join(terms)} = {least} to {most} cycles" in " ".join(PAGE.split())


def stated() -> Iterator[tuple[str, str, int]]:
    """Yield module, class and latency of each docstring that states a single latency."""
    for path in sorted((ROOT / "hw").rglob("*.py")):
        module = ".".join(("lutern", *path.relative_to(ROOT).with_suffix("").parts))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and (found := STATED.search(ast.get_docstring(node) or "")):
                yield module, node.name, int(found[1] or found[2])


def test_docstrings() -> None:
    compared = 0
    for module, name, latency in stated():
        fixed = getattr(getattr(importlib.import_module(module), name), "latency", None)
        if isinstance(fixed, int):
            assert latency == fixed, f"{module}.{name}: its docstring says {latency}, it is {fixed}"
            compared += 1
    assert compared >= 12
