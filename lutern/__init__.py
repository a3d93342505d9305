"""Defines the public names of Lutern, from all other packages.

    import lutern

    for piece in lutern.load("demo").generate("once upon a time"):
        print(piece, end="", flush=True)

docs/python.md describes every name. ``import lutern`` imports no other package of Lutern. A package is imported when
one of its names is first used, so that a program imports only the packages that it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lutern.api import Progress as Progress
    from lutern.api.chips import build as build
    from lutern.api.chips import estimate as estimate
    from lutern.api.chips import verilog as verilog
    from lutern.api.figures import Figures as Figures
    from lutern.api.machines import Machine as Machine
    from lutern.api.machines import open_machine as open_machine
    from lutern.api.models import Model as Model
    from lutern.api.models import load as load
    from lutern.api.writing import Talk as Talk
    from lutern.boards.build import Build as Build
    from lutern.boards.catalog import BOARDS as BOARDS
    from lutern.hw.config import HwConfig as HwConfig
    from lutern.hw.presets import PRESETS as PRESETS
    from lutern.hw.presets import preset as preset
    from lutern.measure.estimate import Estimate as Estimate
    from lutern.measure.phases import Token as Token
    from lutern.model_ref.config import ModelConfig as ModelConfig
    from lutern.model_ref.errors import LuternError as LuternError
    from lutern.model_ref.synthetic import PUBLISHED as PUBLISHED

    __version__: str

_MODULES = {
    "lutern.api.chips": ("build", "estimate", "verilog"),
    "lutern.api.figures": ("Figures",),
    "lutern.api.machines": ("Machine", "open_machine"),
    "lutern.api.models": ("Model", "load"),
    "lutern.api": ("Progress",),
    "lutern.api.writing": ("Talk",),
    "lutern.boards.build": ("Build",),
    "lutern.boards.catalog": ("BOARDS",),
    "lutern.hw.config": ("HwConfig",),
    "lutern.hw.presets": ("PRESETS", "preset"),
    "lutern.measure.estimate": ("Estimate",),
    "lutern.measure.phases": ("Token",),
    "lutern.model_ref.config": ("ModelConfig",),
    "lutern.model_ref.errors": ("LuternError",),
    "lutern.model_ref.synthetic": ("PUBLISHED",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, and store it in this module."""
    if name == "__version__":
        from importlib import metadata

        value: Any = metadata.version("lutern")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'lutern' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
