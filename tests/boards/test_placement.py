"""Places of block RAMs and multipliers: kept from a route, checked, and written into a netlist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("amaranth_boards", reason='needs the extra "build"')

from lutern.boards import routing
from lutern.boards.board import FPGAS
from lutern.boards.catalog import BOARDS
from lutern.boards.placement import FLIP_FLOPS, Placement, place, placement_of, read_placement, short_name
from lutern.boards.routing import LARGE
from lutern.hw.presets import preset
from lutern.model_ref.errors import LuternError

PART = FPGAS["LFE5U-85F"]
RAM, PRODUCT = "top.memory.parts.part_0_3.0.5", "top.scale.product"
SITES = {RAM: "X6/Y46/EBR1", PRODUCT: "X110/Y34/MULT18_5"}


def netlist(*names: str, bel: str = "") -> dict:
    """Return a netlist with cells of some names, as yosys writes it, or as nextpnr writes it if ``bel`` is given."""
    kinds = {name: "MULT18X18D" if "MULT18X18D" in name else "DP16KD" for name in names}
    kinds["top.scale.shift_LUT4_Z"] = "LUT4"
    attributes = {"NEXTPNR_BEL": bel} if bel else {}
    cells = {name: {"type": kind, "attributes": dict(attributes)} for name, kind in kinds.items()}
    return {"modules": {"top": {"cells": cells}}}


def test_a_placement_survives_another_synthesis(tmp_path: Path) -> None:
    """The number of the flip-flop in a multiplier's name does not matter. LUTs are not in the placement."""
    before = netlist(RAM, f"{PRODUCT}_TRELLIS_FF_Q_7_DI_MULT18X18D_P34")
    for cell, site in zip(before["modules"]["top"]["cells"].values(), [*SITES.values(), "X1/Y1/SLICEA"], strict=True):
        cell["attributes"]["NEXTPNR_BEL"] = site
    found = placement_of(before, PART)
    assert dict(found.sites) == SITES
    (tmp_path / "placement.json").write_text(found.text)
    after = netlist(f"{PRODUCT}_TRELLIS_FF_Q_DI_MULT18X18D_P11", RAM, "top.other_MULT18X18D_P2")
    place(after, read_placement(tmp_path / "placement.json", PART))
    sites = [cell["attributes"].get("BEL") for cell in after["modules"]["top"]["cells"].values()]
    assert sites == [SITES[PRODUCT], SITES[RAM], None, None]


def test_cells_with_one_short_name_are_left_to_nextpnr() -> None:
    names = [f"{PRODUCT}_TRELLIS_FF_Q_{number}_DI_MULT18X18D_P34" for number in range(2)]
    assert {short_name(name) for name in names} == {PRODUCT}
    assert (
        short_name("top.decoder.scale$314.product$54_TRELLIS_FF_Q_DI_MULT18X18D_P0") == "top.decoder.scale.product$54"
    )
    assert short_name("top.decoder.head.U$2.0.0") == "top.decoder.head.U$2.0.0"
    assert placement_of(netlist(RAM, *names, bel=SITES[RAM]), PART).sites == {RAM: SITES[RAM]}


def flip_flops(**inputs: str) -> dict:
    """Return a netlist with flip-flops that take their inputs from the nets that are named."""
    nets: dict[str, int] = {}
    cells = {}
    for name, net in inputs.items():
        pins = {"DI": [nets.setdefault(net, len(nets) + 2)], "Q": [nets.setdefault(name, len(nets) + 2)]}
        cells[f"top.scale$7.{name}"] = {"type": "TRELLIS_FF", "attributes": {}, "connections": pins}
    return {"modules": {"top": {"cells": cells}}}


def test_flip_flops_keep_their_places(tmp_path: Path) -> None:
    """Of a routed design, flip-flops without a LUT are kept. In a netlist, a flip-flop that follows another one gets
    its place again, but one that follows a LUT does not."""
    routed = flip_flops(first="lut", second="first", third="second")
    for index, cell in enumerate(routed["modules"]["top"]["cells"].values()):
        pins = cell["connections"]
        cell["attributes"]["NEXTPNR_BEL"] = f"X5/Y{index}/SLICEA.FF1"
        pins["DI" if index == 0 else "M"], pins["M" if index == 0 else "DI"] = pins["DI"], []
    found = placement_of(routed, PART)
    assert found.flip_flops == {"top.scale.second": "X5/Y1/SLICEA.FF1", "top.scale.third": "X5/Y2/SLICEA.FF1"}
    (tmp_path / "placement.json").write_text(found.text)
    netlist = flip_flops(first="lut", second="first", third="lut", fourth="second")
    place(netlist, read_placement(tmp_path / "placement.json", PART))
    sites = {
        name: cell["attributes"] for name, cell in netlist["modules"]["top"]["cells"].items() if cell["attributes"]
    }
    assert sites == {"top.scale$7.second": {"BEL": "X5/Y1/SLICEA.FF1"}}


def test_flip_flops_are_spread_over_the_machine() -> None:
    routed = flip_flops(**{f"bit_{index}": "other" for index in range(2 * FLIP_FLOPS + 1)})
    for index, cell in enumerate(routed["modules"]["top"]["cells"].values()):
        cell["attributes"]["NEXTPNR_BEL"] = f"X5/Y{index}/SLICEA.FF1"
        cell["connections"]["M"] = cell["connections"].pop("DI")
    assert FLIP_FLOPS / 2 < len(placement_of(routed, PART).flip_flops) <= FLIP_FLOPS


def test_the_placements_of_machines() -> None:
    """Each file in boards/sites can be read, and belongs to a machine that was routed."""
    named = {settings.sites: name for name, settings in routing.ROUTINGS.items() if settings.sites}
    assert {path.name for path in routing.SITES.iterdir()} == set(named)
    board = BOARDS["ulx3s-85f"]
    for name in named.values():
        found = routing.placement_for(preset(name), board)
        assert found and found.sites and len(found.flip_flops) <= FLIP_FLOPS
        assert routing.placement_for(preset(name).with_(name="other"), board) is None
        assert routing.placement_for(preset(name).with_(counters=True), board) is None
        for other in ("ulx3s-45f", "orangecrab-85f"):
            assert routing.placement_for(preset(name), BOARDS[other]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no placement; give a placement.json from the folder of a build."),
        ("[]", "is no placement; give a placement.json from the folder of a build."),
        ("[" * 100_000, "is no placement; give a placement.json from the folder of a build."),
        (
            '{"fpga": "LFE5U-85F", "sites": ["X6"]}',
            "is no placement; give a placement.json from the folder of a build.",
        ),
        (
            Placement("LFE5U-25F", SITES).text,
            "is a placement for an LFE5U-25F; give one for an LFE5U-85F, or give none.",
        ),
        (
            Placement(PART.name, {RAM: "X6/Y47/EBR1"}).text,
            f"places {RAM} at X6/Y47/EBR1, but an LFE5U-85F has no such site; correct it.",
        ),
        (
            Placement(PART.name, {RAM: "X5/Y46/EBR1"}).text,
            f"places {RAM} at X5/Y46/EBR1, but an LFE5U-85F has no such site; correct it.",
        ),
        (
            Placement(PART.name, {RAM: "X6/Y46/SLICEA"}).text,
            f"places {RAM} at X6/Y46/SLICEA, but an LFE5U-85F has no such site; correct it.",
        ),
        (
            Placement(PART.name, {RAM: "X6/Y46/EBR1", "b": "X6/Y46/EBR1"}).text,
            "places 2 cells at X6/Y46/EBR1, which holds one; correct it.",
        ),
        (
            Placement(PART.name, {}, {"a": "X6/Y46/EBR1"}).text,
            "places a at X6/Y46/EBR1, but an LFE5U-85F has no such site; correct it.",
        ),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "placement.json"
    path.write_text(text)
    with pytest.raises(LuternError, match=re.escape(message)):
        read_placement(path, PART)


def test_a_placement_of_another_machine() -> None:
    with pytest.raises(
        LuternError, match=re.escape(f"1 cells that this machine does not have, such as {RAM}; give the")
    ):
        place(netlist("top.memory.memory.0.0"), Placement(PART.name, {RAM: SITES[RAM]}))


def test_a_placement_takes_the_place_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block RAMs of trits are placed side by side only without a placement."""
    monkeypatch.setattr(routing, "fold_output_registers", lambda design: 0)
    design = netlist(*(f"top.memory.parts.part_0_0.{item}.0" for item in range(16)))
    site = "X4/Y82/EBR0"
    LARGE.prepare(design, PART, Placement(PART.name, {"top.memory.parts.part_0_0.3.0": site}))
    sites = [cell["attributes"].get("BEL") for cell in design["modules"]["top"]["cells"].values()]
    assert sites.count(site) == 1 and sites.count(None) == 16
