"""The bench helpers accept correct streams, find each breach of the stream contract, and report the place of
mismatches."""

import random

import numpy as np
import pytest
from amaranth import Elaboratable, Module, Signal, signed
from amaranth.hdl import Const
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from lutern.hw.layouts import Op
from lutern.sim.runner import run_bench
from lutern.sim.scoreboard import Mismatch, Scoreboard
from lutern.sim.streams import PAUSES, pack, pauses, unpack


class Stage(wiring.Component):
    """A stage with one register. `fault` selects a rule of the stream contract that the stage breaks."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        super().__init__()

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        full, held = Signal(), Signal(8)
        m.d.comb += [self.i.ready.eq(~full | self.o.ready), self.o.payload.eq(held), self.o.valid.eq(full)]
        with m.If(self.i.ready):
            m.d.sync += [full.eq(self.i.valid), held.eq(self.i.payload)]
        if self.fault == "payload":
            m.d.comb += self.o.payload.eq(held ^ ~self.o.ready)
        if self.fault == "valid":
            waited = Signal()
            m.d.sync += waited.eq(full & ~self.o.ready & ~waited)
            m.d.comb += self.o.valid.eq(full & ~waited)
        if self.fault == "waits":
            m.d.comb += self.o.valid.eq(full & self.o.ready)
        return m


@pytest.mark.parametrize(("source", "sink"), [*((name, name) for name in PAUSES), ("none", "after_valid")])
def test_right_stage_passes(source: str, sink: str) -> None:
    run_bench(Stage(), "lutern.sim.benches.streams", parameters={"source": source, "sink": sink, "error": 0}, seed=3)


@pytest.mark.parametrize(
    ("fault", "sink", "text"),
    [
        ("valid", "bursty", "o__valid fell before o__ready rose"),
        ("waits", "after_valid", "payloads came, then nothing for 200 cycles"),
        ("payload", "random", "o__payload changed from"),
    ],
)
def test_broken_stage_is_seen(fault: str, sink: str, text: str) -> None:
    parameters = {"source": "none", "sink": sink, "error": 0}
    with pytest.raises(AssertionError, match=text) as error:
        run_bench(Stage(fault), "lutern.sim.benches.streams", parameters=parameters, seed=4)
    assert "seed 4" in str(error.value)


def test_wrong_item_is_seen() -> None:
    parameters = {"source": "none", "sink": "none", "error": 1}
    with pytest.raises(AssertionError, match=r"stage: cycle 3: got 0x\w+ .*, expected 0x\w+ .*, seed 5"):
        run_bench(Stage(), "lutern.sim.benches.streams", parameters=parameters, seed=5)


def test_messages_of_the_scoreboard() -> None:
    board = Scoreboard("norm.codes", seed=7, bits=8, decode=lambda value: f"{value / 127:+.3f}")
    board.expect_all([127, -1], token=3, layer=1)
    board.check(411, 127)
    with pytest.raises(Mismatch) as error:
        board.check(412, 126)
    assert str(error.value) == (
        "norm.codes: token 3, layer 1, index 1, cycle 412: got 0x7e (126, +0.992), expected 0xff (-1, -0.008), "
        "after 1 equal items, seed 7"
    )
    with pytest.raises(Mismatch, match="an item came that was not expected"):
        board.check(413, 0)
    board.expect(5)
    with pytest.raises(Mismatch, match="1 items are missing after 1"):
        board.finish()


def test_layouts_pack_and_unpack() -> None:
    layout = data.StructLayout({"a": 5, "b": signed(3)})
    assert unpack(layout, pack(layout, {"a": 17, "b": -2})) == {"a": 17, "b": -2}


def test_packed_is_what_amaranth_packs() -> None:
    """``pack`` equals Amaranth for nested layouts, missing fields, negative values and NumPy numbers."""
    inner = data.StructLayout({"x": signed(7), "y": 2})
    layout = data.StructLayout({"a": 5, "list": data.ArrayLayout(signed(4), 3), "inner": inner, "op": Op})
    draw = random.Random(6)
    for _ in range(20):
        fields = {
            "a": np.int64(draw.randrange(32)),
            "list": [draw.randrange(-8, 8) for _ in range(3)],
            "inner": {"x": draw.randrange(-64, 64)},
            "op": draw.choice(list(Op)),
        }
        assert pack(layout, fields) == Const.cast(layout.const(fields)).value, f"{fields}, seed 6"
        assert unpack(layout, pack(layout, fields))["a"] == fields["a"]
    with pytest.raises(KeyError):
        pack(layout, {"b": 1})


def test_pauses_are_seeded() -> None:
    first, again, other = (pauses("random", seed) for seed in (1, 1, 2))
    rows = [[next(pattern) for _ in range(64)] for pattern in (first, again, other)]
    assert rows[0] == rows[1] != rows[2]
    with pytest.raises(ValueError, match="'never' is not one of none, random, bursty, alternating"):
        pauses("never")
