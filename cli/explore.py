"""`lutern explore`: searches machines for a model and a board, routes some machines of the Pareto front, and chooses a
machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from lutern.api.models import Model
from lutern.boards.catalog import find_board
from lutern.boards.routing import was_routed
from lutern.cli.cluster import SchedulerOption
from lutern.cli.columns import Cell, Column, fixed
from lutern.cli.machine import board_option
from lutern.cli.models import open_model
from lutern.cli.numbers import LARGEST_SEED, real, whole
from lutern.cli.progress import step_bar
from lutern.cli.table import FormatOption, Printer, printing
from lutern.measure import pictures
from lutern.measure.cluster import Workers, workers
from lutern.measure.dram import DRAMS
from lutern.measure.explore.figures import MACHINE, records, write_files
from lutern.measure.explore.judge import Question
from lutern.measure.explore.search import CHOICES, Found, found_by, route_front, search
from lutern.measure.explore.space import dimensions
from lutern.measure.explore.study import Study, require_optuna
from lutern.measure.explore.target import MEMORIES, Target, board_target, device_target
from lutern.measure.provenance import provenance
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.cores import own_cores
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError, quoted
from lutern.model_ref.synthetic import PUBLISHED

FOLDER = "build"
STUDY = "study.db"
MOST = 1_000_000_000
FRONT = (
    Column("name", "machine", left=True),
    Column("memory", left=True),
    Column("lanes"),
    Column("streams"),
    Column("clock_hz", "MHz", fixed(0, 1e6)),
    Column("tokens_per_second", "tokens/s", fixed(0)),
    Column("luts", "LUT", fixed(0)),
    Column("block_rams", "block RAM"),
    Column("multipliers", "mult"),
    Column("joules_low", "uJ a token"),
    Column("joules_high", "uJ a token, high"),
)
ROUTED = (
    Column("name", "machine", left=True),
    Column("achieved_hz", "MHz", fixed(1, 1e6)),
    Column("target_hz", "target", fixed(1, 1e6)),
    Column("met"),
    Column("luts", "LUT"),
    Column("luts_estimated", "estimated", fixed(0)),
    Column("block_rams", "block RAM"),
    Column("tokens_per_second", "tokens/s", fixed(0)),
    Column("seconds", "s", fixed(0)),
    Column("failed", folds=True),
)
SEARCH = tuple(map(Column, ("trials", "judged", "pruned", "front", "chosen", "folder")))


def question_of(model: str, size: str, shape: str, target: Target, streams: int) -> tuple[Question, Model | None]:
    """Return the question of the search, and the model if ``model`` names one."""
    if bool(model) + bool(size) + bool(shape) != 1:
        raise LuternError("a search is for one model; give one of --model, --size and --shape.")
    if model:
        opened = open_model(model)
        return Question(opened.name, opened.config, opened.embedding_bits, target, streams), opened
    if size and size.lower() not in PUBLISHED:
        raise LuternError(f"there is no size {size}; choose one of {', '.join(PUBLISHED)}.")
    config = PUBLISHED[size.lower()] if size else shape_of(shape)
    return Question(size.upper() if size else shape, config, WIDE_BITS, target, streams), None


def shape_of(text: str) -> ModelConfig:
    """Return the shape of a text such as `64,2,96,38`: hidden size, layers, intermediate size, vocabulary."""
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise LuternError(
            f"--shape is {quoted(text)}, but must be hidden size, layers, intermediate size and vocabulary, such as "
            "64,2,96,38."
        )
    hidden, layers, intermediate, vocab = map(int, numbers)
    return ModelConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate)


def target_of(
    board: str, limits: tuple[int | None, int | None, int | None], memories: list[str], clock: float | None, dram: str
) -> Target:
    """Return the target: a board, whose resources the limits may reduce, or a device that the limits describe."""
    luts, block_rams, multipliers = limits
    clock_hz = round(clock * 1e6) if clock else 0
    if board:
        if dram:
            raise LuternError(f"--board {board} has a memory of its own; leave out --dram or --board.")
        return board_target(find_board(board), memories, clock_hz, limits)
    if luts is None or block_rams is None:
        raise LuternError("a search is for a chip; give --board, or a device's --lut and --block-rams.")
    return device_target(luts, block_rams, multipliers or 0, memories, clock_hz, dram)


def folder_of(out: Path | None, question: Question) -> Path:
    """Return the folder of the study and the files. Make the folder if it does not exist."""
    if out is None:
        names = (question.model, question.target.board or "device")
        plain = "".join(each if each.isalnum() or each in ".-" else "-" for each in "-".join(names))
        out = Path(FOLDER) / f"explore-{plain}"
    try:
        out.mkdir(parents=out.parent == Path(FOLDER), exist_ok=True)
    except FileExistsError:
        raise LuternError(f"{out} is a file, but -o needs a folder; give another name.") from None
    except OSError as error:
        raise LuternError(f"{out} cannot be made ({error.strerror}); give another folder.") from None
    return out


def explore(
    model: Annotated[
        str, typer.Option(help="Model of the machine: demo, demo-small, demo-large, a checkpoint folder or an image.")
    ] = "",
    size: Annotated[str, typer.Option(help=f"A published shape, in place of --model: {', '.join(PUBLISHED)}.")] = "",
    shape: Annotated[
        str,
        typer.Option(
            metavar="D,L,M,V", help="A shape, in place of --model: hidden size, layers, intermediate size, vocabulary."
        ),
    ] = "",
    board_name: Annotated[str, board_option("Search machines for its chip, memory and clocks")] = "",
    luts: Annotated[
        int | None, whole("--lut", least=1, most=MOST, help="Most LUT of a machine; without --board: of the device.")
    ] = None,
    block_rams: Annotated[
        int | None, whole("--block-rams", least=1, most=MOST, help="Most block RAMs of 18 Kbit each, as for --lut.")
    ] = None,
    multipliers: Annotated[
        int | None,
        whole(
            "--multipliers",
            least=1,
            most=MOST,
            help="Most multipliers, as for --lut. Default without --board: as many as an ECP5 of that size has.",
        ),
    ] = None,
    memories: Annotated[
        list[str] | None,
        typer.Option(
            "--memory",
            help=f"Kind of memory for the weights: {', '.join(MEMORIES)}; can be repeated; default: the board's.",
        ),
    ] = None,
    dram: Annotated[str, typer.Option(help=f"Kind of the memory at a port: {', '.join(DRAMS)}.")] = "",
    streams: Annotated[int, whole("--streams", least=1, most=16, help="Largest number of streams of a machine.")] = 1,
    clock: Annotated[
        float | None,
        real(
            "--clock",
            least=1,
            most=1000,
            help="Clock of all machines in MHz; default: a clock that depends on the number of lanes.",
        ),
    ] = None,
    trials: Annotated[
        int, whole("--trials", least=1, most=100_000, help="Number of trials, each of which estimates a machine.")
    ] = 200,
    route: Annotated[
        int | None, whole("--route", least=1, most=1000, help="Number of machines of the front to place and route.")
    ] = None,
    choose: Annotated[
        str, typer.Option(metavar=f"<{'|'.join(CHOICES)}|MACHINE>", help="Rule that chooses a machine of the front.")
    ] = "tokens_per_second",
    seed: Annotated[int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of the search.")] = 1,
    processes: Annotated[
        int | None,
        whole(
            "--workers", least=1, most=256, help="Number of processes on this computer; default: its number of cores."
        ),
    ] = None,
    scheduler: SchedulerOption = "",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help=f"Folder for study and files; default: {FOLDER}/explore-MODEL-BOARD."),
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Search machines for a model and a chip: by estimates, then by place and route. A study that is in the folder is
    continued.
    """
    target = target_of(board_name, (luts, block_rams, multipliers), memories or [], clock, dram)
    if route and not board_name:
        raise LuternError("--route needs a board, whose pins and package are known; give --board or no --route.")
    question, opened = question_of(model, size, shape, target, streams)
    require_optuna()
    pictures.require_matplotlib()
    folder = folder_of(out, question)
    space = dimensions(target, streams)
    about = {**question.about(), "seed": seed}
    with Study(folder / STUDY, about, space, seed) as study, workers(processes or own_cores(), scheduler) as crew:
        with step_bar("explore") as advance:
            search(question, study, crew, trials, advance)
        found = found_by(question, study)
        if route and found.front:
            found = dataclasses.replace(found, routed=_routed(found, crew, route))
    best, machine = found.chosen(choose)
    files = [(opened.name, opened.config, opened.files)] if opened else [(question.model, question.model_config, ())]
    written = write_files(found, machine, folder, provenance(files, [found.machines[best.digest][1]]))
    with printing(form) as printer:
        _print(printer, found, best.name, folder)
        printer.say(f"{folder}: {', '.join(path.name for path in written)}")
        if board_name:
            printer.say(f"next: lutern build --board {board_name} --machine {folder / MACHINE}")
            known = {one.digest for one in found.routed if not one.failed}
            if best.digest not in known and not was_routed(machine.config, find_board(board_name)):
                printer.say("The chosen machine was not placed and routed, so its clock is not known; give --route K.")


def _routed(found: Found, crew: Workers, count: int) -> list[Any]:
    with step_bar("route") as advance:
        return route_front(found, crew, count, advance)


def _print(printer: Printer, found: Found, chosen: str, folder: Path) -> None:
    """Print the front, the routed machines and the numbers of trials."""
    rows = records(found)
    printer.table("front", FRONT, [[*(row[one.key] for one in FRONT[:-2]), *_joules(row)] for row in rows])
    estimated = {one.digest: one.luts for one in found.front}
    if found.routed:
        printer.say()
        built = [
            [
                estimated[one.digest] if column.key == "luts_estimated" else getattr(one, column.key) or None
                for column in ROUTED
            ]
            for one in found.routed
        ]
        printer.table("routed", ROUTED, built)
    pruned, judged = sum(found.reasons.values()), len(found.judged)
    printer.facts("search", SEARCH, (found.trials, judged, pruned, len(rows), chosen, str(folder)))
    printer.say()
    printer.say(
        f"{found.trials:,} trials: {judged:,} machines estimated, {pruned:,} pruned, "
        f"{found.trials - judged - pruned:,} repeated; {len(rows)} on the front for {found.question.model} on "
        f"{found.question.target.name}"
    )
    printer.say(f"chosen: {chosen}")


def _joules(row: dict[str, Any]) -> tuple[Cell, Cell]:
    low, high = row["joules_low"], row["joules_high"]
    return Cell(low, f"{low * 1e6:.3g} to {high * 1e6:.3g}"), Cell(high, "")


__all__ = ["explore"]
