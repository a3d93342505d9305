"""Machines beyond the presets: single fields are changed, and machine files are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lutern.hw.config import HwConfig
from lutern.hw.machines import choose_machine, derive, machine_text, read_machine
from lutern.hw.presets import PRESETS, preset
from lutern.measure.resources import resources
from lutern.model_ref.errors import LuternError


def block_rams(config: HwConfig) -> float:
    return resources(config).block_rams


def test_depths_follow_lanes() -> None:
    """Eight times as many lanes need an eighth of the beats. A depth that the user sets does not change."""
    wide = choose_machine("sim-64", ["rows=32"]).config
    assert wide.lanes == 512 and wide.trit_beats == preset("sim-64").trit_beats // 8
    assert block_rams(wide) <= block_rams(preset("sim-64"))
    kept = choose_machine("sim-64", ["rows=32", "trit_beats=32768"]).config
    assert kept.trit_beats == 32768 and block_rams(kept) > 1500


def test_depths_follow_words_and_streams() -> None:
    base = preset("stream-x64")
    narrow = derive(base, {"word_bytes": 4, "streams": 4})
    assert narrow.memory_words * narrow.word_bytes == base.memory_words * base.word_bytes
    assert narrow.max_state == 4 * base.max_state
    assert derive(preset("stream-x64"), {"streams": 4, "max_state": 7}).max_state == 7


@pytest.mark.parametrize("name", PRESETS)
def test_without_changes_a_preset_stays_the_same(name: str) -> None:
    assert derive(preset(name), {}) is not None and derive(preset(name), {}) == preset(name)
    same = derive(preset(name), {"clock_hz": preset(name).clock_hz}, name)
    assert same == preset(name)


def test_names() -> None:
    """Machines with different fields have different names, which begin with the preset's name."""
    two = [choose_machine("sim-64", [f"rows={rows}"]).config.name for rows in (8, 16)]
    assert len(set(two)) == 2 and all(name.startswith("sim-64-") for name in two)
    assert choose_machine("sim-64", ["rows=8"]).config == choose_machine("sim-64", ["rows=8"]).config
    assert choose_machine("sim-64", ["rows=8"]).title.endswith(" (sim-64 with rows=8)")


def test_a_machine_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# half the lanes\nfrom = "resident-85f"\nrows = 16\nclock_hz = 60_000_000\ncounters = true\n')
    machine = read_machine(file)
    assert machine.config == derive(
        preset("resident-85f"), {"rows": 16, "clock_hz": 60_000_000, "counters": True}, "mine"
    )
    assert machine.title == "mine (resident-85f with rows=16, clock_hz=60000000, counters=true)"
    assert machine.clocks == {"clock_hz": 60_000_000}
    again = tmp_path / "again.toml"
    again.write_text(machine_text(machine))
    assert read_machine(again) == machine
    changed = choose_machine(settings=["columns=8"], file=file)
    assert changed.base == "resident-85f" and changed.config.columns == 8 and changed.config.rows == 16
    assert changed.config.name == f"mine-{changed.config.with_(name='mine').digest[:8]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows = 16", "does not say what it is derived from; add a line such as from = "),
        ("from = 3", "does not say what it is derived from"),
        ('from = "none"', "there is no preset none; choose one of tiny, "),
        ('from = "tiny"\nlines = 3', "'lines' is no field of a machine; choose one of rows, "),
        ('from = "tiny"\ntokens = 3', "'tokens' is no field of a machine; it is called streams now."),
        ('from = "tiny"\nrows = "8"', "rows is '8'; give a whole number."),
        ('from = "tiny"\nrows = true', "rows is 'True'; give a whole number."),
        ('from = "tiny"\nrows = -1', "rows is '-1'; give a whole number."),
        ('from = "tiny"\nrows = 256', "m: rows / results_per_cycle is 256; fields of the gateware hold 1 to 255."),
        ('from = "tiny"\nname = "a/b"', "a machine cannot be called 'a/b'; add a line such as name = "),
        ('from = "tiny"\nname = "sim-64"', "a machine cannot be called 'sim-64'"),
        ('from = "tiny', "is no TOML ("),
        ("\xff", "is no TOML ("),
    ],
)
def test_refused_files(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "m.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(LuternError) as refused:
        read_machine(file)
    assert said in str(refused.value)


def test_no_file(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.toml", "cannot be read ("), (tmp_path, "is a folder, no plain file")):
        with pytest.raises(LuternError) as refused:
            read_machine(path)
        assert said in str(refused.value)
    with pytest.raises(LuternError, match="are two machines; give one of them"):
        choose_machine("tiny", file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rows=x", "--set rows=x: rows is 'x'; give a whole number."),
        ("counters=1", "--set counters=1: counters is '1'; give true or false."),
        ("lines=3", "--set lines=3 changes no field of a machine; give NAME=VALUE, choose one of rows, "),
        ("name=x", "--set name=x changes no field of a machine;"),
        ("rows", "--set rows changes no field of a machine;"),
        ("rows=-3", "--set rows is -3; give a whole number from 0 to 1,000,000,000."),
        ("rows=0", "rows is 0; give a number from 1 on."),
        ("memory=tape", "memory is 'tape'; choose one of block, "),
    ],
)
def test_refused_settings(setting: str, said: str) -> None:
    with pytest.raises(LuternError) as refused:
        choose_machine("sim-64", [setting])
    assert said in str(refused.value)
