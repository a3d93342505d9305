"""Places and routes seeds of a build on the workers of a cluster, which need not share files with this computer.

netlist ─► its files ─► each worker, once ─► nextpnr ─► files of the route ─► kept as if routed on this computer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lutern.boards import cache
from lutern.boards.build import NETLIST_FILES, ROUTE_FILES, Plan, Spread, folder_of, kept_route, prune
from lutern.boards.parallel import Tools
from lutern.boards.synthesis import require_package
from lutern.measure.cluster import Job, Workers
from lutern.model_ref.errors import LuternError

Files = dict[str, bytes]


def spread_seeds(crew: Workers) -> Spread:
    """Return the function by which ``boards.build.build`` places and routes on workers."""

    def spread(
        plan: Plan, netlist: Path, seeds: Sequence[int], told: Callable[[int], None]
    ) -> list[Path | LuternError]:
        kept = {seed: folder_of("route", plan.route_digest(seed)) for seed in seeds}
        wanted = [seed for seed in seeds if not cache.is_whole(kept[seed], ROUTE_FILES)]
        before = len(seeds) - len(wanted)
        results: list[Files | LuternError] = []
        if wanted:
            files = crew.share(f"netlist-{plan.netlist_digest}", read_files(netlist, NETLIST_FILES))
            shared = crew.share(f"plan-{plan.route_digest(0)}", plan)
            jobs = [Job(f"route-{plan.route_digest(seed)}", route_seed, (shared, files, seed)) for seed in wanted]
            results = crew.run(jobs, lambda done: told(before + done))
        failed: dict[int, LuternError] = {}
        for seed, result in zip(wanted, results, strict=True):
            if isinstance(result, LuternError):
                failed[seed] = result
            else:
                keep_files(kept[seed], result)
        return [failed.get(seed, kept[seed]) for seed in seeds]

    return spread


def route_seed(plan: Plan, files: Files, seed: int) -> Files:
    """Place and route a seed. This runs on a worker."""
    for package, version in plan.versions.items():
        if require_package(package) != version:
            raise LuternError(
                f"a worker has {package} {require_package(package)}, but this computer has {version}; install the "
                f"same version."
            )
    netlist = folder_of("netlist", plan.netlist_digest)
    if not cache.is_whole(netlist, NETLIST_FILES):
        keep_files(netlist, files)
    found = read_files(kept_route(plan, netlist, seed, None, Tools()), ROUTE_FILES)
    prune()
    return found


def read_files(folder: Path, names: Sequence[str]) -> Files:
    """Return the contents of files of a folder, by name."""
    return {name: (folder / name).read_bytes() for name in names}


def keep_files(folder: Path, files: Files) -> None:
    """Put files into a folder of the cache."""

    def make(work: Path) -> None:
        for name, content in files.items():
            (work / name).write_bytes(content)

    cache.require_writable(folder.parent)
    cache.keep(folder, tuple(files), make)


__all__ = ["keep_files", "read_files", "route_seed", "spread_seeds"]
