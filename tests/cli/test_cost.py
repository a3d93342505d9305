"""`lutern cost` as a user runs it."""

from __future__ import annotations

import pytest

from lutern.hw.presets import preset
from processes import Finished, lutern


def run(*arguments: str) -> Finished:
    """Run `lutern cost`."""
    return lutern("cost", *arguments)


@pytest.mark.parametrize("blocks", [["norn"], ["lanes", "ternary"]])
def test_no_such_block(blocks: list[str]) -> None:
    done = run(*blocks)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"lutern: there is no block {blocks[0]}; choose among activation, ")


def test_check_of_a_machine_that_holds_no_model() -> None:
    done = run("check", "--preset", "tiny")
    assert done.returncode == 1
    assert done.stderr == "lutern: tiny holds none of 370m, demo, demo-small; choose a machine that does.\n"


@pytest.mark.slow
def test_check() -> None:
    done = run("check", "--preset", "resident-25f")
    assert done.returncode == 0, done.stderr
    names, values = (line.split("\t") for line in done.stdout.splitlines())
    row = dict(zip(names, values, strict=True))
    assert (row["preset"], row["model"], row["DP16KD"]) == ("resident-25f", "demo-small", "0")
    assert int(row["LUT4"]) > preset("resident-25f").beat_bits  # each bit of a word costs at least one LUT


@pytest.mark.slow
def test_a_block() -> None:
    done = run("code_memory", "--preset", "resident-85f")
    assert done.returncode == 0, done.stderr
    names, values = (line.split("\t") for line in done.stdout.splitlines())
    row = dict(zip(names, values, strict=True))
    assert (row["block"], row["DP16KD"], row["DPR16X4"]) == ("code_memory", "0", "64")  # 16 words of 256 bits


@pytest.mark.slow
def test_lanes() -> None:
    done = run("lanes", "--most-lanes", "16")
    assert done.returncode == 0, done.stderr
    names, values = (line.split("\t") for line in done.stdout.splitlines())
    row = dict(zip(names, values, strict=True))
    assert (row["lanes"], row["rows x columns"], row["seed"]) == ("16", "2 x 8", "1")
    assert float(row["LUT4/lane"]) < float(row["tree LUT4/lane"])
