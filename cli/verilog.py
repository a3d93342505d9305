"""`lutern verilog`: a machine as one Verilog file, for a tool chain or a board that Lutern does not know.

Memories to which the file gives no contents hold zeros at the start, as an FPGA loads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.cli.output import plain_console
from lutern.hw.presets import PRESETS, preset
from lutern.hw.top import AxiTop, Top
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, write_whole
from lutern.sim.convert import convert_rtlil, convert_verilog

MODULE = "lutern"


def verilog(
    preset_name: Annotated[str, typer.Option("--preset", help=f"Machine: {', '.join(PRESETS)}.")] = "sim-64",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; without it, to standard output.")
    ] = None,
) -> None:
    """Print the Verilog of a machine: module lutern, with clk, rst, and the bytes of the link (rx, tx).

    Machines axi-... and hbm-... have AXI4 masters (m_axi0_...) and, for the link, an AXI4-Lite slave (s_axi_...).
    """
    config = preset(preset_name).with_(debug_tap=False)
    if out is not None and not out.parent.is_dir():
        raise LuternError(f"{out} cannot be written, there is no folder {out.parent}; make it or choose another.")
    if out is not None:
        output_file(out)  # refused before any work
    top = AxiTop(config) if config.memory == "axi" else Top(config)
    text = f"// lutern verilog --preset {config.name}\n{convert_verilog(convert_rtlil(top, name=MODULE))}"
    if out is None:
        print(text, end="", flush=True)
        return
    write_whole(out, text)
    plain_console(soft_wrap=True).print(f"{out}: module {MODULE}, {config.name}, {len(text):,} bytes")
