"""Cycles of machines whose words are in DRAM: the formula is compared with the RTL on the simulated board, at several
clocks."""

from __future__ import annotations

import pytest
from amaranth.lib import wiring

from lutern.firmware.link import Client
from lutern.firmware.program import Program, lay_out
from lutern.firmware.session import Feed, Session
from lutern.hw.memory import Ddr3Timings, any_part, timings_for
from lutern.hw.presets import preset
from lutern.measure.cycles import token_cycles
from lutern.measure.word_rate import mean_word_hz, pass_cycles, peak_word_hz
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard, simulated

SEED = 21
CONFIG = preset("ddr3-x16")
DEMO = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)
SLICE = ModelConfig(vocab_size=256, hidden_size=1024, num_hidden_layers=2, intermediate_size=2816)
"""Two layers of the released 370M."""


@pytest.fixture(scope="module")
def component() -> wiring.Component:
    return simulated(CONFIG)


def difference(component: wiring.Component, program: Program, sync_mhz: int, memory_mhz: int, steps: int) -> float:
    """Return the relative difference of the RTL's cycles from the formula's, as the mean of ``steps`` runs. The part's
    timings are those of CONFIG."""
    timings = timings_for(CONFIG)
    assert isinstance(timings, Ddr3Timings)
    config = CONFIG.with_(clock_hz=CONFIG.memory_hz * sync_mhz // memory_mhz)
    with SimulatedBoard(component, memory_clock=(memory_mhz, sync_mhz)) as board:
        session = Session(Client(board, timeout_s=60.0, token_timeout_s=60.0), program, door=board)
        counted = [session.run([Feed(3, fresh=True)], 3 + step).cycles for step in range(steps)]
    words = program.bytes_per_token // config.word_bytes
    expected = pass_cycles(config, token_cycles(program.model_config, config).cycles, words)
    share = sum(counted) / steps / expected - 1
    print(f"sync {sync_mhz}, memory {memory_mhz} MHz: {counted} cycles, by the formula {expected}: {share:+.3%}")
    return share


@pytest.mark.slow
@pytest.mark.parametrize(("sync_mhz", "memory_mhz"), [(75, 75), (60, 100), (65, 75), (50, 100)])
def test_cycles_of_the_demo(component: wiring.Component, sync_mhz: int, memory_mhz: int) -> None:
    """The cycles agree within 1 %, also if the memory delivers a word in every cycle of the machine. A refresh takes
    0.6 % of a token."""
    program = lay_out(integer_weights(random_checkpoint(DEMO, SEED)), CONFIG)
    assert abs(difference(component, program, sync_mhz, memory_mhz, 3)) <= 0.01, f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.parametrize(("sync_mhz", "memory_mhz"), [(75, 75), (60, 100), (65, 75)])
def test_cycles_of_two_layers_of_370m(component: wiring.Component, sync_mhz: int, memory_mhz: int) -> None:
    program = lay_out(integer_weights(random_checkpoint(SLICE, SEED)), CONFIG)
    assert abs(difference(component, program, sync_mhz, memory_mhz, 1)) <= 0.001, f"seed {SEED}"


def test_rates_by_hand() -> None:
    """DDR3 delivers a word in every other cycle of its controller, but at most one word per cycle of the machine."""
    timings = timings_for(CONFIG)
    assert timings is not None
    assert peak_word_hz(CONFIG) == CONFIG.memory_hz / 2
    assert mean_word_hz(CONFIG) == pytest.approx(CONFIG.memory_hz / 2 * (1 - timings.refresh_loss))
    slow = CONFIG.with_(clock_hz=CONFIG.memory_hz // 4)
    assert peak_word_hz(slow) == mean_word_hz(slow) == slow.clock_hz
    sdram = preset("sdram-x16").with_(clock_hz=200_000_000)
    assert peak_word_hz(sdram) == any_part(16).clock_hz > mean_word_hz(sdram)
    block = preset("stream-x16")
    assert peak_word_hz(block) == mean_word_hz(block) == block.clock_hz
    assert pass_cycles(block, 1000, 900) == 1000 and pass_cycles(CONFIG, 1000, 900) > 1800
