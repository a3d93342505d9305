"""Computes the outcomes of faults in several processes. No other module starts processes for a campaign.

    settings, indices ─► map_faults ─► outcomes, in any order

Another engine can replace this module. It must open a campaign once in each process (``open_campaign``) and call
``outcome(index)`` for each index. A process ends when its pipe is closed, so no process is left if the process that
started it is killed.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from lutern.measure.inject.campaign import Outcome, Settings
from lutern.measure.inject.campaigns import open_campaign
from lutern.model_ref.errors import LuternError


def map_faults(settings: Settings, indices: Iterable[int], workers: int) -> Iterator[Outcome]:
    """Yield the outcomes of the faults with these indices, in any order. If ``workers`` is 1, this process
    computes the outcomes itself."""
    if workers == 1:
        campaign = open_campaign(settings)
        yield from map(campaign.outcome, indices)
        return
    processes: dict[Connection, BaseProcess] = {}
    left = iter(indices)
    try:
        for _ in range(workers):
            connection, process = _start(settings)
            processes[connection] = process
        busy = [connection for connection in processes if _give(connection, left)]
        while busy:
            ready = wait(busy)
            for connection in [each for each in busy if each in ready]:
                yield _taken(connection, processes[connection])
                if not _give(connection, left):
                    busy.remove(connection)
    finally:
        for connection, process in processes.items():
            connection.close()
            process.terminate()
            process.join()


def _start(settings: Settings) -> tuple[Connection, BaseProcess]:
    """Start a process that waits for indices. The process ignores Ctrl-C from its start on, because its parent handles
    Ctrl-C."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = context.Process(target=_serve, args=(theirs, settings), daemon=True)
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()
    return ours, process


def _give(connection: Connection, left: Iterator[int]) -> bool:
    """Send the next index to a process; return whether there was a next index."""
    index = next(left, None)
    if index is not None:
        with suppress(OSError):  # a process that has ended is noticed when its answer is read
            connection.send(index)
    return index is not None


def _taken(connection: Connection, process: BaseProcess) -> Outcome:
    try:
        answer: Any = connection.recv()
    except (EOFError, OSError):
        process.join()
        raise LuternError(
            f"a process of the campaign ended by itself (exit code {process.exitcode}); give the same command again, "
            "which continues where this one ended if it has an --out."
        ) from None
    if isinstance(answer, Outcome):
        return answer
    if isinstance(answer, LuternError):
        raise answer
    raise RuntimeError(answer)


def _serve(connection: Connection, settings: Settings) -> None:
    """Send the outcome of each received index until the pipe is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        campaign = open_campaign(settings)
        while True:
            connection.send(campaign.outcome(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except LuternError as error:
        answer: object = LuternError(str(error))
    except Exception:
        answer = traceback.format_exc()
    with suppress(OSError):
        connection.send(answer)


__all__ = ["map_faults"]
