"""Figures of other projects: each has its model and a grade, and its joules are watts divided by tokens/s."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from lutern.measure.published import PUBLISHED_FIGURES, Published
from lutern.model_ref.synthetic import PUBLISHED

GRADES = {"measured", "simulated", "projected", "published"}


@pytest.mark.parametrize("figure", PUBLISHED_FIGURES, ids=lambda figure: f"{figure.who} {figure.tokens_per_second:g}")
def test_grades_and_joules(figure: Published) -> None:
    assert figure.grade in GRADES and figure.who and figure.device
    assert figure.model in PUBLISHED or figure.model.startswith("BitNet ")
    assert bool(figure.joules) == bool(figure.joules_grade) == bool(figure.watts)
    if figure.joules:
        assert figure.joules_grade in GRADES
        assert figure.grade == figure.joules_grade, "joules must have the grade of their rate"
        assert figure.joules == pytest.approx(float(figure.watts) / figure.tokens_per_second, rel=0.1)


def test_the_rate_of_the_paper_is_projected_for_13b() -> None:
    """Zhu et al. measured single blocks, and projected 23.8 tokens/s for 1.3B from the measurements."""
    [figure] = [figure for figure in PUBLISHED_FIGURES if figure.tokens_per_second == 23.8]
    assert (figure.model, figure.grade, figure.joules_grade) == ("1.3b", "projected", "projected")


def test_figures_of_a_model_are_together() -> None:
    groups = [model for model, _ in groupby(figure.model for figure in PUBLISHED_FIGURES)]
    assert len(groups) == len(set(groups))


def test_the_page_of_comparison() -> None:
    """Rates and grades of others in docs/comparison.md equal those of the table of figures, and every system is
    there."""
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    others = [row for row in rows if len(row) == 7 and row[0] not in ("system", "**Lutern**") and "---" not in row[0]]
    assert len(others) >= 9
    for name, _, _, rates, grades, *_ in others:
        for rate, grade in zip(rates.split(";"), grades.split(";"), strict=False):
            found = float(rate.split(" of ")[0].replace(",", ""))
            known = {(figure.tokens_per_second, figure.grade) for figure in PUBLISHED_FIGURES if figure.who == name}
            assert (found, grade.strip()) in known, f"docs/comparison.md: {name} {rate} {grade}, not of {known}"
    assert {row[0] for row in others} >= {figure.who for figure in PUBLISHED_FIGURES} - {"TeLLMe v1"}
