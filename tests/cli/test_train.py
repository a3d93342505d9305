"""`lutern train` passes its options to the trainer, and refuses wrong options with one sentence."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lutern.train
from lutern.cli.commands import app
from lutern.cli.train import FLAGS, list_settings, parse_setting
from lutern.model_ref.errors import LuternError
from lutern.train import ProcessError, TrainOptions
from lutern.train.options import DEFAULTS

Calls = list[tuple[Path, Path, TrainOptions]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Return a list of the arguments of each call of the trainer. No network is trained."""
    made: Calls = []

    def train(text_path: Path, out_dir: Path, options: TrainOptions) -> dict[str, float]:
        made.append((text_path, out_dir, options))
        return {"trits": 1024, "validation_bits_per_character": 2.5}

    monkeypatch.setattr(lutern.train, "train", train)
    return made


def test_defaults(calls: Calls) -> None:
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model"])
    assert result.exit_code == 0, result.output
    assert calls == [(Path("text.txt"), Path("model"), TrainOptions())]
    assert result.stdout == "model: 1,024 trits, 2.5000 bits per character of the validation text.\n"


def test_options(calls: Calls) -> None:
    flags = "--steps 5 --seed 3 --device cpu --resume --set hidden_size=64 --set compile=false --tokenizer bpe:512 "
    flags += "--from other --schedule paper --parallel fsdp --set learning_rate=0.1 --set column=story"
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model", *flags.split()])
    assert result.exit_code == 0, result.output
    wanted = TrainOptions(
        steps=5,
        seed=3,
        device="cpu",
        resume=True,
        hidden_size=64,
        compile=False,
        tokenizer="bpe:512",
        start_from="other",
        schedule="paper",
        parallel="fsdp",
        learning_rate=0.1,
        column="story",
    )
    assert calls == [(Path("text.txt"), Path("model"), wanted)]


def test_every_other_option_can_be_set() -> None:
    for name, value in vars(TrainOptions()).items():
        if name in FLAGS:
            continue
        value = DEFAULTS.get(name, True) if value is None else value
        text = str(value).lower() if isinstance(value, bool) else str(value)
        assert parse_setting(f"{name}={text}") == (name, value)


def test_the_help_has_the_defaults() -> None:
    listed = list_settings()
    assert "hidden_size=256" in listed and "learning_rate=0.008" in listed and "accumulate=1" in listed


def test_force(calls: Calls) -> None:
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model", "--force"])
    assert result.exit_code == 0 and calls[0][2] == TrainOptions(force=True)


def test_only_the_first_process_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model", "--schedule", "none"])
    assert result.exit_code == 1 and not result.output

    def train(*_: object) -> dict[str, float]:
        raise ProcessError("process 1 of 2 stops.")

    monkeypatch.setattr(lutern.train, "train", train)
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model"])
    assert isinstance(result.exception, ProcessError)
    monkeypatch.setattr(lutern.train, "train", lambda *_: {})
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model"])
    assert result.exit_code == 0 and not result.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch", "give NAME=VALUE"),
        ("steps=5", "with a NAME from hidden_size, "),
        ("force=true", "give NAME=VALUE"),
        ("batch=ten", "batch needs a whole number"),
        ("dropout=some", "dropout needs a number"),
        ("compile=yes", "compile needs true or false"),
    ],
)
def test_settings_that_cannot_be_used(setting: str, message: str) -> None:
    with pytest.raises(LuternError, match=f"^--set {setting}: .*{message}"):
        parse_setting(setting)


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(app, ["train", "text.txt", "--out", "model"])
    assert isinstance(result.exception, LuternError)
    assert str(result.exception).startswith("training needs PyTorch, which is not installed; run: ")
    assert str(result.exception).rstrip("'").endswith("[train]")
