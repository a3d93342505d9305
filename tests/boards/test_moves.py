"""LUTs of slow paths move to free places that are nearer to their neighbours, and all other cells stay."""

from __future__ import annotations

import pytest
from small_chip import CLOCK, design

from lutern.boards.delays import Delays, Pin
from lutern.boards.moves import GAIN_NS, MOST_SINKS, Distances, Mover, free_places, is_plain


def moved_by(chip: dict, delays: Delays, nets: dict[Pin, int], slow: list[Pin]) -> dict[str, str]:
    mover = Mover(chip, delays, Distances(chip, delays))
    mover.improve(delays.timing(nets, CLOCK), slow)
    return mover.moved


def improved(chip: dict, delays: Delays) -> dict[str, str]:
    nets = {(name, "CLK"): CLOCK for name in chip["modules"]["top"]["cells"]}
    return moved_by(chip, delays, nets, [("lut", "A"), ("end", "M")])


def test_a_lut_moves_to_its_neighbours() -> None:
    """The LUT moves between its registers, beside the full place, and neither into the slice of the carry chain nor
    beside the register that waits for its own LUT."""
    chip, delays = design()
    assert improved(chip, delays) == {"lut": "X6/Y5/SLICEA.K1"}
    assert free_places(chip["modules"]["top"]["cells"])[6, 5] == [
        "X6/Y5/SLICEA.K1",
        "X6/Y5/SLICEC.K1",
        "X6/Y5/SLICED.K0",
        "X6/Y5/SLICED.K1",
    ]


def test_a_lut_without_a_gain_stays() -> None:
    chip, delays = design()
    for sink in (("lut", "A"), ("end", "M")):
        delays.connections[sink] = (delays.connections[sink][0], 0.2 + GAIN_NS / 2)
    assert improved(chip, delays) == {}


@pytest.mark.parametrize("change", ["sinks", "carry", "joined", "multiplexer"])
def test_luts_that_stay(change: str) -> None:
    """A LUT stays if it has many sinks, if it is part of a carry chain or a multiplexer, or if it is joined with a
    flip-flop."""
    chip, delays = design(MOST_SINKS + 1 if change == "sinks" else 1)
    lut = chip["modules"]["top"]["cells"]["lut"]
    if change == "carry":
        lut["parameters"]["MODE"] = "CCU2"
    if change == "joined":
        delays.connections["end", "DI"] = delays.connections.pop(("end", "M"))
        delays.ended["end", "DI"] = ("CLK", 0.0)
        nets = {(name, "CLK"): CLOCK for name in chip["modules"]["top"]["cells"]}
        assert moved_by(chip, delays, nets, [("lut", "A"), ("end", "DI")]) == {}
        return
    if change == "multiplexer":
        lut["connections"]["FXA"] = [13]
    assert is_plain(lut) == (change == "sinks")
    assert improved(chip, delays) == {}


def test_typical_delays() -> None:
    """The typical delay is the median of the distance, or of the next distance that occurs."""
    chip, delays = design()
    distances = Distances(chip, delays)
    assert distances.typical((0, 0), (3, 4)) == pytest.approx(0.7)
    assert distances.typical((0, 0), (0, 0)) == pytest.approx(0.1)
    assert distances.typical((0, 0), (60, 60)) == float("inf")
