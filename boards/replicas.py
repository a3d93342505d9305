"""Replicates LUTs of slow paths that cannot move (logic replication).

A LUT that is joined with its flip-flop stays beside it, and a LUT with many sinks is far from some of them anywhere.
The replica of such a LUT computes the same from the same nets, and drives only the sinks on slow paths:

    nets ─► LUT ─┬─► flip-flop beside it          nets ─┬─► LUT ─┬─► flip-flop beside it
                 ├─► sinks on slow paths    ─►          │        └─► other sinks
                 └─► other sinks                        └─► replica ─► sinks on slow paths

``moves.py`` finds a place for the replica. A replica that is nowhere better than its LUT is not made.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lutern.boards.delays import Delays, Pin
from lutern.boards.moves import BESIDE, MOST_SINKS, can_move, is_plain


@dataclass(frozen=True)
class Replica:
    """A LUT that computes the same as ``original``, for the input pins ``sinks``."""

    name: str
    original: str
    sinks: tuple[Pin, ...]

    def make(self, design: dict[str, Any], place: str) -> None:
        """Add the replica to a design, at a free place. It has no routes yet, and the sinks must have none either."""
        top = design["modules"]["top"]
        cells, nets = top["cells"], top["netnames"]
        bit = 1 + max(bit for net in nets.values() for bit in net["bits"] if isinstance(bit, int))
        cell = copy.deepcopy(cells[self.original])
        cell["attributes"]["NEXTPNR_BEL"] = place
        cell["connections"]["F"] = [bit]
        cells[self.name] = cell
        nets[self.name] = {"hide_name": 1, "bits": [bit], "attributes": {}}
        for name, port in self.sinks:
            cells[name]["connections"][port] = [bit]


def replicas_for(design: Mapping[str, Any], delays: Delays, slow: Iterable[Pin]) -> list[Replica]:
    """Return a replica for each plain LUT that has sinks among ``slow`` and cannot move itself."""
    cells = design["modules"]["top"]["cells"]
    driven: dict[Pin, list[Pin]] = defaultdict(list)
    for sink in slow:
        if sink[1] not in BESIDE:
            driven[delays.connections[sink][0]].append(sink)
    all_sinks = delays.sinks()
    return [
        Replica(_new_name(cells, pin[0]), pin[0], tuple(sinks))
        for pin, sinks in driven.items()
        if pin[1] == "F" and is_plain(cells[pin[0]]) and len(sinks) <= MOST_SINKS and not can_move(all_sinks[pin])
    ]


def _new_name(cells: Mapping[str, Any], original: str) -> str:
    number = 1
    while f"{original}$replica{number}" in cells:
        number += 1
    return f"{original}$replica{number}"


def with_replicas(delays: Delays, replicas: Iterable[Replica]) -> Delays:
    """Return the delays of a design with replicas, each at the place of its LUT."""
    connections, through = dict(delays.connections), delays.through.copy()
    for replica in replicas:
        through[replica.name, "F"] = through[replica.original, "F"]
        for port, _ in through[replica.original, "F"]:
            if (replica.original, port) in connections:
                connections[replica.name, port] = connections[replica.original, port]
        for sink in replica.sinks:
            connections[sink] = (replica.name, "F"), connections[sink][1]
    return replace(delays, connections=connections, through=through)


__all__ = ["Replica", "replicas_for", "with_replicas"]
