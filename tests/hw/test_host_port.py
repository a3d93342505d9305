"""hw/host_port.py, byte for byte and cycle by cycle, for narrow and wide words and all pause patterns."""

from types import SimpleNamespace

import pytest

from lutern.hw.host_port import HostPort
from lutern.hw.protocol import capability
from lutern.sim.runner import run_bench
from lutern.sim.streams import PAUSES


def host_port(word_bytes: int) -> HostPort:
    return HostPort(SimpleNamespace(
        rows=4, columns=4, results_per_cycle=1, codes_per_cycle=2, word_bytes=word_bytes, memory_words=1 << 13,
        max_width=64, max_state=128, max_vocab=200, clock_hz=80_000_000, digest="c0db" * 16,
    ))


CASES = [*((4, pause) for pause in PAUSES), (13, "random")]


@pytest.mark.parametrize(("word_bytes", "pause"), CASES)
def test_host_port(word_bytes: int, pause: str) -> None:
    block = host_port(word_bytes)
    parameters = {
        "pause": pause, "word_bytes": word_bytes, "memory_words": 1 << 13, "max_vocab": 200, "frames": 30,
        "info": capability(block.config).hex(),
    }
    run_bench(block, "lutern.sim.tb_host_port", parameters=parameters, seed=11 + word_bytes)


@pytest.mark.slow
@pytest.mark.parametrize("word_bytes", [1, 205])
def test_host_port_extremes(word_bytes: int) -> None:
    test_host_port(word_bytes, "bursty")
