"""Runs independent jobs in this process, or on the workers of a Dask cluster (extra ``explore``).

    jobs ─┬─ one worker ──────► this process
          ├─ several ─────────► processes of this computer      a process that is lost is started again
          └─ --scheduler ─────► workers of other computers      `dask scheduler`, `dask worker ADDRESS`

A job is a function with its arguments. The key of a job is the digest of what the job computes, so of several jobs with
the same key only one runs. If a worker is lost, its job runs again on another worker. A worker with another version of
Lutern is refused. No call waits without end for a lost scheduler or for lost workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import queue
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command

CONNECT_SECONDS = 5.0
ALONE_SECONDS = 60.0
"""Seconds for which jobs wait for a worker if the cluster has no workers."""
WATCH_SECONDS = 0.5
LOSSES = 3
"""A job is given up after it has lost this number of workers."""
CLOSE_SECONDS = 20.0
_FOLDERS = ("boards", "firmware", "hw", "measure", "model_ref", "sim")


@dataclass(frozen=True)
class Job:
    """A call ``run(*arguments)``; ``key`` identifies the result. A worker must be able to import the function."""

    key: str
    run: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@cache
def stamp() -> tuple[str, str]:
    """Return the version of Lutern and the digest of its sources. Equal stamps mean that results are equal."""
    root, found = Path(__file__).resolve().parents[1], hashlib.sha256()
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".json", ".cpp", ".h", ".v", ".sv"):
                found.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return metadata.version("lutern"), found.hexdigest()[:16]


class Workers:
    """Runs jobs in this process, which is the only worker."""

    @property
    def count(self) -> int:
        """The present number of workers."""
        return 1

    def share(self, key: str, value: Any) -> Any:
        """Return a reference to a value, for the arguments of jobs. The value is sent to each worker only once."""
        return value

    def each(self, jobs: Sequence[Job]) -> Iterator[tuple[str, Any]]:
        """Yield (key, result) of each job, in any order. The result may be a ``LuternError`` that the job raised."""
        for key, job in {job.key: job for job in jobs}.items():
            yield key, _outcome(job.run, job.arguments)

    def run(self, jobs: Sequence[Job], told: Callable[[int], None] = lambda done: None) -> list[Any]:
        """Return the results in the order of the jobs; ``told`` is called with the number of jobs that have ended."""
        found: dict[str, Any] = {}
        told(0)
        for key, result in self.each(jobs):
            found[key] = result
            told(sum(job.key in found for job in jobs))
        return [found[job.key] for job in jobs]

    def run_whole(self, jobs: Sequence[Job], told: Callable[[int], None] = lambda done: None) -> list[Any]:
        """Return the results as ``run`` does. Raise the first ``LuternError`` among the results."""
        results = self.run(jobs, told)
        for result in results:
            if isinstance(result, LuternError):
                raise result
        return results


class Cluster(Workers):
    """Workers of a Dask cluster; see ``workers``."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def count(self) -> int:
        """See ``Workers``."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def share(self, key: str, value: Any) -> Any:
        """See ``Workers``. The value is the result of a job, so it is computed again if its worker is lost."""
        return self._client.submit(_same, value, key=key, pure=False)

    def each(self, jobs: Sequence[Job]) -> Iterator[tuple[str, Any]]:
        """See ``Workers``."""
        ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        futures = {
            job.key: self._client.submit(_checked, stamp(), job.run, *job.arguments, key=job.key, pure=False)
            for job in jobs
        }
        for future in futures.values():
            future.add_done_callback(lambda one: ended.put(one.key))
        left = set(futures)
        try:
            seen = time.monotonic()
            while left:
                with contextlib.suppress(queue.Empty):
                    key = ended.get(timeout=WATCH_SECONDS)
                    left.discard(key)
                    yield key, self._result(futures[key])
                seen = self._watch(seen)
        finally:
            if left:
                with contextlib.suppress(Exception):
                    self._client.cancel([futures[key] for key in left], force=True)

    def _watch(self, seen: float) -> float:
        """Return the last time at which there was a worker. Raise ``LuternError`` if the cluster is lost."""
        if self._client.status != "running":
            raise LuternError(f"{_GONE}; the same command continues where this one ended.")
        if self.count:
            return time.monotonic()
        if time.monotonic() - seen > ALONE_SECONDS:
            raise LuternError(
                f"the cluster has had no workers for {ALONE_SECONDS:.0f} s; start one, dask worker ADDRESS, and give "
                "the same command again."
            )
        return seen

    def _result(self, future: Any) -> Any:
        import distributed

        gone = (distributed.client.FutureCancelledError, distributed.comm.CommClosedError, CancelledError, TimeoutError)
        try:
            value = future.result(timeout=CONNECT_SECONDS)
        except distributed.KilledWorker:
            return LuternError(
                f"{LOSSES} workers were lost by the same job, perhaps because they had too little memory; give fewer "
                f"workers or a "
                "smaller machine."
            )
        except gone:
            raise LuternError(f"{_GONE}; the same command continues where this one ended.") from None
        except ModuleNotFoundError as error:
            raise LuternError(
                f"a worker of the cluster has no package {error.name}; install this version of Lutern there."
            ) from None
        if isinstance(value, _Other):
            raise LuternError(
                f"a worker of the cluster has {value.text}, but this computer has {_shown(stamp())}; install the "
                f"same version on "
                "all computers."
            )
        return value


_GONE = "the scheduler of the cluster has gone"


@dataclass(frozen=True)
class _Other:
    """The answer of a worker with another version, in place of a result."""

    text: str


def _shown(of: tuple[str, str]) -> str:
    return f"lutern {of[0]} (sources {of[1][:8]})"


def _outcome(run: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return run(*arguments)
    except LuternError as error:
        return LuternError(str(error))


def _same(value: Any) -> Any:
    return value


def _checked(wanted: tuple[str, str], run: Callable[..., Any], *arguments: Any) -> Any:
    """Run a job on a worker, unless the worker has another version of Lutern."""
    return _outcome(run, arguments) if stamp() == wanted else _Other(_shown(stamp()))


def _require() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise LuternError(
            f"the package {error.name}, which spreads work over processes and computers, is not installed; run: "
            f"{install_command('explore')}"
        ) from None
    return distributed


@contextlib.contextmanager
def workers(count: int = 1, scheduler: str = "", processes: bool = True) -> Iterator[Workers]:
    """Yield workers, and close them when the block ends.

    ``scheduler`` is the address of a Dask scheduler, whose workers are used. If it is empty, the workers are ``count``
    processes of this computer, or threads if ``processes`` is false. If ``count`` is 1, this process is the worker.
    Raises ``LuternError`` if the scheduler does not answer or has no workers.
    """
    if not scheduler and count == 1:
        yield Workers()
        return
    distributed = _require()
    import dask

    settings = {
        "distributed.scheduler.allowed-failures": LOSSES - 1,
        "distributed.comm.timeouts.connect": CONNECT_SECONDS,
        "distributed.worker.daemon": True,
        "distributed.admin.system-monitor.disk": False,
    }
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).handlers = [logging.NullHandler()]  # Lutern reports errors with its own messages
    with dask.config.set(settings), warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")  # warnings about ports and memory, for users of Dask
        if scheduler:
            client = _connect(distributed, scheduler)
        else:
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=processes,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
            stack.callback(_close, cluster)
            client = distributed.Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
        stack.callback(_close, client)
        yield Cluster(client)


def _close(what: Any) -> None:
    """Close a client or a cluster. Processes that do not end in time end with this process."""
    with contextlib.suppress(Exception):
        what.close(timeout=CLOSE_SECONDS)


def _connect(distributed: Any, address: str) -> Any:
    async def ask() -> Any:
        async with distributed.rpc(address, timeout=CONNECT_SECONDS) as scheduler:
            return await asyncio.wait_for(scheduler.identity(n_workers=1), CONNECT_SECONDS)

    try:
        found = asyncio.run(ask())
        if not found["workers"]:
            raise LuternError(f"the scheduler at {address} has no workers; start one: dask worker {address}")
        return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, KeyError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:120] or "no answer"
        raise LuternError(
            f"no Dask scheduler answers at {address} ({reason}); start one, dask scheduler, and give its address as "
            "tcp://HOST:8786."
        ) from None


__all__ = ["Cluster", "Job", "Workers", "stamp", "workers"]
