"""`lutern generate` as a user runs it: its text, its figures, and an error message for each wrong input."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from letters import save_letters
from lutern.firmware.limits import excess
from lutern.firmware.schedule import program_sizes
from lutern.hw.presets import PRESETS, preset
from lutern.model_ref.config import ModelConfig
from processes import Finished, lutern


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_letters(tmp_path / "model")


def run(*arguments: str, **environment: str) -> Finished:
    """Run `lutern generate`."""
    return lutern("generate", *arguments, **environment)


def assert_refused(done: Finished, sentence: str) -> None:
    """Check for one sentence on stderr, no text on stdout, and exit code 1."""
    assert done.stderr == f"lutern: {sentence}\n"
    assert (done.returncode, done.stdout) == (1, "")


def test_sim_and_golden_write_the_same(folder: Path) -> None:
    common = ("ab", "--model", str(folder), "-n", "12", "-t", "0.9", "--seed", "4")
    sim = run(*common, "--preset", "tiny", "--check")
    golden = run(*common, "--on", "golden")
    assert (sim.returncode, golden.returncode) == (0, 0), sim.stderr + golden.stderr
    assert sim.stdout == golden.stdout
    assert re.fullmatch(r"ab[ a-z]{12}\n", sim.stdout)
    assert "no difference" in sim.stderr
    cycles, of_model = re.search(r"([\d,]+) cycles/token \(cycle model ([\d,]+);", sim.stderr).groups()  # type: ignore[union-attr]
    assert cycles == of_model


def test_missing_checkpoint() -> None:
    assert_refused(
        run("--model", "nowhere"),
        "there is no model nowhere; give one of demo, demo-small, demo-large, or a folder with config.json and "
        "model.safetensors.",
    )


def test_truncated_checkpoint(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert_refused(
        run("ab", "--model", str(folder)),
        f"{path} is truncated or no safetensors file (lm_head.weight lies outside the file); fetch or write it again.",
    )


def test_another_model_type(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "llama"}))
    assert_refused(
        run("ab", "--model", str(folder)),
        "config: model_type is 'llama', but only 'hgrn_bit' is built; choose a checkpoint without that option.",
    )


def test_tensor_of_the_wrong_shape_or_missing(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 3}))
    done = run("ab", "--model", str(folder))
    assert_refused(
        done,
        f"{folder}/model.safetensors: model.lower_bounds has shape [2, 32], but config.json asks for [3, 32]; "
        "correct the config or the file.",
    )
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_lower_bound": False}))
    assert_refused(
        run("ab", "--model", str(folder)),
        f"{folder}/model.safetensors has no tensor model.layers.2.attn_norm.weight, which a model of 3 layers needs; "
        "restore the file or correct config.json.",
    )


def test_prompt_with_an_unknown_character(folder: Path) -> None:
    assert_refused(
        run("a$b", "--model", str(folder)),
        "the tokenizer has no token for '$' at position 1; leave that character out or write it differently.",
    )


def test_empty_prompt(folder: Path) -> None:
    assert_refused(
        run("", "--model", str(folder), "--on", "golden"), "the prompt is empty; give at least one character."
    )


def test_model_too_large_for_the_board(folder: Path) -> None:
    large = ModelConfig(vocab_size=27, hidden_size=96, num_hidden_layers=2, intermediate_size=64)
    tiny = preset("tiny")
    needed, held = (beats * tiny.beat_bytes for beats in (program_sizes(large, tiny).beats, tiny.trit_beats))
    save_letters(folder, large)
    assert_refused(
        run("ab", "--model", str(folder), "--preset", "tiny"),
        f"{folder} does not fit tiny: "
        f"the model needs {needed:,} bytes of block RAM for trits and embeddings, tiny has {held:,} (trit_beats): "
        f"{excess(needed, held)}; other limits are also exceeded: hidden size 96 (at most 64), state (layers x hidden "
        "size) 192 (at most 128); choose a machine that holds it, such as sim-64 (lutern inspect lists all).",
    )


def test_no_compiler(folder: Path, tmp_path: Path) -> None:
    """The command prints an error, and leaves no file in the cache."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("make", "perl"):
        (programs / name).symlink_to(str(shutil.which(name)))
    cache = tmp_path / "cache"
    done = run("ab", "--model", str(folder), "--preset", "tiny", PATH=str(programs), LUTERN_CACHE=str(cache))
    assert_refused(
        done, "No c++ on PATH: simulation compiles the gateware, so install g++ (Debian and Ubuntu: apt install g++)."
    )
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("--on", "fpga"),
            "there is nothing called fpga to run on; give one of sim, golden, a port such as /dev/ttyUSB0, or "
            "axi:/dev/uio0@BASE,BASE.",
        ),
        (
            ("--on", "golden", "--check"),
            "--check compares the simulated board with the integer model, and --on golden is not simulated; leave "
            "out --check.",
        ),
        (
            ("--on", "golden", "--record", "kept.txt"),
            "--record kept.txt records the traffic of a port, but --on golden has no port; leave out --record, or give "
            "the port of a board or of lutern board.",
        ),
        (("--preset", "huge"), f"there is no preset huge; choose one of {', '.join(PRESETS)}."),
        (("-t", "-1"), "the temperature is -1.0; give 0 (the likeliest) or a positive number."),
        (("--top-k", "-1"), "top-k is -1; give 0 (all tokens) or a positive number."),
    ],
    ids=["target", "check", "record", "preset", "temperature", "top-k"],
)
def test_options(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    assert_refused(run("ab", "--model", str(folder), *arguments), sentence)
