"""Jobs for workers: each key runs once, jobs of lost workers run again, other versions are refused, and no call waits
forever."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lutern.measure import cluster
from lutern.measure.cluster import Cluster, Job, Workers, workers
from lutern.model_ref.errors import LuternError

distributed = pytest.importorskip("distributed", reason='needs the extra "explore"')


@pytest.fixture(scope="module")
def here() -> Iterator[Cluster]:
    """Yield a cluster of two threads in this process."""
    with workers(2, processes=False) as crew:
        assert isinstance(crew, Cluster) and crew.count == 2
        yield crew


def double(file: str, value: int) -> int:
    """A job that writes its argument into a file, because its other effects stay in the worker."""
    with open(file, "a") as notes:
        notes.write(f"{value}\n")
    if value == 13:
        raise LuternError("13 is no number for this.")
    return 2 * value


@pytest.mark.parametrize("crew", ["one", "several"])
def test_each_key_runs_once_and_results_keep_their_order(crew: str, here: Cluster, tmp_path: Path) -> None:
    file, told = str(tmp_path / "calls"), list[int]()
    jobs = [Job(f"{crew}-{value}", double, (file, value)) for value in (1, 2, 13, 2, 1)]
    found = (Workers() if crew == "one" else here).run(jobs, told.append)
    assert found[:2] == [2, 4] and found[3:] == [4, 2]
    assert isinstance(found[2], LuternError) and str(found[2]) == "13 is no number for this."
    assert sorted(Path(file).read_text().split()) == ["1", "13", "2"]
    assert told == sorted(told) and told[-1] == 5


def test_shared_values(here: Cluster) -> None:
    for number, crew in enumerate((Workers(), here)):
        shared = crew.share(f"shared-{number}", [1, 2, 3])
        assert crew.run([Job(f"sum-{number}", sum, (shared,))]) == [6]


def test_unexpected_errors_are_raised(here: Cluster) -> None:
    with pytest.raises(ZeroDivisionError):
        here.run([Job("division", divmod, (1, 0))])


def test_another_version(here: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    own, asked = cluster.stamp(), iter([("9.9", "0123456789")])
    monkeypatch.setattr(cluster, "stamp", lambda: next(asked, own))  # the client's version differs from the worker's
    with pytest.raises(
        LuternError,
        match=rf"^a worker of the cluster has lutern {own[0]} \(sources .*\), but this "
        f"computer has",
    ):
        here.run([Job("version", abs, (-1,))])


@pytest.mark.parametrize("address", ["nonsense://here:1", "here", "tcp://127.0.0.1:{closed}", "tcp://127.0.0.1:{mute}"])
def test_a_scheduler_that_is_gone(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that does not answer is refused with one sentence, and so is a port of another program."""
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with socket.socket() as mute, socket.socket() as closed:
        for one in (mute, closed):
            one.bind(("127.0.0.1", 0))
        mute.listen()
        address = address.format(mute=mute.getsockname()[1], closed=closed.getsockname()[1])
        with pytest.raises(LuternError, match=f"^no Dask scheduler answers at {address} ") as error:
            with workers(scheduler=address):
                pass
    assert "\n" not in str(error.value)


def test_workers_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ALONE_SECONDS", 0.2)
    with distributed.LocalCluster(
        n_workers=0, processes=False, protocol="tcp", dashboard_address=":0", host="127.0.0.1"
    ) as made:
        with pytest.raises(LuternError, match=f"^the scheduler at {made.scheduler_address} has no workers; start one"):
            with workers(scheduler=made.scheduler_address):
                pass
        made.scale(1)
        made.wait_for_workers(1)
        with workers(scheduler=made.scheduler_address) as crew:
            assert crew.run([Job("one", abs, (-1,))]) == [1]
            made.scale(0)
            while crew.count:
                time.sleep(0.05)
            with pytest.raises(LuternError, match=r"^the cluster has had no workers for"):
                crew.run([Job("two", abs, (-2,))])


def test_a_scheduler_that_ends_during_a_run() -> None:
    made = distributed.LocalCluster(
        n_workers=1, processes=False, protocol="tcp", dashboard_address=":0", host="127.0.0.1"
    )
    with workers(scheduler=made.scheduler_address) as crew:
        threading.Timer(0.3, made.close).start()
        with pytest.raises(LuternError, match=r"^the scheduler of the cluster has gone; the same command continues"):
            crew.run([Job(f"sleep-{index}", time.sleep, (0.2,)) for index in range(100)])


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LuternError, match=r"which spreads work .* is not installed; run: .*\[explore\]"):
        with workers(2):
            pass


@pytest.mark.slow
def test_a_lost_workers_jobs_run_again() -> None:
    """One of two processes is killed during a job. A new process takes its place and runs the job again."""
    with workers(2) as crew:
        (first,) = crew.run([Job("pid", os.getpid)])
        assert first != os.getpid()
        threading.Timer(0.5, os.kill, (first, signal.SIGKILL)).start()
        naps = [Job(f"nap-{index}", time.sleep, (0.4,)) for index in range(8)]
        assert crew.run(naps) == [None] * 8
        assert first not in crew.run([Job(f"pid-{index}", os.getpid) for index in range(8)])
