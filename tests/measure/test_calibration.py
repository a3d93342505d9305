"""Coefficients are fitted to readings with known coefficients, kept in files, and refused for other parts. Joules
follow from the coefficients."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from lutern.measure.calibration import EVENTS, STATIC, Reading, fit, load, read_readings
from lutern.measure.dram import DRAMS
from lutern.measure.energy import estimate, of_windows, static_watts
from lutern.measure.known_designs import DESIGNS, write_designs
from lutern.model_ref.errors import LuternError

SEED = 2
PART = "LFE5U-85F"
TRUE = {STATIC: 0.31, "net_toggle": 1.1e-13, "register_clock": 9e-15, "block_ram_access": 7e-12}
TIMES = 3


def readings(noise: float) -> list[Reading]:
    """Return several readings of each design, with the noise of a meter."""
    random = np.random.default_rng(SEED)
    found = []
    for design in DESIGNS * TIMES:
        watts = TRUE[STATIC] + sum(TRUE.get(name, 0) * count for name, count in design.activity.items())
        found.append(Reading(design.name, design.activity, watts + noise * random.standard_normal()))
    return found


def test_exact_readings_give_the_coefficients() -> None:
    found = fit(PART, readings(0.0), "test", "2026-01-01").coefficients
    assert set(found) == set(TRUE)
    for name, value in TRUE.items():
        assert found[name].value == pytest.approx(value, rel=1e-6), name


def test_intervals_of_noisy_readings_contain_the_truth() -> None:
    """The noise of the meter is 0.2 mW. With ten times the noise, the intervals are much wider."""
    narrow, wide = (fit(PART, readings(noise), "test", "2026-01-01").coefficients for noise in (2e-4, 2e-3))
    for name, value in TRUE.items():
        assert narrow[name].low < value < narrow[name].high, f"{name}, seed {SEED}"
        assert wide[name].high - wide[name].low > 5 * (narrow[name].high - narrow[name].low)
    assert narrow["net_toggle"].value == pytest.approx(TRUE["net_toggle"], rel=0.03)


def test_readings_that_are_impossible() -> None:
    """In these readings, more clocks reduce the power of the board, so the coefficient would be negative."""
    wrong = [
        Reading(item.design, item.activity, item.watts - 3e-14 * item.activity["register_clock"])
        for item in readings(0.0)
    ]
    with pytest.raises(
        LuternError, match=r"^the readings give register_clock the coefficient -2\.1e-14, which no chip"
    ):
        fit(PART, wrong, "test", "2026-01-01")


def test_too_few_readings() -> None:
    with pytest.raises(LuternError, match=r"^7 readings are too few for 4 coefficients with intervals; give"):
        fit(PART, readings(0.0)[:7], "test", "2026-01-01")


def test_activities_that_cannot_be_separated() -> None:
    """Toggles and clocks rise together in every design."""
    same = [reading for reading in readings(0.0) if reading.design.startswith(("idle", "nets"))] * 2
    with pytest.raises(LuternError, match=r"rise and fall together in all readings"):
        fit(PART, same, "test", "2026-01-01")


def test_files(tmp_path: Path) -> None:
    made = fit(PART, readings(1e-4), "test", "2026-01-01")
    made.save(tmp_path / "c.json")
    assert load(tmp_path / "c.json") == made
    with pytest.raises(LuternError, match=r"^the calibration is of LFE5U-85F, but the chip is LFE5U-25F; give a file"):
        made.require("LFE5U-25F")
    shipped = load()
    shipped.require(PART)
    assert {*shipped.coefficients, *(dram.event for dram in DRAMS.values())} == set(EVENTS)
    assert "not measured" in shipped.source


def file_text(name: str = "net_toggle", low: object = 0, value: object = 1e-13, high: object = 1e-12) -> str:
    """Return a calibration file with one coefficient. Values that are given as texts are copied unchanged."""
    numbers = ", ".join(f'"{key}": {number}' for key, number in (("value", value), ("low", low), ("high", high)))
    return f'{{"part": "a", "source": "", "date": "", "coefficients": {{"{name}": {{{numbers}}}}}}}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (file_text(value="NaN"), r"the coefficient net_toggle is unknown or not within its interval; make one: lutern"),
        (
            file_text(high="Infinity"),
            r"net_toggle is 1e-13 \(0 to inf\), but must be a number from 0 to 1e\+06; make one",
        ),
        (file_text(high="1e999"), r"net_toggle is 1e-13 \(0 to inf\), but must be a number from 0 to 1e\+06; make one"),
        (file_text("static_watts", -3, -2, -1), r"has no coefficient of net_toggle, register_clock, block_ram_access"),
        (file_text(low=-3, value=-2, high=-1), r"net_toggle is -2 \(-3 to -1\), but must be a number from 0"),
        (file_text("net_toggle\\n", value="2"), r"no coefficient of net_toggle"),
        (file_text(value="1" + "0" * 400), r"is no calibration file; make one"),
        (file_text(value="1" * 5000), r"is no calibration file; make one"),
        (file_text(value="[" * 100_000), r"is no calibration file; make one"),
        (file_text().replace('"a"', '"\\u001b[2J"'), r"must be short texts, not '\\x1b\[2J'; make one"),
        (
            file_text().replace('"a"', '"' + "a" * 1100 + '"'),
            r"must be short texts, not '" + "a" * 59 + r"\.\.\.; make one",
        ),
        (file_text().replace('"a"', "[]"), r"must be short texts, not \[\]; make one"),
        ('{"part": "a", "source": "", "date": "", "coefficients": {}}', r"has no coefficient of net_toggle"),
        (" " * ((1 << 20) + 1), r"is larger than 1048576 bytes, so it is no calibration file"),
    ],
    ids=itertools.count(),
)
def test_coefficients_that_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(LuternError, match=sentence) as refused:
        load(tmp_path / "c.json")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 500


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"part": "a", "source": "", "date": "", "coefficients": {"x": 1}}'])
def test_invalid_calibration_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(LuternError, match=r"c\.json is no calibration file; make one: lutern power calibrate"):
        load(tmp_path / "c.json")
    with pytest.raises(LuternError, match=r"none\.json cannot be read \(No such file"):
        load(tmp_path / "none.json")


def test_designs_and_their_readings(tmp_path: Path) -> None:
    """The fit reads the file of the designs after the watts were added."""
    write_designs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*(f"{d.name}.v" for d in DESIGNS), "activity.csv"}
    lines = (tmp_path / "activity.csv").read_text().splitlines()
    by_design = {reading.design: reading.watts for reading in readings(0.0)}
    filled = [line.replace(",,", f",{by_design[line.split(',')[0]]!r},", 1) for line in lines[1:]]
    (tmp_path / "readings.csv").write_text("\n".join([lines[0], *filled, *filled]))
    found = fit(PART, read_readings(tmp_path / "readings.csv"), "test", "2026-01-01").coefficients
    assert found["block_ram_access"].value == pytest.approx(TRUE["block_ram_access"], rel=1e-3)
    with pytest.raises(LuternError, match="holds something that is no number"):
        read_readings(tmp_path / "activity.csv")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no readings"),
        ("design,net_toggle\na,1\n", "no column watts"),
        ("design,watts\na,-1\n", r"reading 1 holds '-1', but must hold a number from 0 to 1e\+06; leave that row out"),
        ("design,watts,net_toggle\na,1,inf\n", r"reading 1 holds 'inf', but must hold a number from 0 to 1e\+18"),
        ("design,watts\na,\x07\n", r"reading 1 holds something that is no number \('\\x07'\); leave"),
        ("design,watts\n" + "a" * 70_000 + ",1\n", "has a line of more than 65536 characters"),
    ],
)
def test_readings_that_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(LuternError, match=sentence):
        read_readings(tmp_path / "r.csv")


def test_joules_of_a_token() -> None:
    """Dynamic and static joules are added. Static power comes from the calibration, or otherwise from the data
    sheet."""
    shipped, mine = load(), fit(PART, readings(1e-4), "test", "2026-01-01")
    events = {"net_toggle": 1e7, "register_clock": 1e7, "block_ram_access": 0.0}
    found = estimate(PART, shipped, events, seconds=0.01)
    assert [term.name for term in found.terms] == ["net_toggle", "register_clock"]
    assert found.dynamic.low < found.dynamic.value < found.dynamic.high
    assert found.joules.value == pytest.approx(1e7 * (7.7e-14 + 7.7e-15) + 0.298 * 0.01)
    assert found.watts.value == pytest.approx(found.joules.value / 0.01)
    assert static_watts(PART, mine).value == pytest.approx(0.31, rel=0.01)
    with pytest.raises(LuternError, match="no coefficient for memory_byte"):
        estimate(PART, mine, {"memory_byte": 1.0}, 0.01)
    with pytest.raises(LuternError, match="static power of iCE40 is not known"):
        static_watts("iCE40", shipped)


def test_joules_of_layers_are_those_of_the_token() -> None:
    """The joules of the parts add up to those of the token. A part without toggles still has the joules of its
    clock."""
    known = load()
    windows = {"row": (0, 10), "layer 0": (500, 100), "head": (40, 20)}
    parts = of_windows("LFE5U-25F", known, windows, 70, 3, 1e8)
    whole = estimate(
        "LFE5U-25F", known, {"net_toggle": 540, "register_clock": 70 * 130, "block_ram_access": 3 * 130}, 130 / 1e8
    ).dynamic
    for name in ("value", "low", "high"):
        assert sum(getattr(part, name) for part in parts.values()) == pytest.approx(getattr(whole, name))
    assert 0 < parts["row"].value < parts["head"].value < parts["layer 0"].value
