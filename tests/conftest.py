"""Settings for all tests: a test that hangs is ended, and simulators are compiled with few optimizations."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from processes import kill_descendants

LIMIT_S = 1200.0
"""Seconds after which a test is regarded as hanging. Other tests are faster, even on a busy computer."""
SLOW_LIMIT_S = 4 * 3600.0
GRACE_S = 30.0


os.environ["LUTERN_QUICK_BUILD"] = "1"
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # `make test` sets these, but a make in a test is not part of it
    os.environ.pop(name, None)
STDERR = pytest.StashKey[TextIO]()
TESTS = Path(__file__).parent
SLOW_CASES = TESTS / "slow_cases.txt"
"""A list of the node ids of the parametrized cases that are marked slow."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases of ``slow_cases.txt``. If all tests were collected, each line of this file must be one of them."""
    listed = {line for line in SLOW_CASES.read_text().splitlines() if not line.startswith("#")}
    found = {item.nodeid.removeprefix("tests/"): item for item in items}
    for name in listed & set(found):
        found[name].add_marker(pytest.mark.slow)
    unknown = sorted(listed - set(found))
    if unknown and _collects_all(config):
        raise pytest.UsageError(f"{SLOW_CASES.name} names {unknown[0]}, which is no test; take it out or correct it.")


def _collects_all(config: pytest.Config) -> bool:
    """Return whether neither a path nor an expression chooses some tests."""
    return config.args_source is not pytest.Config.ArgsSource.ARGS and not config.option.keyword


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real stderr. Pytest redirects stderr while tests run, and a process that ends loses the captured
    text."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.stash[STDERR] = os.fdopen(os.dup(2), "w")


def _give_up(item: pytest.Item) -> None:
    stderr = item.config.stash[STDERR]
    print(f"{item.nodeid} hangs: its child processes are killed", file=stderr, flush=True)
    faulthandler.dump_traceback(stderr)
    kill_descendants()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Kill the child processes of a test that hangs, so that the test fails. If the test still hangs, this process
    ends."""
    limit_s = SLOW_LIMIT_S if item.get_closest_marker("slow") else LIMIT_S
    timer = threading.Timer(limit_s, _give_up, [item])
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()
