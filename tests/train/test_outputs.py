"""An output folder is started, continued, and never overwritten. These tests do not need PyTorch."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lutern.model_ref.errors import LuternError
from lutern.train import ProcessError, TrainOptions, speaks
from lutern.train.gpus import peak_flops
from lutern.train.outputs import claim, clear_stale, last_save, read_state, release


def make_save(folder: Path, step: int, **settings: object) -> Path:
    save = folder / f"step-{step:08d}"
    save.mkdir(parents=True)
    (save / "state.json").write_text(json.dumps({"settings": settings, "step": step, "record": [], "average": 1.5}))
    return save


def test_a_finished_model_is_kept(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors.index.json", "model.safetensors"):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text("{}")
        with pytest.raises(LuternError, match="holds a finished model; give another --out, or --force to replace it"):
            claim(out, TrainOptions())
        with pytest.raises(LuternError, match="nothing to resume"):
            claim(out, TrainOptions(resume=True))
        claim(out, TrainOptions(force=True))
        assert (out / name).read_text() == "{}", "the old model must stay until there is a new one"


def test_a_run_that_was_saved_is_kept(tmp_path: Path) -> None:
    make_save(tmp_path / "teacher-0", 99)
    save = make_save(tmp_path / "training", 6)
    with pytest.raises(LuternError, match="saved as training/step-00000006; give --resume to continue it, or --force"):
        claim(tmp_path, TrainOptions())
    claim(tmp_path, TrainOptions(resume=True))
    (tmp_path / "model.safetensors").touch()  # as if the process was killed while it wrote the model
    claim(tmp_path, TrainOptions(resume=True))
    assert last_save(tmp_path / "training") == save
    make_save(tmp_path / "training", 12)
    (tmp_path / "training" / "step-00000018").mkdir()  # without state.json, this is not a save
    found = last_save(tmp_path / "training")
    assert found is not None and found.name == "step-00000012"
    claim(tmp_path, TrainOptions(force=True))
    assert not (tmp_path / "training").exists() and not (tmp_path / "teacher-0").exists()


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(LuternError, match="has no save to resume from"):
        claim(tmp_path, TrainOptions(resume=True))
    with pytest.raises(LuternError, match="--out and --from are both"):
        claim(tmp_path, TrainOptions(start_from=str(tmp_path), force=True))
    (tmp_path / "file").touch()
    with pytest.raises(LuternError, match="is a file, but --out must be a folder"):
        claim(tmp_path / "file", TrainOptions())
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(LuternError, match="is a link that leads to no folder"):
        claim(tmp_path / "link", TrainOptions())
    with pytest.raises(LuternError, match="cannot be written"):
        claim(tmp_path / "file" / "out", TrainOptions())


def test_a_refused_run_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim(out, TrainOptions())
    (out / "data").mkdir()
    release(out, TrainOptions())
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").touch()
    release(out, TrainOptions())
    assert (out / "notes.txt").exists()


def test_files_of_an_earlier_model_are_removed(tmp_path: Path) -> None:
    kept = ("tokenizer.json", "notes.txt", "model.safetensors")
    gone = ("generation_config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors")
    for name in (*kept, *gone):
        (tmp_path / name).touch()
    clear_stale(tmp_path, {"tokenizer.json": b""})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_other_options_are_refused(tmp_path: Path) -> None:
    save = make_save(tmp_path, 6, learning_rate=0.1, batch=4)
    assert read_state(save, {"learning_rate": 0.1, "batch": 4})["step"] == 6
    with pytest.raises(
        LuternError, match=r"was trained with learning_rate 0\.1, but now it is 0\.5; resume with the same"
    ):
        read_state(save, {"learning_rate": 0.5, "batch": 4})
    for text in ("{}", "[]", "{"):
        (save / "state.json").write_text(text)
        with pytest.raises(LuternError):
            read_state(save, {})


def test_schedules() -> None:
    assert TrainOptions().rate(1_000_000) == 8e-3
    paper = TrainOptions(schedule="paper")
    rates = [paper.rate(trits) for trits in (2_000_000, 341_049_344, 1_298_661_376, 2_619_473_920, 13_000_000_000)]
    assert rates == [4e-3, 4e-3, 2.5e-3, 1.5e-3, 1.5e-3]
    assert TrainOptions(schedule="paper", learning_rate=1e-3).rate(341_049_344) == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "linear"}, "schedule is 'linear', but must be cosine or paper"),
        ({"parallel": "tp"}, "parallel is 'tp', but must be ddp or fsdp"),
        ({"device": "tpu"}, "device is 'tpu', but must be cpu, cuda or auto"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"resume": True, "force": True}, "give one of the two"),
        ({"separator": ""}, "separator and column must be texts"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, object], message: str) -> None:
    with pytest.raises(LuternError, match=message):
        TrainOptions(**options)  # type: ignore[arg-type]


def test_only_one_process_reports_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert speaks(LuternError("a"))
    monkeypatch.setenv("RANK", "1")
    assert not speaks(LuternError("a")) and speaks(ProcessError("a"))


def test_peak_rates_are_found_by_the_gpu_name() -> None:
    names = {"NVIDIA H200": 989e12, "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA RTX A4000": None, "NVIDIA L40S": 362e12}
    assert {name: peak_flops(name) for name in names} == names
