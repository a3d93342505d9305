"""`lutern verilog`: writes a machine as one Verilog file, for a tool chain or a board that Lutern does not support.

If the file gives no contents for a memory, the memory starts with zeros, which an FPGA's bitstream loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lutern.api import chips
from lutern.cli.machine import DEFAULT, MachineOption, SetOption, machine_or_default, preset_option
from lutern.cli.output import plain_console
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import output_file, write_whole


def verilog(
    preset_name: Annotated[str, preset_option(DEFAULT)] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write; default: standard output.")] = None,
) -> None:
    """Print the Verilog of a machine: module lutern, with clk, rst, and the bytes of the link (rx, tx).

    Machines axi-... and hbm-... have AXI4 masters (m_axi0_...) and, for the link, an AXI4-Lite slave (s_axi_...).
    """
    config = machine_or_default(preset_name, settings, machine_file)
    if out is not None and not out.parent.is_dir():
        raise LuternError(f"{out} cannot be written, there is no folder {out.parent}; make it or choose another.")
    if out is not None:
        output_file(out)  # a wrong name is refused before any work
    text = chips.verilog(config)
    if out is None:
        print(text, end="", flush=True)
        return
    write_whole(out, text)
    plain_console(soft_wrap=True).print(f"{out}: module {chips.MODULE}, {config.name}, {len(text):,} bytes")
