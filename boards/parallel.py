"""Runs slow tools in parallel, one per core. Each tool has a process, and a thread that waits for this process.

Ctrl-C ends all tools. A job that fails does not stop the other jobs.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock
from typing import Any, TypeVar

from lutern.model_ref.cores import own_cores
from lutern.model_ref.errors import LuternError

T = TypeVar("T")
WATCH_SECONDS = 1.0


class Tools:
    """The processes of tools. ``stop`` ends all running processes, and no further process starts."""

    def __init__(self) -> None:
        self._lock, self._running, self._stopped = Lock(), set[subprocess.Popen[bytes]](), False

    def run(self, command: Sequence[str], watch: Callable[[], None] | None = None, **options: Any) -> int:
        """Run a command and return its exit code. Raise KeyboardInterrupt if the command was stopped or interrupted.
        ``watch`` is called every second while the command runs."""
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(command, **options)
            self._running.add(process)
        try:
            while (code := _waited(process, None if watch is None else WATCH_SECONDS)) is None:
                if watch is not None:
                    watch()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(process)
        if self._stopped or code == -signal.SIGINT:
            raise KeyboardInterrupt
        return code

    def stop(self) -> None:
        """End all processes."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()


def _waited(process: subprocess.Popen[bytes], seconds: float | None) -> int | None:
    """Return the exit code; None if the process has not ended within ``seconds``."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def run_together(
    jobs: Sequence[Callable[[Tools], T]], progress: Callable[[int], None], most: int = 0
) -> list[T | LuternError]:
    """Return the result of each job, or its error. At most ``most`` jobs run in parallel; 0 means as many as there are
    cores. ``progress`` is called with the number of jobs that are done."""
    tools, most = Tools(), min(most or own_cores(), len(jobs))

    def outcome(job: Callable[[Tools], T]) -> T | LuternError:
        try:
            return job(tools)
        except LuternError as error:
            return error

    if most <= 1:  # no thread is needed
        found: list[T | LuternError] = []
        for job in jobs:
            progress(len(found))
            found.append(outcome(job))
        return found
    pool = ThreadPoolExecutor(most)
    try:
        futures = [pool.submit(outcome, job) for job in jobs]
        progress(0)
        for done, future in enumerate(as_completed(futures), 1):
            future.result()  # an error of our own code ends all jobs
            progress(done)
    except BaseException:
        tools.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


__all__ = ["Tools", "run_together"]
