"""`lutern cache`: prints the sizes of the folders in which results are kept between runs, and removes the folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.table import Column, FormatOption, fixed, printing
from lutern.model_ref.cache_folder import cache_folder
from lutern.model_ref.errors import LuternError

KINDS = {
    "boards": "simulated boards, compiled",
    "builds": "netlists, placements and bitstreams",
    "cost": "resources of blocks, from synthesis",
    "estimates": "estimates of lutern explore",
    "models": "the integer network, compiled",
    "scapy": "settings of scapy, a package of the tests",
    "wasm": "tools, compiled for this computer",
}
"""For each kind of folder in the cache, a description of the content."""
COLUMNS = (
    Column("kind", left=True),
    Column("entries"),
    Column("bytes", "MB", fixed(1, 1e6)),
    Column("what", folds=True),
)

app = typer.Typer(help="Print or remove the results that are kept under LUTERN_CACHE.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def cache(context: typer.Context, form: FormatOption = "text") -> None:
    """Print the sizes of the results that are kept under LUTERN_CACHE, or remove these results."""
    if context.invoked_subcommand is None:
        size(form)


def size_of(folder: Path) -> tuple[int, int]:
    """Return the number of entries in a folder, and the bytes of all files below the folder."""
    if not folder.is_dir():
        return 0, 0
    byte_count = 0
    for path in folder.rglob("*"):
        try:
            byte_count += 0 if path.is_symlink() or path.is_dir() else path.stat().st_size
        except OSError:
            continue  # another process removed the file
    return sum(1 for _ in folder.iterdir()), byte_count


@app.command("size")
def size(form: FormatOption = "text") -> None:
    """Print the size of each kind of kept results."""
    sizes = {kind: size_of(cache_folder(kind)) for kind in KINDS}
    rows: list[tuple[str, int, int, str]] = [(kind, *sizes[kind], what) for kind, what in KINDS.items()]
    entries, byte_count = (sum(found[place] for found in sizes.values()) for place in (0, 1))
    with printing(form) as printer:
        printer.say(f"{cache_folder('')}")
        printer.table("cache", COLUMNS, [*rows, ("all", entries, byte_count, "")], total=True)


@app.command("clear")
def clear(
    kinds: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(KINDS)}. If none is given: all.")] = None,
) -> None:
    """Remove the kept results. A command that needs a result computes it again. A bitstream takes minutes to an
    hour."""
    chosen = list(dict.fromkeys(kinds or KINDS))
    for kind in chosen:
        if kind not in KINDS:
            raise LuternError(f"there is nothing called {kind} in the cache; choose one of {', '.join(KINDS)}.")
    for kind in chosen:
        folder = cache_folder(kind)
        entries, byte_count = size_of(folder)
        if entries:
            shutil.rmtree(folder)
            print(f"{folder}: {entries:,} entries, {byte_count / 1e6:,.1f} MB removed")
    print(f"{cache_folder('')} is now empty for {', '.join(chosen)}")


__all__ = ["app"]
