"""Logs of a meter: accepted logs, refused logs, and the joules of logs that were made from known values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lutern.measure.meter import (
    Log,
    hwmon_reader,
    i2c_reader,
    ina_watts,
    joules_per_token,
    open_meter,
    read_csv,
    sample,
)
from lutern.model_ref.errors import LuternError

SEED = 3


def log(watts: float, noise: float, count: int = 400) -> Log:
    random = np.random.default_rng(SEED + round(1000 * watts))
    return Log("made", np.arange(count) / 20, watts + noise * random.standard_normal(count))


def test_known_joules() -> None:
    """20 s at 1.5 W, with 0.9 W when idle, give 3 mJ for each of 4000 tokens. The interval contains this value and is
    narrow."""
    found = joules_per_token(log(0.9, 0.02), log(1.5, 0.05), 4000)
    wanted = 0.6 * (399 / 20) / 4000
    assert found.joules.low < wanted < found.joules.high
    assert found.joules.high - found.joules.low < 0.05 * wanted
    assert found.joules_total.value == pytest.approx(2.5 * wanted, rel=0.01)
    assert joules_per_token(log(0.9, 0.02), log(1.5, 0.05), 4000) == found, "the interval must be seeded"


def test_more_noise_gives_a_wider_interval() -> None:
    widths = [joules_per_token(log(0.9, noise), log(1.5, noise), 10).joules for noise in (0.01, 0.1)]
    assert widths[1].high - widths[1].low > 5 * (widths[0].high - widths[0].low)


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("Seconds,volts,Power_W\n" + "".join(f"{i / 10},5.0,{1 + i / 100}\n" for i in range(12)))
    found = read_csv(path)
    assert (len(found.seconds), found.watts[3], found.duration) == (12, 1.03, pytest.approx(1.1))


ROWS = [f"{i},1.0" for i in range(10)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time,amps\n1,2\n", r"log\.csv has the columns time, amps, but none for watts; name one of them watts or"),
        ("", r"has the columns of no reading, but none for time"),
        ("time,watts\n" + "\n".join(ROWS[:3]), r"has 3 readings, but an interval needs at least 8; measure longer\."),
        ("time,watts\n" + "\n".join([*ROWS, "10,much"]), r"holds something that is no number"),
        ("time,watts\n" + "\n".join([*ROWS, "10"]), r"holds something that is no number"),
        ("time,watts\n" + "\n".join([*ROWS, "5,1.0"]), r"reading 11 is not later than the one before; sort"),
        (
            "time,watts\n" + "\n".join([*ROWS, "10,-0.1"]),
            r"reading 11 holds '-0.1', but must hold a number from 0 to 1e\+06",
        ),
        (
            "time,watts\n" + "\n".join([*ROWS, "10,inf"]),
            r"reading 11 holds 'inf', but must hold a number from 0 to 1e\+06",
        ),
        ("time,watts\n" + "\n".join([*ROWS, "10,1e999"]), r"reading 11 holds '1e999', but must hold a number"),
        ("time,watts\n" + "\n".join([*ROWS, "10,\x1b[2J"]), r"no number \('\\x1b\[2J'\); leave that row out"),
        ("time,watts\n" + "\n".join([*ROWS, '10,"1']), r"cannot be read as CSV \(unexpected end of data\); give a log"),
        ("time,watts\n" + "9" * 70_000, r"has a line of more than 65536 characters; give a log with columns time"),
        (",".join(f"c{i}\x1b" for i in range(100)), r"columns 'c0\\x1b', .*, 'c7\\x1b' and 92 more, but none for time"),
        (
            "time,watts\n" + "\n".join([*ROWS, "nan,1.0"]),
            r"reading 11 holds 'nan', but must hold a number from -1e\+12 to 1e\+12; leave that row out",
        ),
    ],
)
def test_logs_that_are_refused(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(LuternError, match=sentence):
        read_csv(tmp_path / "log.csv")


def test_missing_log(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"cannot be read as CSV .* give a log with columns time and watts"):
        read_csv(tmp_path / "none.csv")


def test_a_run_without_tokens() -> None:
    with pytest.raises(LuternError, match=r"^the run made 0 tokens, so there are no joules per token; let it run l"):
        joules_per_token(log(1, 0), log(2, 0), 0)


def test_registers_of_the_chips() -> None:
    """These are examples of the data sheets. INA226: 12 V are 0x2570 in steps of 1.25 mV (9584: 11.98 V), and 10 A
    through 2 mOhm are 20 mV, which are 8000 steps. INA219: 5 V are 1250 steps above three low bits, and -1 mV is -100
    steps."""
    assert ina_watts("ina226", 0x2570, 8000, 0.002) == pytest.approx(119.8)
    assert ina_watts("ina219", 1250 << 3 | 2, 0x10000 - 100, 0.1) == pytest.approx(-0.05)


def test_hwmon(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"^no INA219 or INA226 is in .*; load the driver ina2xx"):
        hwmon_reader(tmp_path)
    for index, name in enumerate(("coretemp", "ina226")):
        folder = tmp_path / f"hwmon{index}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "power1_input").write_text("1250000\n")
    read = hwmon_reader(tmp_path)
    assert read() == pytest.approx(1.25)


def test_a_meter_that_vanishes(tmp_path: Path) -> None:
    """The meter disappears during the run, as if its cable were unplugged, because its file is removed."""
    folder = tmp_path / "hwmon0"
    folder.mkdir()
    (folder / "name").write_text("ina219\n")
    (folder / "power1_input").write_text("900000\n")
    readings = sample(hwmon_reader(tmp_path), 1000, lambda: True)
    assert [next(readings)[1] for _ in range(3)] == [pytest.approx(0.9)] * 3
    (folder / "power1_input").unlink()
    with pytest.raises(LuternError, match=r"^the meter stopped answering after 3 readings .*; check its cable"):
        next(readings)


@pytest.mark.parametrize("text", ["1:0x40:ina226", "1:0x40:max34:0.1", "x:0x40:ina226:0.1", "1:0x40:ina226:0"])
def test_chips_that_are_not_understood(text: str) -> None:
    with pytest.raises(LuternError, match=r"is not understood; give i2c:BUS:ADDRESS:CHIP:OHM"):
        i2c_reader(text)


def test_missing_meters() -> None:
    with pytest.raises(LuternError, match=r"^the meter at i2c:99:0x40:ina226:0.1 cannot be opened \(No such file"):
        open_meter("i2c:99:0x40:ina226:0.1")
    with pytest.raises(LuternError, match=r"^there is no meter wattsup; give hwmon, or i2c"):
        open_meter("wattsup")
