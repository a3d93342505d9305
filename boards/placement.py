"""Placements of block RAMs, multipliers and some flip-flops: kept from a route, and given to the next one.

    nextpnr's placement ─► {name: site} ─► placement.json ─► attribute BEL of each cell

nextpnr's static placer first places all cells as if they could overlap, and then moves the block RAMs and multipliers
to free sites of their columns. With 1,024 lanes, these moves add 76,000 to 94,000 units of wire. Another seed or a
small change of the netlist gives other sites. With a placement there are no such moves, and the sites are those of an
earlier route. nextpnr still places all other cells (docs/decisions/001-narrow-ways.md has figures). The placement costs
nothing on the chip.

The block RAMs alone do not decide where the placer puts a block of the machine: with the same sites, it may put the
norm at the other end of the chip. So a placement also has up to ``FLIP_FLOPS`` flip-flops, spread over all blocks. Only
flip-flops that take their input from another flip-flop are chosen, because nextpnr joins others with a LUT and places
both together. They have no enable and no reset, because a tile has few of these nets, and another netlist may have
others. A flip-flop that the next netlist does not have, or that has another input there, is left to nextpnr.

Each route writes its placement next to the bitstream (``PLACEMENT``), and ``lutern build --placement`` uses it for
another build.

A multiplier that was synthesised from an expression is named after one of the flip-flops behind it, such as
``top.decoder.scale.product_TRELLIS_FF_Q_7_DI_MULT18X18D_P34``, and the number of this flip-flop depends on details of
the synthesis. Only the part before ``_TRELLIS_FF`` names such a cell in a placement. If a module has the name of a
signal, such as ``scale``, Amaranth adds a number that depends on the rest of the gateware (``scale$314``). A placement
leaves this number out, too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lutern.boards.board import Fpga
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import read_plain

PLACEMENT = "placement.json"
"""Name of the file in the folder of a build."""
KINDS = {"DP16KD": r"EBR\d", "MULT18X18D": r"MULT18_\d"}
"""Types of the cells in a placement, and the end of their sites' names."""
FLIP_FLOPS = 1500
"""Largest number of flip-flops in a placement."""
_LARGEST = 1 << 20  # bytes of a file
_COUNTED = re.compile(r"(\.[a-z]\w*)\$\d+(?=\.)")
"""A module whose name is also the name of another part of the gateware."""
_SITE = re.compile(rf"X(\d+)/Y(\d+)/({'|'.join(KINDS.values())})")
_OF_FLIP_FLOP = re.compile(r"X(\d+)/Y(\d+)/SLICE[A-D]\.FF[01]")


@dataclass(frozen=True)
class Placement:
    """Sites of block RAMs, multipliers and flip-flops.

    fpga
        Name of the FPGA.
    sites
        Name of the site of each block RAM and multiplier, by the name of the cell as `short_name` returns it.
    flip_flops
        Name of the site of each flip-flop, by the name of the cell without numbers of modules.
    """

    fpga: str
    sites: Mapping[str, str]
    flip_flops: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the file."""
        parts = {"sites": self.sites, "flip_flops": self.flip_flops}
        return json.dumps(
            {"fpga": self.fpga, **{name: dict(sorted(part.items())) for name, part in parts.items()}}, indent=0
        )


def short_name(name: str) -> str:
    """Return the part of a cell's name that does not depend on details of the synthesis."""
    return _uncounted(name.partition("_TRELLIS_FF_Q")[0])


def _uncounted(name: str) -> str:
    return _COUNTED.sub(r"\1", name)


def placement_of(design: dict[str, Any], fpga: Fpga) -> Placement:
    """Return the placement in nextpnr's ``--write``."""
    sites = {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in _named(design).items()}
    registers = _registers(design)
    alone = sorted(name for name, cell in registers.items() if _is_alone(cell))
    chosen = alone[:: -(-len(alone) // FLIP_FLOPS) or 1]
    return Placement(fpga.name, sites, {name: registers[name]["attributes"]["NEXTPNR_BEL"] for name in chosen})


def _is_alone(flip_flop: dict[str, Any]) -> bool:
    """Return whether nextpnr did not join a flip-flop with a LUT, and the flip-flop has neither enable nor reset."""
    pins = flip_flop["connections"]
    return bool(pins.get("M")) and not pins.get("DI") and not _has_controls(flip_flop)


def _has_controls(flip_flop: dict[str, Any]) -> bool:
    return any(isinstance(net, int) for pin in ("CE", "LSR") for net in flip_flop["connections"].get(pin, ()))


def _named(design: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the block RAMs and multipliers of a netlist whose short names are unique, by these names."""
    cells = [(short_name(name), cell) for name, cell in design["modules"]["top"]["cells"].items()]
    cells = [(name, cell) for name, cell in cells if cell["type"] in KINDS]
    return _unique(cells)


def _unique(cells: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    counts = Counter(name for name, _ in cells)
    return {name: cell for name, cell in cells if counts[name] == 1}


def _registers(design: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the flip-flops whose names without numbers of modules are unique, by these names."""
    cells = design["modules"]["top"]["cells"].items()
    return _unique([(_uncounted(name), cell) for name, cell in cells if cell["type"] == "TRELLIS_FF"])


def read_placement(path: Path, fpga: Fpga) -> Placement:
    """Return the placement in a file.

    Raises
    ------
    LuternError
        The file cannot be read, or is no placement for this FPGA. A site does not exist, or two cells have the same
        site.
    """
    wanted = f"give a {PLACEMENT} from the folder of a build."
    try:
        found = json.loads(read_plain(path, _LARGEST, "placement"))
        sites, flip_flops = (
            {str(name): str(site) for name, site in part.items()}
            for part in (found["sites"], found.get("flip_flops", {}))
        )
        placement = Placement(found["fpga"], sites, flip_flops)
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); {wanted}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise LuternError(f"{path} is no placement; {wanted}") from None
    if placement.fpga != fpga.name:
        raise LuternError(f"{path} is a placement for an {placement.fpga}; give one for an {fpga.name}, or give none.")
    wrong = [(name, site) for name, site in sites.items() if not _exists(site, fpga)]
    wrong += [(name, site) for name, site in flip_flops.items() if not _OF_FLIP_FLOP.fullmatch(site)]
    for name, site in wrong:
        raise LuternError(f"{path} places {name} at {site}, but an {fpga.name} has no such site; correct it.")
    site, count = Counter([*sites.values(), *flip_flops.values(), ""]).most_common(1)[0]
    if count > 1:
        raise LuternError(f"{path} places {count} cells at {site}, which holds one; correct it.")
    return placement


def _exists(site: str, fpga: Fpga) -> bool:
    """Return whether the FPGA has a site. Rows and columns are compared only where they are known."""
    found = _SITE.fullmatch(site)
    if found is None or not found[3].startswith("EBR") or not fpga.block_ram_rows:
        return found is not None
    first = int(found[1]) - 2 * int(found[3][-1])
    return first in fpga.block_ram_columns and int(found[2]) in fpga.block_ram_rows


def place(design: dict[str, Any], placement: Placement) -> None:
    """Write the sites of a placement into a netlist (yosys' JSON).

    nextpnr places the block RAMs and multipliers that the placement lacks. Raises ``LuternError`` if the placement has
    cells that the netlist lacks.
    """
    named = _named(design)
    missing = [name for name in placement.sites if name not in named]
    if missing:
        raise LuternError(
            f"the placement has {len(missing)} cells that this machine does not have, such as {missing[0]}; give the "
            f"{PLACEMENT} of a build of this machine."
        )
    for name, site in placement.sites.items():
        named[name]["attributes"]["BEL"] = site
    for cell, site in _flip_flops(design, placement):
        cell["attributes"]["BEL"] = site


def _flip_flops(design: dict[str, Any], placement: Placement) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the flip-flops of a netlist that the placement has and that follow a flip-flop, with their sites."""
    cells = design["modules"]["top"]["cells"]
    outputs = {cell["connections"]["Q"][0] for cell in cells.values() if cell["type"] == "TRELLIS_FF"}
    for name, cell in _registers(design).items():
        site = placement.flip_flops.get(name)
        if site and cell["connections"].get("DI", [None])[0] in outputs and not _has_controls(cell):
            yield cell, site


__all__ = ["KINDS", "PLACEMENT", "Placement", "place", "placement_of", "read_placement", "short_name"]
