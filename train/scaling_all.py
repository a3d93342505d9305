"""Starts one process for each run of a scaling law, in a new folder or in a folder that is continued.

    plan ─► unfinished runs ─► prepare the data ─► processes, ``at_once`` in parallel ─► results

scaling.py lists the files. This module does not need PyTorch.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import refused_output, write_whole
from lutern.model_ref.text import read_json
from lutern.train import want_torch
from lutern.train.prepare import DATA, UNREAD_SHARE, load, prepare, refuse_short
from lutern.train.scaling import (
    LOG_FILE,
    MAX_BYTES,
    PLAN_FILE,
    RECORD_FILE,
    RUN_FILE,
    Plan,
    Result,
    Run,
    read_result,
    refuse_other_plan,
)

POLL_S = 0.3
ENDING_S = 10.0
"""Seconds after SIGTERM. A run that has not ended after this time is killed."""

Advance = Callable[[int, int, str], None]
"""A function that is called with the number of steps done, the number of all steps, and a text on the finished runs."""


def train_all(data: str | Path, out: Path, plan: Plan, advance: Advance) -> list[Result]:
    """Train the unfinished runs in ``out``, and return all results. The result of a stopped run is its last record."""
    refuse_other_plan(out, plan)
    left = [run for run in plan.runs if not (out / run.name / RUN_FILE).is_file()]
    if left:
        want_torch()
    _begin(data, out, plan)
    _start_all(out, plan, left, advance)
    return [_result_of(out, run) for run in plan.runs]


def _result_of(out: Path, run: Run) -> Result:
    for name in (RUN_FILE, RECORD_FILE):
        if (out / run.name / name).is_file():
            return read_result(out / run.name / name)
    raise LuternError(
        f"the run {run.name} was stopped before its first validation, so there is nothing to compare; give more "
        "--minutes; the same command continues the runs."
    )


def _begin(data: str | Path, out: Path, plan: Plan) -> None:
    """Prepare the data, or check the data of a folder that is continued. Then write the plan, which marks the folder as
    ready.
    """
    new = not (out / PLAN_FILE).exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused_output(out, error) from error
    try:
        prepare(data, out, plan.train_options())
        refuse_short(load(out), data, plan.sequence_length, UNREAD_SHARE)
    except BaseException:
        if new:
            _remove(out)
        raise
    write_whole(out / PLAN_FILE, json.dumps(plan.kept(), indent=2) + "\n")


def _remove(out: Path) -> None:
    """Remove the files that were prepared before the runs were refused."""
    shutil.rmtree(out / DATA, ignore_errors=True)
    with suppress(OSError):
        out.rmdir()


def _start_all(out: Path, plan: Plan, left: list[Run], advance: Advance) -> None:
    """Start one process for each run, ``at_once`` in parallel. If a run fails, all other runs continue. After
    ``plan.minutes``, all runs are ended."""
    count, total, began_s = len(plan.runs), len(plan.runs) * plan.steps, time.monotonic()
    waiting, failures = list(left), []
    working: dict[Run, subprocess.Popen[bytes]] = {}
    try:
        while (waiting or working) and not (plan.minutes and time.monotonic() - began_s > 60 * plan.minutes):
            while waiting and len(working) < plan.at_once:
                run = waiting.pop(0)
                working[run] = _start(out, run, plan)
            for run in [run for run, process in working.items() if process.poll() is not None]:
                process = working.pop(run)
                if process.returncode or not (out / run.name / RUN_FILE).is_file():
                    failures.append(_failed(out, run, process.returncode))
            finished = count - len(waiting) - len(working) - len(failures)
            done = finished * plan.steps + sum(_steps_of(out / run.name) for run in working)
            seconds = int(time.monotonic() - began_s)
            advance(done, total, f"{finished} of {count} runs, {seconds // 60}:{seconds % 60:02}")
            if working:
                time.sleep(POLL_S)
    finally:
        for process in working.values():
            process.terminate()
        for process in working.values():
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
    if failures:
        raise failures[0]


def _start(out: Path, run: Run, plan: Plan) -> subprocess.Popen[bytes]:
    folder = out / run.name
    folder.mkdir(exist_ok=True)
    # -P: Python must not import a folder lutern/ in the working folder as the package.
    command = [sys.executable, "-P", "-m", "lutern.train.scaling_run", str(out), run.name, plan.device]
    with (folder / LOG_FILE).open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _steps_of(folder: Path) -> int:
    """Return the step of a run's last validation."""
    record = read_json(folder / RECORD_FILE, MAX_BYTES).get("record") or [{"step": 0}]
    return int(record[-1]["step"])


def _failed(out: Path, run: Run, status: int) -> LuternError:
    """Return the error of a run, which contains the last line of its log."""
    lines = (out / run.name / LOG_FILE).read_text(errors="replace").strip().splitlines()
    reason = lines[-1].removeprefix("lutern: ").rstrip(".") if lines else f"it ended with status {status}"
    return LuternError(
        f"the run {run.name} failed: {reason}; the same command continues the rest ({out / run.name / LOG_FILE} "
        "has more)."
    )


__all__ = ["Advance", "train_all"]
