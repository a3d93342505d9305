"""A LUT that cannot move is replicated near its sinks on slow paths, and drives the others itself."""

from __future__ import annotations

import pytest
from small_chip import CLOCK, cell, design

from lutern.boards import reroute
from lutern.boards.delays import Delays, Pin
from lutern.boards.moves import MOST_SINKS, Distances, Mover
from lutern.boards.replicas import Replica, replicas_for, with_replicas

SLOW = [("lut", "A"), ("end", "M")]
SINKS = {"FF": "M", "RAMW": "B1", "IO": "I"}
WIRES = {"FF": "M0_SLICE", "RAMW": "B5_SLICE", "IO": "PADDOA_PIO"}
"""An input port of each kind of cell, and its wire."""


def joined() -> tuple[dict, Delays]:
    """Return the small chip with a flip-flop beside the LUT that takes its output."""
    chip, delays = design()
    chip["modules"]["top"]["cells"]["beside"] = cell("FF", "X6/Y45/SLICEA.FF0", CLK=CLOCK, DI=11)
    delays.connections["beside", "DI"] = (("lut", "F"), 0.0)
    delays.ended["beside", "DI"] = ("CLK", 0.0)
    return chip, delays


def moved(chip: dict, delays: Delays, replicas: list[Replica]) -> dict[str, str]:
    """Return the new places of LUTs and replicas."""
    distances = Distances(chip, delays)
    distances.tiles.update((replica.name, distances.tiles[replica.original]) for replica in replicas)
    replicated = with_replicas(delays, replicas)
    mover = Mover(chip, replicated, distances, [replica.name for replica in replicas])
    nets = {(name, "CLK"): CLOCK for name in chip["modules"]["top"]["cells"]}
    inputs = [pin for pin in replicated.connections if pin[0] in {replica.name for replica in replicas}]
    mover.improve(replicated.timing(nets, CLOCK), [*SLOW, *inputs])
    return mover.moved


def test_a_joined_lut_is_replicated() -> None:
    """The replica drives the slow sink from a place near it. The LUT keeps its place, and its flip-flop."""
    chip, delays = joined()
    (replica,) = replicas_for(chip, delays, SLOW)
    assert replica == Replica("lut$replica1", "lut", (("end", "M"),))
    before = dict(delays.connections)
    assert moved(chip, delays, [replica]) == {"lut$replica1": "X6/Y5/SLICEA.K1"}
    assert delays.connections == before

    top = chip["modules"]["top"]
    top["netnames"] = {"net": {"bits": [11], "attributes": {}}, "constant": {"bits": ["0"], "attributes": {}}}
    replica.make(chip, "X6/Y5/SLICEA.K1")
    assert top["netnames"]["lut$replica1"]["bits"] == [12]
    assert top["cells"]["lut$replica1"] == cell("COMB", "X6/Y5/SLICEA.K1", A=10, F=12)
    assert top["cells"]["lut"] == cell("COMB", "X6/Y45/SLICEA.K0", A=10, F=11)
    assert top["cells"]["beside"]["connections"]["DI"] == [11]
    assert top["cells"]["end"]["connections"]["M"] == [12]
    assert replicas_for(chip, delays, SLOW)[0].name == "lut$replica2"


def test_a_lut_of_many_sinks_is_replicated() -> None:
    chip, delays = design(MOST_SINKS + 1)
    assert replicas_for(chip, delays, SLOW) == [Replica("lut$replica1", "lut", (("end", "M"),))]
    slow = [sink for sink, (driver, _) in delays.connections.items() if driver == ("lut", "F")]
    assert len(slow) == MOST_SINKS + 1 and replicas_for(chip, delays, slow) == []


@pytest.mark.parametrize(
    ("change", "slow"), [("movable", SLOW), ("carry", SLOW), ("beside", [("lut", "A"), ("beside", "DI")])]
)
def test_luts_without_a_replica(change: str, slow: list[Pin]) -> None:
    """A LUT that can move is not replicated, nor a part of a carry chain, nor one with only its flip-flop on a slow
    path."""
    chip, delays = design() if change == "movable" else joined()
    if change == "carry":
        chip["modules"]["top"]["cells"]["lut"]["parameters"]["MODE"] = "CCU2"
    assert replicas_for(chip, delays, slow) == []


@pytest.mark.parametrize("kind", ["FF", "RAMW", "IO"])
def test_sinks_of_a_replica_have_a_known_wire(kind: str) -> None:
    """A pin whose wire is not known keeps its route, so it must keep its net, too."""
    chip, delays = joined()
    top = chip["modules"]["top"]
    end = cell(kind, "X8/Y5/RAMW" if kind == "RAMW" else "X8/Y5/SLICEA.FF0", CLK=CLOCK, **{SINKS[kind]: 11})
    top["cells"]["end"] = end
    pin = "end", SINKS[kind]
    delays.connections[pin] = delays.connections.pop(("end", "M"))
    delays.ended[pin] = ("CLK", delays.ended.pop(("end", "M"))[1])
    route = f"X6/Y45/F0;;1;X8/Y5/{WIRES[kind]};X6/Y45/2_-40_F0->{WIRES[kind]};1"
    top["netnames"] = {
        "clk": {"bits": [CLOCK], "attributes": {}},
        "net": {"bits": [11], "attributes": {"ROUTING": route}},
    }
    opened = reroute.open_slowest(chip, delays, {"clk": 1.0}, replicates=True)
    made = int(kind != "IO")
    assert opened.replicated == made and end["connections"][SINKS[kind]] == [12 if made else 11]
    assert (WIRES[kind] in top["netnames"]["net"]["attributes"]["ROUTING"]) != bool(made)


def test_a_constant_that_a_replica_reads_stays() -> None:
    """A LUT without inputs has nothing that it could move to."""
    chip, delays = joined()
    chip["modules"]["top"]["cells"]["constant"] = cell("COMB", "X60/Y45/SLICEA.K0", F=15)
    delays.connections["lut", "B"] = (("constant", "F"), 1.0)
    delays.through["lut", "F"].append(("B", 0.2))
    assert moved(chip, delays, replicas_for(chip, delays, SLOW)) == {"lut$replica1": "X6/Y5/SLICEA.K1"}


def test_a_replica_without_a_gain_is_not_made() -> None:
    """The sink is beside the LUT already."""
    chip, delays = joined()
    for sink in SLOW:
        delays.connections[sink] = (delays.connections[sink][0], 0.1)
    assert moved(chip, delays, replicas_for(chip, delays, SLOW)) == {}
