"""The UART sends and receives bytes over a line whose other end has its own clock."""

from __future__ import annotations

import pytest

from lutern.firmware.slip import encode_frame
from lutern.hw.link import LOWEST_DIVISOR, Uart, uart
from lutern.hw.presets import preset
from lutern.hw.protocol import Opcode, capability
from lutern.hw.top import SerialTop
from lutern.model_ref.errors import LuternError
from lutern.sim.runner import run_bench


def run(built: Uart, divisor: int, error: float = 0.0, pause: str = "none") -> None:
    """Run the bench at ``divisor`` cycles per bit. A bit of the other end is longer by the fraction ``error`` of a
    bit."""
    parameters = {"divisor": divisor, "error": error, "pause": pause, "rx_latency": Uart.rx_latency_of(divisor)}
    run_bench(built, "lutern.sim.benches.uart", parameters=parameters, seed=40 + divisor)


@pytest.mark.parametrize("error", [-0.02, 0.0, 0.02])
@pytest.mark.parametrize("divisor", [8, 25])
def test_bytes(divisor: int, error: float) -> None:
    run(Uart(divisor), divisor, error, pause="none" if error == 0 else "random")


def bits_are_hit(divisor: int, error: float, phase: float) -> bool:
    """Return whether every sample is within its bit, if the start bit falls ``phase`` cycles before a clock edge.

    The UART samples half a bit after the first cycle in which the line is low, and then every ``divisor`` cycles.
    """
    bit = divisor * (1 + error)
    samples = [phase + divisor // 2 + divisor * place for place in range(10)]
    return all(place * bit < at < (place + 1) * bit for place, at in enumerate(samples))


@pytest.mark.parametrize("error", [-0.037, -0.02, 0.02, 0.037])
def test_differences_of_the_rates_that_the_uart_tolerates(error: float) -> None:
    """For each divisor, every sample falls within its bit if the rates differ by up to 3.7 %. Start bits fall at
    several times between two edges of the clock."""
    for divisor in range(LOWEST_DIVISOR, 256):
        for sixteenths in range(1, 17):
            assert bits_are_hit(divisor, error, sixteenths / 16), f"{divisor} cycles a bit, {sixteenths} sixteenths"
    assert not bits_are_hit(LOWEST_DIVISOR, -0.04, 1.0)


@pytest.mark.parametrize("error", [-0.035, 0.035])
def test_bytes_at_the_limit(error: float) -> None:
    run(Uart(LOWEST_DIVISOR), LOWEST_DIVISOR, error, pause="random")


def test_another_rate_is_found() -> None:
    with pytest.raises(AssertionError, match="bytes_come"):
        run(Uart(9), 8)


def test_a_short_fifo_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uart, "FIFO_BYTES", 15)
    with pytest.raises(AssertionError, match="overrun is 1, but no byte was lost"):
        run(Uart(8), 8)


def test_a_rate_too_high_is_refused() -> None:
    with pytest.raises(LuternError, match="takes 4 cycles; choose a baud rate at which it takes 8 or more"):
        Uart(4)


def test_a_rate_too_low_for_any_clock_is_refused() -> None:
    """A bit of 255 cycles, the longest for any clock, gives tables that hold its constants."""
    longest = (1 << uart.DIVISOR_BITS) - 1
    assert max(Uart(longest, any_clock=True).constants_of(longest).values()) < 1 << uart.DIVISOR_BITS
    with pytest.raises(LuternError, match="takes 256 cycles, but the counters of this machine reach 255; choose a low"):
        Uart(longest + 1, any_clock=True)
    Uart(longest + 1)


@pytest.mark.slow
def test_the_chip_behind_a_line() -> None:
    config = preset("tiny").with_(debug_tap=False)
    frame = encode_frame(Opcode.INFO | 0x80, 9, capability(config))
    run_bench(
        SerialTop(config, 8),
        "lutern.sim.benches.uart",
        testcase="the_chip_answers",
        parameters={"divisor": 8, "error": 0.0, "answer": frame.hex()},
        seed=48,
    )
