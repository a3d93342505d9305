"""Campaigns on a small board whose check of the weights can be switched off. Without the check, faults are silent."""

import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lutern.cli import inject
from lutern.cli.commands import app
from lutern.hw.presets import preset
from lutern.measure.cluster import workers
from lutern.measure.inject.campaign import Outcome, Settings
from lutern.measure.inject.campaigns import CAMPAIGNS, SMALL_MACHINE, SMALL_MODEL, campaign_of, open_campaign
from lutern.measure.inject.chip import Codes, Control, ResidentWeights, Setup, State
from lutern.measure.inject.memory import Bits, DrawnCampaign, Refresh, Row, Weights
from lutern.measure.inject.results import ResultsFile
from lutern.measure.inject.spread import spread_faults
from lutern.measure.inject.trial import Bench, Scenario, StruckBoard
from lutern.measure.inject.workers import map_faults
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import simulated
from lutern.sim.convert import convert_rtlil, convert_verilog, registered_resets
from lutern.sim.upsets import with_upsets
from lutern.sim.verilate import verilate_text

SEED = 1
FRESH = Scenario(has_past=False, count=1)
SWITCH = 1 << 31
"""An address bit of an upset that switches the check off. No memory is large enough to use this bit."""


def with_a_switch(verilog_text: str) -> str:
    """Return the Verilog of a board whose signatures are never wrong while the switch is on."""
    changed, count = re.subn(
        r"^    bad <= (\(.*?\)) \^ ", r"    bad <= (\1 & ~{top.upset_address[31]}) ^ ", verilog_text, flags=re.MULTILINE
    )
    assert count == 2, "records and rows must have one register `bad` each"
    return changed


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Return the settings of a campaign without a name."""
    component = simulated(SMALL_MACHINE)
    rtlil_text = convert_rtlil(component)

    def make() -> str:
        return with_a_switch(with_upsets(registered_resets(convert_verilog(rtlil_text))))

    library = verilate_text(component, make, rtlil_text, "with upsets and a switch of the check", upsets=True)
    return Settings("", SEED, SMALL_MACHINE, integer_weights(random_checkpoint(SMALL_MODEL, SEED)), library)


def with_less_to_load(settings: Settings) -> Settings:
    """Return the same settings with a model that has a seventh of the words."""
    shape = ModelConfig(vocab_size=6, hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    return replace(settings, weights=integer_weights(random_checkpoint(shape, SEED)))


def opened(settings: Settings, name: str) -> Any:
    return open_campaign(replace(settings, campaign=name))


def outcomes(settings: Settings, name: str, count: int) -> list[Outcome]:
    campaign = opened(settings, name)
    return [campaign.outcome(index) for index in range(count)]


def results(found: list[Outcome]) -> Counter[str]:
    return Counter(outcome.result for outcome in found)


@pytest.mark.parametrize("name", ["weights", "row", "refresh"])
def test_damage_before_a_run_is_corrected(settings: Settings, name: str) -> None:
    """One fault of each kind is corrected, with and without an earlier conversation, if the run reads damaged words."""
    campaign: DrawnCampaign = opened(settings, name)
    for index, kind in enumerate(campaign.kinds):
        draw, scenario = random.Random(f"{SEED} {kind}"), Scenario(index % 4 == 0, 1)
        result, note = campaign.strike_at(0, kind, draw, index, scenario)
        assert result == "corrected", f"seed {SEED}, {kind}: {note}"


def test_bits(settings: Settings) -> None:
    """The campaign ends with the last bit of the block."""
    campaign: Bits = opened(settings, "bits")
    block = min(count for _, count in campaign.program.blocks)
    assert campaign.fault_count == block * SMALL_MACHINE.word_bits
    found = [campaign.outcome(index) for index in (0, campaign.fault_count // 2, campaign.fault_count - 1)]
    assert results(found) == {"corrected": 3}, found


def test_the_next_token_changes_no_logits(settings: Settings) -> None:
    """The first operation of the next token is damaged after the token was chosen, but the machine reads it before the
    host reads the logits. The logits stay correct."""
    outcome = opened(settings, "weights").outcome(16_011)
    assert (outcome.kind, outcome.result) == ("address", "masked"), f"seed {SEED}: {outcome}"
    assert "words 1 to 3 hold the words from 2506 on" in outcome.note, outcome


def test_no_fault_is_silent(settings: Settings) -> None:
    """Faults hit the memory in any cycle, and the line at any byte. All of them are corrected or have no effect."""
    for name, count, of in (("weights", 10, settings), ("row", 4, settings), ("link", 8, with_less_to_load(settings))):
        found = outcomes(of, name, count)
        assert not {"silent", "hung", "detected"} & set(results(found)), f"{name}, seed {SEED}: {found}"
        assert results(found)["corrected"], f"{name}, seed {SEED}: {found}"


def test_a_killed_host_is_always_corrected(settings: Settings) -> None:
    found = outcomes(with_less_to_load(settings), "kill", 6)
    assert results(found) == {"corrected": 6}, f"seed {SEED}: {found}"


def test_only_the_check_finds_flips_that_change_results(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check, some flipped bits change the results. With the check, all of these bits are corrected."""
    campaign: Bits = opened(settings, "bits")
    board_of = Bench.board

    def unchecked(bench: Bench, *, is_loaded: bool = True) -> StruckBoard:
        board = board_of(bench, is_loaded=is_loaded)
        board.upset_memory(0, SWITCH, 1)
        return board

    monkeypatch.setattr(Bench, "board", unchecked)
    found = [campaign.outcome(index) for index in range(2000, 18000, 2000)]
    assert results(found)["silent"] > 1 and not any("Block" in outcome.note for outcome in found), found


def test_state_has_no_check(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flips of the highest bits of S between two tokens change the logits without an error. Flips of codes of a
    finished token change nothing."""
    state: State = opened(settings, "state")
    s_memory = next(each for each in state.memories if each.name == "s_memory")

    def high_bits(board: StruckBoard) -> None:
        for address in range(SMALL_MODEL.hidden_size):
            board.upset_memory(s_memory.number, address, 1 << s_memory.bits - 2)

    draw = random.Random(SEED)
    monkeypatch.setattr(draw, "randrange", lambda *_: 0)
    assert state.at_a_cycle(draw, high_bits, "S")[0] == "silent"
    codes: Codes = opened(settings, "codes")
    assert codes.strike("codes", draw, 0)[0] == "masked"
    found = outcomes(settings, "state", 4)
    assert set(results(found)) <= {"masked", "silent"}, f"seed {SEED}: {found}"


def test_control_and_setup(settings: Settings) -> None:
    """A block that is wrong only in the check's register, and a wrong image number, are corrected like damage."""
    control: Control = opened(settings, "control")
    assert sum(each.bits for each in control.registers) > 5000
    register = next(each for each in control.registers if each.path.endswith("check.records") and each.name == "bad")
    with control.bench.board() as board:
        result, note = control.bench.judge(
            board, FRESH, lambda _: board.strike(500, lambda: board.upset_register(register.first))
        )
    assert result == "corrected" and "Block 0 of the weights" in note, note
    setup: Setup = opened(settings, "setup")
    assert setup.strike("image", random.Random(SEED), 0)[0] == "corrected"
    found = outcomes(settings, "control", 4)
    assert {outcome.kind for outcome in found} <= set(control.kinds), f"seed {SEED}: {found}"


def test_a_killed_campaign_continues(settings: Settings, tmp_path: Path) -> None:
    """A campaign of two processes is killed and continued in one process. It has the outcomes of an uninterrupted
    one."""
    of_bits, path, about = replace(settings, campaign="bits"), tmp_path / "out.jsonl", {"campaign": "bits"}
    (tmp_path / "settings").write_bytes(pickle.dumps(of_bits))
    script = tmp_path / "campaign.py"
    script.write_text(
        "import pickle, sys\n"
        "from pathlib import Path\n"
        "from lutern.measure.inject.results import ResultsFile\n"
        "from lutern.measure.inject.workers import map_faults\n"
        "if __name__ == '__main__':\n"
        "    here = Path(sys.argv[0]).parent\n"
        "    settings = pickle.loads((here / 'settings').read_bytes())\n"
        "    with ResultsFile(here / 'out.jsonl', {'campaign': 'bits'}) as results:\n"
        "        for outcome in map_faults(settings, range(1000), 2):\n"
        "            results.add(outcome)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    try:
        while not path.exists() or path.read_bytes().count(b"\n") < 5:
            assert process.poll() is None, "the campaign must not end before it is killed"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while _group_lives(process.pid):  # the child processes end when their pipes close
            time.sleep(0.05)
    finally:
        if process.poll() is None or _group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    with ResultsFile(path, about) as kept:
        before = dict(kept.outcomes)
        assert 4 <= len(before) < 1000
        last = max(before)
        for outcome in map_faults(of_bits, [index for index in range(last + 2) if index not in before], 1):
            kept.add(outcome)
    with ResultsFile(path, about) as kept:
        assert sorted(kept.outcomes) == list(range(last + 2))
    assert before == {
        index: outcome for index, outcome in enumerate(outcomes(settings, "bits", last + 1)) if index in before
    }


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_of_a_cluster(settings: Settings) -> None:
    """The outcomes do not depend on which worker injects which faults."""
    pytest.importorskip("distributed", reason='needs the extra "explore"')
    of_bits = replace(with_less_to_load(settings), campaign="bits")
    with workers(2, processes=False) as crew:
        found = list(spread_faults(of_bits, "bits of a test", range(5), crew))
    assert sorted(found, key=lambda one: one.index) == outcomes(with_less_to_load(settings), "bits", 5)


def test_the_command(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inject, "verilate", lambda *_, **__: settings.library)
    path = tmp_path / "out.jsonl"
    command = ["inject", "row", "--faults", "3", "--seed", "7", "--out", str(path)]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0].split("\t")[:4] == ["kind", "injected", "masked", "detected"]
    assert lines[-2].split("\t")[:2] == ["all", "3"] and lines[-2].split("\t")[5:7] == ["0", "0"]
    assert lines[-1].startswith("campaign row, seed 7, machine tiny-streamed (")
    monkeypatch.setattr(inject, "map_faults", lambda *_: pytest.fail("all of them are there"))
    assert CliRunner().invoke(app, command).stdout == first.stdout
    for option, value in (("--seed", "8"), ("--preset", "sdram-x16")):
        with pytest.raises(LuternError, match="is of another campaign"):
            CliRunner().invoke(app, [*command, option, value], catch_exceptions=False)


def test_campaigns_that_need_upsets() -> None:
    for name, needs in (("weights", False), ("link", False), ("control", True), ("setup", True)):
        assert campaign_of(name, SMALL_MACHINE).needs_upsets == needs
    assert campaign_of("weights", preset("tiny")) is ResidentWeights
    assert CAMPAIGNS["weights"] is Weights and CAMPAIGNS["row"] is Row and CAMPAIGNS["refresh"] is Refresh
