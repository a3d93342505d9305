"""Manages the output folder of a run: checks whether the run may use the folder, finds the last save, removes old
files.

    OUT/config.json, model.safetensors, tokenizer.json ...   a finished model, which only ``force`` replaces
    OUT/training/step-N/, OUT/teacher-I/step-N/              saves, which ``resume`` continues or ``force`` removes
    OUT/data/                                                the prepared data (prepare.py)

The files of a model are first written into an unfinished folder. At the end these files are moved to OUT, config.json
last. So a folder that contains config.json is finished. This module does not need PyTorch.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lutern.model_ref.checkpoint import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import refused_output
from lutern.model_ref.text import read_json
from lutern.model_ref.tokenizer import TOKENIZER_FILE
from lutern.train.options import TrainOptions
from lutern.train.prepare import DATA
from lutern.train.vocabulary import COMPANIONS

TRAINING, TEACHER = "training", "teacher-{}"
STATE_FILE = "state.json"
"""The file of a save that contains the options, the step and the record. This file is written last."""
REPORT_FILE = "training_report.json"
MAX_STATE_BYTES = 1 << 26
_STEP = re.compile(r"step-(\d{1,12})")
_SAVES = re.compile(r"training|teacher-\d{1,4}")


def step_folder(step: int) -> str:
    """Return the name of the folder of one save."""
    return f"step-{step:08d}"


def last_save(folder: Path) -> Path | None:
    """Return the newest complete save in OUT/training or OUT/teacher-I."""
    found = [path for path in folder.glob("step-*") if _STEP.fullmatch(path.name) and (path / STATE_FILE).is_file()]
    return max(found, key=lambda path: int(path.name[5:]), default=None)


def claim(out: Path, options: TrainOptions) -> None:
    """Make the output folder. If ``force`` is set, remove the saves of an earlier run.

    Raises ``LuternError`` if the folder contains a model or a run that the options do not allow to replace.
    """
    if out.is_symlink() and not out.exists():
        raise LuternError(f"{out} is a link that leads to no folder; correct the link, or give another --out.")
    if out.exists() and not out.is_dir():
        raise LuternError(f"{out} is a file, but --out must be a folder for the model; give another name.")
    if options.start_from is not None and out.exists() and out.samefile(options.start_from):
        raise LuternError(f"--out and --from are both {out}, and the model there would be lost; give another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        saves = [path for path in out.iterdir() if _SAVES.fullmatch(path.name) and path.is_dir()]
        saved = [save for path in saves if (save := last_save(path)) is not None]
        finished = (out / CONFIG_FILE).exists() or (out / INDEX_FILE).exists()
        finished = finished or ((out / WEIGHTS_FILE).exists() and not (saved and options.resume))
        if options.force:
            for path in (*saves, out / DATA):
                shutil.rmtree(path, ignore_errors=True)
            return
    except OSError as error:
        raise refused_output(out, error) from error
    if finished and options.resume:
        raise LuternError(
            f"{out} holds a finished model, so there is nothing to resume; use it, or give another --out."
        )
    if finished:
        raise LuternError(f"{out} holds a finished model; give another --out, or --force to replace it.")
    if saved and not options.resume:
        where = max(saved, key=lambda save: (save.parent.name == TRAINING, save.name))
        raise LuternError(
            f"{out} holds a run that was saved as {where.relative_to(out)}; give --resume to continue it, or --force "
            "to begin anew."
        )
    if options.resume and not saved:
        raise LuternError(f"{out} has no save to resume from; leave --resume out to begin.")


def release(out: Path, options: TrainOptions) -> None:
    """Remove the files that a refused run has prepared. Then remove its folder if the folder is empty."""
    if not options.resume:
        shutil.rmtree(out / DATA, ignore_errors=True)
    with suppress(OSError):
        out.rmdir()


def clear_stale(out: Path, written: Mapping[str, bytes]) -> None:
    """Remove files of an earlier model that would change how the new model is read."""
    old = [name for name in (INDEX_FILE, TOKENIZER_FILE, *COMPANIONS) if name not in written]
    for path in [*(out / name for name in old), *out.glob("model-*-of-*.safetensors")]:
        path.unlink(missing_ok=True)


def read_state(save: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state file of a save. Raises ``LuternError`` if the save was made with other ``settings``."""
    state = read_json(save / STATE_FILE, MAX_STATE_BYTES)
    before = state.get("settings")
    if not isinstance(before, dict) or type(state.get("step")) is not int or not isinstance(state.get("record"), list):
        raise LuternError(f"{save / STATE_FILE} is not the state of a save; train anew in another folder.")
    for name, value in settings.items():
        if before.get(name) != value:
            raise LuternError(
                f"{save} was trained with {name} {before.get(name)!r}, but now it is {value!r}; "
                "resume with the same options or train anew in another folder."
            )
    return state


__all__ = [
    "REPORT_FILE",
    "STATE_FILE",
    "TEACHER",
    "TRAINING",
    "claim",
    "clear_stale",
    "last_save",
    "read_state",
    "release",
    "step_folder",
]
