"""hw/link/host_port.py, byte for byte and cycle by cycle: narrow and wide words, one or several streams, all pauses."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from amaranth.hdl import Const, Elaboratable, Signal, Value

from lutern.hw import protocol
from lutern.hw.link import HostPort, host_port
from lutern.hw.link.run import Run
from lutern.hw.protocol import capability
from lutern.sim.runner import run_bench
from lutern.sim.streams import PAUSES

CONFIGS: dict[str, dict[str, Any]] = {
    "one": {},
    "four": {"word_bytes": 13, "streams": 4, "part_bits": 2},
    "stream": {"word_bytes": 2, "streams": 16, "source": "streamed", "top_k": 20},
    "widest": {"word_bytes": 64, "streams": 8},
    "axi": {"word_bytes": 8, "source": "streamed", "memory": "axi"},
    "host": {"word_bytes": 2, "source": "streamed", "memory": "host", "memory_words": 4096},
    "vast": {
        "word_bytes": 8,
        "streams": 2,
        "source": "streamed",
        "memory_words": (1 << 32) - 2,
        "address_bits": 32,
        "base_bits": 20,
    },
}


def run(
    name: str,
    pause: str,
    testcase: str | None = None,
    block: type[HostPort] = HostPort,
    step_limit_cycles: int = 0,
    bench: str = "host_port",
) -> None:
    config = {
        "rows": 4,
        "columns": 4,
        "streams": 1,
        "results_per_cycle": 1,
        "codes_per_cycle": 2,
        "source": "resident",
        "memory": "block",
        "word_bytes": 4,
        "memory_words": 5000,
        "trit_beats": 300,
        "part_bits": 0,
        "address_bits": 24,
        "base_bits": 16,
        "max_width": 64,
        "max_state": 128,
        "max_vocab": 200,
        "top_k": 0,
        "clock_hz": 80_000_000,
        "chip_digest": "c0db" * 16,
        "has_clock_tables": False,
        "counters": False,
        "state": "block",
        **CONFIGS[name],
    }
    config["word_bits"] = 8 * config["word_bytes"]
    component = block(SimpleNamespace(**config))
    info = capability(component.config).hex()
    run_bench(
        component,
        f"lutern.sim.benches.{bench}",
        seed=11 + config["word_bytes"],
        testcase=testcase,
        parameters={
            "config": config,
            "pause": pause,
            "frames": 30,
            "info": info,
            "step_limit_cycles": step_limit_cycles,
        },
    )


@pytest.mark.parametrize(
    ("name", "pause"),
    [*(("one", pause) for pause in PAUSES), ("four", "none"), ("four", "random"), ("stream", "none"), ("vast", "none")],
)
def test_host_port(name: str, pause: str) -> None:
    run(name, pause)


def test_a_faulty_memory() -> None:
    run("axi", "none", "a_faulty_memory")


def test_a_step_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STEP_LIMIT_CYCLES", 64)
    run("one", "none", "a_step_that_takes_too_long", step_limit_cycles=64)


@pytest.mark.parametrize("testcase", ["a_last_token_while_a_repeated_run_is_decoded", "a_token_at_the_limit"])
def test_the_cycle_of_a_last_token(testcase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STEP_LIMIT_CYCLES", 64)  # one build for both cases
    run("one", "none", testcase, step_limit_cycles=64, bench="host_port_last_token")


@pytest.mark.parametrize(
    ("testcase", "pause"),
    [
        ("a_want_after_a_failed_run", "none"),
        ("a_want_after_a_failed_run", "random"),
        ("a_want_while_a_run_fails", "none"),
    ],
)
def test_a_want_and_a_failed_run(testcase: str, pause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STEP_LIMIT_CYCLES", 64)  # one build for all cases
    run("host", pause, testcase, step_limit_cycles=64, bench="host_port_want")


def never(run: Run) -> Value:
    return Const(0)


def too_early(run: Run) -> Value:
    """Return a signal that ends a step one unit of 64 cycles before its limit."""
    port, late = run._port, Signal(name="early")
    run._m.d.sync += late.eq(run.is_busy & (port.status.cycles[6:] + 1 == port.setup.step_limit))
    return late


def always_limited(run: Run) -> Value:
    """Return a signal that treats the limit 0, which means no limit, as 65,536 units."""
    port, late = run._port, Signal(name="wrapped")
    run._m.d.sync += late.eq(run.is_busy & (port.status.cycles[6:22] == port.setup.step_limit) & ~port.i_token.valid)
    return late


@pytest.mark.parametrize("wrong", [never, too_early, always_limited])
def test_mutation_of_the_watchdog_is_found(wrong: Callable[[Run], Value], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STEP_LIMIT_CYCLES", 64)
    monkeypatch.setattr(Run, "_is_too_long", wrong)
    with pytest.raises(AssertionError, match=r"cycles, limit \d|limit \d, \d tokens|host_port.o_tx: .* seed 15"):
        run("one", "none", "a_step_that_takes_too_long", step_limit_cycles=64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["four", "stream", "widest"])
def test_host_port_bursty(name: str) -> None:
    run(name, "bursty")


class Hasty(HostPort):
    """A mutant that starts the machine in the cycle in which the setup changes, which is one cycle too early."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(self.setup.vocab != 0):
            m.d.sync += self.stopped.eq(0)
        return m


class Unchained(HostPort):
    """A mutant that does not tell the machine that streams are chained."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        m.d.comb += self.o_run.payload.chained.eq(0)
        return m


class Undaunted(HostPort):
    """A mutant that keeps the machine running after damage of the weights has ended a run."""

    def elaborate(self, platform: object) -> Elaboratable:
        m: Any = super().elaborate(platform)
        with m.If(self.damage.kind != protocol.Damage.NONE):
            m.d.sync += self.stopped.eq(0)
        return m


@pytest.mark.parametrize(
    ("block", "testcase", "text"),
    [
        (Hasty, "commands", "while running|that is read|assert"),
        (Unchained, "runs", "host_port.o_run: .*got 0x"),
        (Undaunted, "damaged_weights", "running after RECORDS"),
    ],
)
def test_mutation_is_found(block: type[HostPort], testcase: str, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        run("four", "none", testcase, block)


def test_mutation_of_the_limit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_port, "RUN_TOKENS", 129)
    with pytest.raises(AssertionError, match="seed 24"):
        run("four", "none", "bad_runs")
