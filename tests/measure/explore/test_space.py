"""The space of the search: every choice is a machine that a file can describe, with enough memory for the model, or is
refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lutern.boards.catalog import BOARDS, find_board
from lutern.firmware.limits import lacks
from lutern.hw.machines import machine_text, read_machine
from lutern.hw.presets import preset
from lutern.measure.explore.judge import Question, job_of, reason_against
from lutern.measure.explore.space import dimensions, machine_of
from lutern.measure.explore.target import Target, board_target, clock_of, device_target
from lutern.measure.resources import resources
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

MODEL = ModelConfig(vocab_size=30, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
TARGETS = {
    "sdram": board_target(find_board("ulx3s-25f"), ["block", "sdram", "host"]),
    "ddr3": board_target(find_board("ecpix5-85f")),
    "device": device_target(50_000, 100, 60, ["block", "port", "sdram", "ddr3"], dram="ddr4"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_every_choice(name: str, tmp_path: Path) -> None:
    """The machine of the file equals the machine that is judged, and all its memories are deep enough."""
    seed = 5
    draw, target, kinds, count = random.Random(seed), TARGETS[name], set(), 0
    space = dimensions(target, 4)
    for _ in range(60):
        choice = {one.name: draw.choice(one.choices) for one in space}
        found = job_of(Question("it", MODEL, 16, target, 4), choice)
        if isinstance(found, str):
            continue
        machine, config = machine_of(choice, target, MODEL, 16)
        (tmp_path / "mine.toml").write_text(machine_text(machine))
        known = read_machine(tmp_path / "mine.toml")
        of_file = find_board(target.board).config(known.config, **known.clocks) if target.board else known.config
        if not target.board:
            of_file = of_file.with_(debug_tap=False, cells="ecp5")
        assert of_file == config == found[1], f"seed {seed}, {choice}"
        assert not lacks(MODEL, config, 16), f"seed {seed}, {choice}"
        used = resources(config)
        assert used.block_rams <= target.block_rams and used.multipliers <= target.multipliers
        count, kinds = count + 1, kinds | {config.memory}
    assert count > 20 and kinds == set(target.memories), f"seed {seed}: {count} machines of {kinds}"


def test_machines_that_do_not_fit_are_pruned() -> None:
    """The first exceeded limit prunes a machine before its estimate is computed."""
    config = board_target(find_board("ulx3s-85f")).fitted(preset("sim-64"))
    used = resources(config)
    enough = {"luts": round(used.placed_luts), "block_rams": used.block_rams, "multipliers": used.multipliers}
    small = ModelConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, intermediate_size=32)

    def reason(model: ModelConfig = small, **limits: int) -> str | None:
        return reason_against(Question("it", model, 16, device_target(**{**enough, **limits})), config)

    assert reason() is None
    for field, what in (("luts", "LUT"), ("block_rams", "block RAMs"), ("multipliers", "multipliers")):
        text = f"{enough[field]:,} {what} are needed, a device of "
        assert (reason(**{field: enough[field] - 1}) or "").startswith(text)
    wide = ModelConfig(vocab_size=30, hidden_size=32, num_hidden_layers=1, intermediate_size=1024)
    assert "intermediate size is 1024, but sim-64 holds at most 512" in (reason(wide) or "")


def test_clocks_are_those_of_routed_machines() -> None:
    for name in ("resident-25f", "resident-85f"):
        assert clock_of(preset(name).lanes) == preset(name).clock_hz
    assert clock_of(1024) < preset("resident-1024").clock_hz  # which has a floor plan of its own
    clocks = [clock_of(lanes) for lanes in (1, 64, 128, 200, 300, 400, 512, 700, 1024, 4096)]
    assert clocks == sorted(clocks, reverse=True) and clocks[0] == 75_000_000 and clocks[-1] == 50_000_000


def test_targets() -> None:
    part = board_target(find_board("ulx3s-25f"), [], 0, (8000, None, 10))
    assert (part.luts, part.block_rams, part.multipliers) == (8000, 56, 10)
    board = board_target(find_board("ecpix5-85f"), [], 60_000_000)
    assert board.memories == ("block", "ddr3") and board.clock_for(8) == 60_000_000
    assert all(dict(board_target(one).words)["block"] for one in BOARDS.values())
    assert device_target(20_000, 50, 0).multipliers == 28 and device_target(20_000, 50, 0).part == "LFE5U-12F"
    assert device_target(10**6, 50, 0).part.endswith("85F")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((["ddr3"],), "--memory is ddr3, but ulx3s-25f has block, sdram, host; choose one of these."),
        ((1000, 10, 5, ["tape"]), "there is no memory tape; choose one of block, sdram, ddr3, host, port."),
        ((1000, 10, 5, ["port"]), "--dram says what the memory at a port is (sdram, ddr3, ddr4, hbm2), so it is for"),
        ((1000, 10, 5, ["block"], 0, "ddr4"), "--dram says what the memory at a port is (sdram, ddr3, ddr4, hbm2)"),
        ((1000, 10, 5, ["port"], 0, "ddr9"), "--dram says what the memory at a port is (sdram, ddr3, ddr4, hbm2)"),
    ],
)
def test_no_such_target(arguments: tuple[object, ...], text: str) -> None:
    def make() -> Target:
        board = find_board("ulx3s-25f")
        return board_target(board, *arguments) if len(arguments) == 1 else device_target(*arguments)  # type: ignore[arg-type]

    with pytest.raises(LuternError) as error:
        make()
    assert str(error.value).startswith(text)
