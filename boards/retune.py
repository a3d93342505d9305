"""Writes another clock into the configuration of a routed machine for any clock (``HwConfig.any_clock``).

    RTLIL ─► RTLIL without the clock ─► digests of netlist and route: the same for all clocks
    routed design ─► tile and word of each LUT4 of a constant ─┐
    configuration of any clock, Tuning ────────────────────────┴─► configuration of the wanted clock

The netlists of two clocks differ only in the tables of the LUT4s that ``hw.pipeline.constant`` adds, and in the
dividers of the PLL. None of them changes a place or a wire. So one route serves all clocks, and another clock takes
seconds in place of the time of place and route. Source of the words: Project Trellis' database of the ECP5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lutern.boards.pll import PllPlan

Sites = dict[str, tuple[str, str]]
"""Tile and word of the table of each LUT4, by CONSTANT_BIT."""

_BIT = re.compile(r".*\.(\w+_\d+)")
_PLACE = re.compile(r"X(\d+)/Y(\d+)/(SLICE[A-D])\.K([01])")
_DIVIDER = re.compile(r"(parameter \\CLK(?:I|FB|OP|OS\d?)_(?:DIV|CPHASE|FPHASE)) .*")


@dataclass(frozen=True)
class Tuning:
    """What depends on the clock in the configuration of a machine for any clock.

    pll
        The dividers of the PLL.
    constants
        Each constant by its name. These are the names that ``hw.pipeline.constant`` gets.
    """

    pll: PllPlan
    constants: Mapping[str, int]

    def _is_bit(self, name: str) -> bool:
        """Return whether ``name`` is CONSTANT_BIT."""
        constant, _, bit = name.rpartition("_")
        return constant in self.constants and bit.isdecimal()

    def without_clock(self, rtlil_text: str) -> str:
        """Return RTLIL without the tables and dividers that depend on the clock."""
        names = "|".join(map(re.escape, self.constants))
        table = re.compile(rf"(cell \\LUT4 \\(?:{names})_\d+\n\s*parameter \\INIT) .*")
        return _DIVIDER.sub(r"\1", table.sub(r"\1", rtlil_text))

    def sites(self, placed: dict[str, Any]) -> Sites:
        """Return where the constants are in a routed design (nextpnr's ``--write``)."""
        found = {}
        for name, cell in placed["modules"]["top"]["cells"].items():
            bit = _BIT.fullmatch(name)
            if cell["type"] == "TRELLIS_COMB" and bit and self._is_bit(bit[1]):
                place = _PLACE.fullmatch(cell["attributes"]["NEXTPNR_BEL"])
                assert place and bit[1] not in found
                found[bit[1]] = (f"R{place[2]}C{place[1]}:PLC2", f"{place[3]}.K{place[4]}.INIT")
        return found

    def apply(self, configuration: str, sites: Sites) -> str:
        """Return nextpnr's configuration with these constants and dividers."""
        chip = _Configuration(configuration)
        for name, value in self.constants.items():
            width = sum(bit.rpartition("_")[0] == name for bit in sites)  # 0 if nothing on the chip reads it
            assert not width or value >> width == 0, f"{name} is {value}, but the route has {width} bits of it"
            for bit in range(width):
                tile, word = sites[f"{name}_{bit}"]
                chip.set_word(f".tile {tile}\n", word, 0xFFFF * (value >> bit & 1))
        for name, value in self.pll.parameters().items():
            chip.set_word("enum: MODE EHXPLLL\n", name, value - name.endswith("_DIV"))
        return chip.text


class _Configuration:
    """The text from which ecppack makes a bitstream: blocks of words, each of which begins with a dot."""

    def __init__(self, text: str) -> None:
        self.text = text

    def set_word(self, line: str, word: str, value: int) -> None:
        """Replace the value of a word in the only block with ``line``."""
        place = self.text.index(line)
        assert self.text.find(line, place + 1) < 0
        first = self.text.rindex(".tile", 0, place + len(".tile"))
        key = f"\nword: {word} "
        begin = self.text.index(key, first) + len(key)
        end = self.text.index("\n", begin)
        assert self.text.find("\n.", first, begin) < 0
        self.text = f"{self.text[:begin]}{value:0{end - begin}b}{self.text[end:]}"


__all__ = ["Sites", "Tuning"]
