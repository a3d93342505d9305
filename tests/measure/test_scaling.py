"""A scaling law from runs: the fit, the compared losses, the table, the sentences and the picture."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from lutern.measure import pictures, scaling
from lutern.model_ref.errors import LuternError
from lutern.train.scaling import Result

DOCS = Path(__file__).parents[2] / "docs"
WEIGHTS = {"64x4": 200_000, "96x5": 600_000, "160x5": 1_600_000, "256x5": 4_000_000}
STEPS = (100, 200, 300)


def bits(weights: int, exponent: float, step: int) -> float:
    return 9.0 * weights**-exponent * (1 + 30 / step)


def runs(exponents: dict[str, float], factors: tuple[float, ...] = (1.0,), spoilt: float = 0.0) -> list[Result]:
    """Return runs of exact laws. The rate with the factor 1 is best, because ``spoilt`` is added to the losses of the
    other rates."""
    found = []
    for kind, exponent in exponents.items():
        for size, weights in WEIGHTS.items():
            for factor in factors:
                worse = 0.0 if factor == 1 else spoilt
                losses = [bits(weights, exponent, step) + worse for step in STEPS]
                record = [
                    {"step": step, "loss_bits": loss - 0.01, "validation_bits": loss}
                    for step, loss in zip(STEPS, losses, strict=True)
                ]
                found.append(Result(kind, size, weights, 1e-3 * factor, 1000, 150_000, 300, record, 1.0, "CPU"))
    return found


BOTH = {"matmul-free": 0.12, "transformer": 0.09}


def test_an_exact_law_is_found_exactly() -> None:
    law = scaling.fit_power_law([1e5, 1e6, 1e7], [5 * x**-0.1 for x in (1e5, 1e6, 1e7)])
    assert [law.coefficient, law.exponent, law.low, law.high] == pytest.approx([5, 0.1, 0.1, 0.1])
    assert law.at(1e6) == pytest.approx(5 * 1e6**-0.1)


def test_the_interval_covers_the_truth_and_is_seeded() -> None:
    """In theory 95 % of the intervals contain the true value. Because there are only six residuals, the test requires
    at least 80 % of 200 intervals."""
    seed, truth, covered = 7, 0.1, 0
    random, weights = np.random.default_rng(seed), np.geomspace(2e5, 3e7, 6)
    for _ in range(200):
        noisy = weights**-truth * np.exp(random.normal(0, 0.02, 6))
        law = scaling.fit_power_law(list(weights), list(noisy))
        assert law.low < law.exponent < law.high
        covered += law.low <= truth <= law.high
    assert 160 <= covered < 200, f"seed {seed}: {covered} of 200"
    assert scaling.fit_power_law(list(weights), list(noisy), 3) == scaling.fit_power_law(list(weights), list(noisy), 3)


def test_law_of_two_sizes_is_refused() -> None:
    with pytest.raises(LuternError, match="needs at least 3 sizes, but 2 were given"):
        scaling.fit_power_law([1.0, 2.0, 2.0], [1.0, 2.0, 2.0])


def test_the_best_rate_of_each_size_counts() -> None:
    results = runs(BOTH, factors=(0.5, 1.0), spoilt=0.1)
    for kind, best in scaling.best_of(results).items():
        assert [one.learning_rate for one in best] == [1e-3] * 4, kind
        assert [one.weights for one in best] == list(WEIGHTS.values())
    laws = scaling.laws_of(results)
    assert {kind: round(law.exponent, 6) for kind, law in laws.items()} == BOTH


def test_runs_are_compared_at_the_last_step_that_all_have_reached() -> None:
    results = runs(BOTH)
    results[0].record.pop()
    assert scaling.common_step(results) == 200
    best = scaling.best_of(results)["transformer"]
    assert [scaling.last_bits(one) for one in best] == [bits(one.weights, 0.09, 200) for one in best]
    said = scaling.sentences(results)
    assert any("compared at step 200 of 300" in text for text in said)
    assert any("had read 200,000 tokens, 1.3 times the 150,000 tokens of the text" in text for text in said)
    results[1].record.clear()
    with pytest.raises(LuternError, match="no step in common"):
        scaling.common_step(results)


def test_table_and_sentences() -> None:
    results = runs(BOTH)
    table = scaling.rows(results)
    assert len(table) == 8 and all(len(row) == len(scaling.COLUMNS) for row in table)
    assert [row[-1] and round(row[-1], 3) for row in table] == [0.12] * 3 + [None] + [0.09] * 3 + [None]
    said = "\n".join(scaling.sentences(results))
    assert "MatMul-free: loss in proportion to weights^-0.120 (95 %: 0.120 to 0.120)." in said
    assert "compared at step" not in said and "memorized" not in said
    results[-1].record[1]["validation_bits"] = 0.5
    assert "Transformer: from 4,000,000 weights on" in "\n".join(scaling.sentences(results))


def test_csv_has_every_validation_and_marks_those_that_count() -> None:
    lines = list(csv.DictReader(scaling.to_csv(runs(BOTH, (0.5, 1.0), 0.1)).splitlines()))
    assert len(lines) == 2 * 4 * 2 * 3
    counting = [line for line in lines if line["counts"] == "1"]
    assert len(counting) == 8 and {line["step"] for line in counting} == {"300"}
    first = counting[0]
    assert int(first["operations"]) == 6 * int(first["weights"]) * int(first["tokens"])


def test_pictures() -> None:
    figure = pictures.scaling(runs(BOTH))
    svg = pictures.to_svg(figure, "scaling")
    ElementTree.fromstring(svg)
    for text in ("MatMul-free: exponent 0.120 (0.120 to 0.120)", "Transformer: exponent 0.090", "weights of matrices"):
        assert text in svg
    assert svg == pictures.to_svg(pictures.scaling(runs(BOTH)), "scaling")
    assert pictures.to_png(figure).startswith(b"\x89PNG")


def test_the_document_equals_its_table() -> None:
    """The exponents and intervals in docs/training.md are those of docs/scaling.csv."""
    text = (DOCS / "training.md").read_text()
    with (DOCS / "scaling.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["counts"] == "1"]
    assert len({line["tokens"] for line in lines}) == 1
    for kind, name in scaling.NAMES.items():
        own = [line for line in lines if line["kind"] == kind]
        law = scaling.fit_power_law(
            [float(line["weights"]) for line in own], [float(line["validation_bits"]) for line in own]
        )
        assert f"| {name} | **{law.exponent:.3f}** | {law.low:.3f} to {law.high:.3f} |" in text
