"""Keeps Optuna's study of machines in an SQLite file, so that a later command can continue the study.

    ask ─► choices ─► (judged elsewhere) ─► tell         for one batch of trials after the other

The sampler works on a copy of the study in memory. The copy has only the trials before the present batch, and each
batch has its own seed. So a batch has the same machines after an interruption, and with any number of workers. The
machines of the first batch are drawn evenly. The machines of a later batch are NSGA-II's children of the best machines
so far.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from lutern.measure.explore.judge import OBJECTIVES, Judged
from lutern.measure.explore.space import Dimension
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command
from lutern.model_ref.output_files import output_file, refused_output

BATCH = 20
NAME = "machines"
_ABOUT, _JUDGED, _WHY = "about", "judged", "why"
SHORT = 60
SECONDS = 10.0
"""The time to wait for another reader of the file, such as a dashboard."""


def require_optuna() -> Any:
    """Return the package optuna; raises ``LuternError`` with the command that installs it."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise LuternError(
            f"the package {error.name}, which searches machines, is not installed; run: {install_command('explore')}"
        ) from None
    return optuna


class Study:
    """A study in a file. The file is locked while the study is open.

    Raises ``LuternError`` for a file that is no study, belongs to another question or version, or is in use.
    """

    def __init__(self, path: Path, about: dict[str, Any], space: Sequence[Dimension], seed: int) -> None:
        self._optuna = require_optuna()
        self._path, self._about = path, {**about, "space": [[one.name, list(one.choices)] for one in space]}
        self._seed = seed
        self._choices = {one.name: one.choices for one in space}
        distributions = self._optuna.distributions
        self._space = {
            one.name: distributions.IntDistribution(0, len(one.choices) - 1)
            if one.ordered
            else distributions.CategoricalDistribution(list(range(len(one.choices))))
            for one in space
        }

    def __enter__(self) -> Study:
        place = output_file(self._path)
        try:
            self._file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise refused_output(self._path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._study = self._opened(place)
            self._check()
        except BlockingIOError:
            os.close(self._file)
            raise LuternError(
                f"{self._path} is in use by another lutern explore; wait for it, or give another -o."
            ) from None
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._storage.engine.dispose()
        os.close(self._file)

    def _opened(self, place: Path) -> Any:
        optuna = self._optuna
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        fresh = place.stat().st_size == 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._storage = optuna.storages.RDBStorage(
                    "sqlite:///study", engine_kwargs={"creator": lambda: _connection(place)}
                )
                found = optuna.create_study(
                    storage=self._storage, study_name=NAME, directions=list(OBJECTIVES.values()), load_if_exists=True
                )
            if fresh:
                found.set_user_attr(_ABOUT, self._about)
            return found
        except Exception as error:  # exceptions of SQLAlchemy, SQLite and Optuna
            reason = " ".join(str(error).split())[:SHORT]
            raise LuternError(
                f"{self._path} is no study that Optuna {optuna.__version__} reads ({reason}); give another -o, or "
                "remove it."
            ) from None

    def _check(self) -> None:
        known = self._study.user_attrs.get(_ABOUT)
        if not isinstance(known, dict) or set(known) != set(self._about):
            raise LuternError(f"{self._path} is a study of something else; give another -o.")
        other = [name for name, value in self._about.items() if known[name] != value]
        if not other:
            return
        if other[0] in ("target", "space"):
            what = "another board, device or range"
        elif other[0] == "version":
            what = f"another version of Lutern ({_short(known['version'])})"
        else:
            what = f"another {other[0].replace('_', ' ')} ({_short(known[other[0]])})"
        raise LuternError(f"{self._path} is a study of {what}; give another -o, or remove it.")

    @property
    def count(self) -> int:
        """The number of trials with a result."""
        return len(self._trials())

    def ask(self) -> list[dict[str, Any]]:
        """Return the choices of the present batch's trials that have no result yet."""
        optuna, trials = self._optuna, self._trials()
        done = len(trials) % BATCH
        before = trials[: len(trials) - done]
        sampler = optuna.samplers.NSGAIISampler(population_size=BATCH, seed=(self._seed << 20) + len(before))
        copy = optuna.create_study(directions=list(OBJECTIVES.values()), sampler=sampler)
        copy.add_trials(before)
        asked = [copy.ask(self._space).params for _ in range(BATCH)]
        return [{name: self._choices[name][index] for name, index in params.items()} for params in asked[done:]]

    def tell(self, choices: Sequence[Mapping[str, Any]], outcomes: Sequence[Judged | str]) -> None:
        """Store the results of trials, or the reasons why they were pruned, in the order of ``ask``."""
        states = self._optuna.trial.TrialState
        for choice, outcome in zip(choices, outcomes, strict=True):
            out = isinstance(outcome, str)
            trial = self._optuna.trial.create_trial(
                state=states.PRUNED if out else states.COMPLETE,
                values=None if isinstance(outcome, str) else list(outcome.values),
                params={name: self._choices[name].index(value) for name, value in choice.items()},
                distributions=self._space,
                user_attrs={_WHY: outcome} if isinstance(outcome, str) else {_JUDGED: asdict(outcome)},
            )
            self._study.add_trial(trial)

    def judged(self) -> dict[str, tuple[Judged, dict[str, Any]]]:
        """Return the machines that were judged, with their choices, by digest."""
        found = {}
        for trial in self._trials():
            if _JUDGED in trial.user_attrs:
                one = Judged(**trial.user_attrs[_JUDGED])
                found[one.digest] = one, {name: self._choices[name][index] for name, index in trial.params.items()}
        return found

    def reasons(self) -> list[str]:
        """Return the reason of each pruned trial."""
        return [str(trial.user_attrs[_WHY]) for trial in self._trials() if _WHY in trial.user_attrs]

    def front(self) -> list[Judged]:
        """Return the machines that no other machine beats in all objectives, without duplicates, the fastest first."""
        found = {trial.user_attrs[_JUDGED]["digest"]: trial.user_attrs[_JUDGED] for trial in self._study.best_trials}
        return sorted((Judged(**one) for one in found.values()), key=lambda one: (-one.tokens_per_second, one.luts))

    def _trials(self) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False))


def _connection(place: Path) -> sqlite3.Connection:
    """Return the connection to a file. A URL is not used, because it cannot contain every character of a name."""
    found = sqlite3.connect(place, timeout=SECONDS, check_same_thread=False)
    found.execute("PRAGMA synchronous = NORMAL")  # a power failure may lose the last trials, and damages nothing
    return found


def _short(value: object) -> str:
    return value[:SHORT] if isinstance(value, str) else json.dumps(value)[:SHORT]


__all__ = ["BATCH", "Study", "require_optuna"]
