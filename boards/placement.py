"""Placements of block RAMs and multipliers: kept from a route, and given to the next one.

    nextpnr's placement ─► block RAMs and multipliers: {name: site} ─► placement.json ─► attribute BEL of each cell

nextpnr's static placer first places all cells as if they could overlap, and then moves the block RAMs and multipliers
to free sites of their columns. With 1,024 lanes, these moves add 76,000 to 94,000 units of wire. Another seed or a
small change of the netlist gives other sites. With a placement there are no such moves, and the sites are those of an
earlier route. nextpnr still places all other cells (docs/decisions/001-narrow-ways.md has figures). The placement costs
nothing on the chip.

Each route writes its placement next to the bitstream (``PLACEMENT``), and ``lutern build --placement`` uses it for
another build.

A multiplier that was synthesised from an expression is named after one of the flip-flops behind it, such as
``top.decoder.scale.product_TRELLIS_FF_Q_7_DI_MULT18X18D_P34``, and the number of this flip-flop depends on details of
the synthesis. Only the part before ``_TRELLIS_FF`` names such a cell in a placement.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lutern.boards.board import Fpga
from lutern.model_ref.errors import LuternError
from lutern.model_ref.input_files import read_plain

PLACEMENT = "placement.json"
"""Name of the file in the folder of a build."""
KINDS = {"DP16KD": r"EBR\d", "MULT18X18D": r"MULT18_\d"}
"""Types of the cells in a placement, and the end of their sites' names."""
_LARGEST = 1 << 20  # bytes of a file
_SITE = re.compile(rf"X(\d+)/Y(\d+)/({'|'.join(KINDS.values())})")


@dataclass(frozen=True)
class Placement:
    """Sites of block RAMs and multipliers.

    fpga
        Name of the FPGA.
    sites
        Name of the site of each cell, by the name of the cell as `short_name` returns it.
    """

    fpga: str
    sites: Mapping[str, str]

    @property
    def text(self) -> str:
        """The text of the file."""
        return json.dumps({"fpga": self.fpga, "sites": dict(sorted(self.sites.items()))}, indent=0)


def short_name(name: str) -> str:
    """Return the part of a cell's name that does not depend on details of the synthesis."""
    return name.partition("_TRELLIS_FF_Q")[0]


def placement_of(design: dict[str, Any], fpga: Fpga) -> Placement:
    """Return the placement in nextpnr's ``--write``."""
    sites = {name: cell["attributes"]["NEXTPNR_BEL"] for name, cell in _named(design).items()}
    return Placement(fpga.name, sites)


def _named(design: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the block RAMs and multipliers of a netlist whose short names are unique, by these names."""
    cells = [(short_name(name), cell) for name, cell in design["modules"]["top"]["cells"].items()]
    cells = [(name, cell) for name, cell in cells if cell["type"] in KINDS]
    counts = Counter(name for name, _ in cells)
    return {name: cell for name, cell in cells if counts[name] == 1}


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
        placement = Placement(found["fpga"], {str(name): str(site) for name, site in found["sites"].items()})
    except OSError as error:
        raise LuternError(f"{path} cannot be read ({error.strerror}); {wanted}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise LuternError(f"{path} is no placement; {wanted}") from None
    if placement.fpga != fpga.name:
        raise LuternError(f"{path} is a placement for an {placement.fpga}; give one for an {fpga.name}, or give none.")
    for name, site in placement.sites.items():
        if not _exists(site, fpga):
            raise LuternError(f"{path} places {name} at {site}, but an {fpga.name} has no such site; correct it.")
    site, count = Counter(placement.sites.values()).most_common(1)[0] if placement.sites else ("", 0)
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


__all__ = ["KINDS", "PLACEMENT", "Placement", "place", "placement_of", "read_placement", "short_name"]
