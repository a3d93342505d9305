"""A folder imports only its allowed layers of Lutern and the declared packages. The test reads the syntax trees."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Which folders of Lutern each folder may import. Of `hw`, the host side may import only what host and chip must agree
# upon. Folder lutern/ is the package `lutern` itself, which offers names of the other folders.
LAYERS = {
    "model_ref": set(),
    "train": {"model_ref"},
    "hw": {"model_ref"},
    "firmware": {"model_ref", "hw.axi_registers", "hw.config", "hw.layouts", "hw.presets", "hw.protocol"},
    "boards": {
        "hw",
        *(f"model_ref.{name}" for name in ("cache_folder", "cores", "errors", "extras", "input_files", "output_files")),
    },
    "sim": {"model_ref", "train", "hw", "firmware", "boards"},
    "measure": {"model_ref", "train", "hw", "firmware", "boards", "sim"},
    "api": {"model_ref", "hw", "firmware", "boards", "sim", "measure"},
    "cli": {"model_ref", "train", "hw", "firmware", "boards", "sim", "measure", "api"},
    "lutern": {"model_ref", "hw", "firmware", "boards", "sim", "measure", "api"},
}

# Families of `hw`, each a folder, and what a family may import of `hw` in addition to itself. Memory, norm and link do
# not import one another, and the files of `hw` outside a family import only the names that its `__init__` offers.
FAMILIES = {
    "pipeline": {"hw.config"},
    "link": {"hw.axi_registers", "hw.config", "hw.layouts", "hw.protocol", "hw.pipeline"},
    "memory": {"hw.axi_registers", "hw.config", "hw.layouts", "hw.protocol", "hw.pipeline"},
    "norm": {"hw.config", "hw.layouts", "hw.pipeline"},
}

IN_FAMILY = rf"lutern\.hw\.({'|'.join(FAMILIES)})\."

# Which extras each folder may import, in addition to the base dependencies and the standard library.
EXTRAS = {
    "train": {"train", "data"},
    "boards": {"build"},
    "sim": {"test"},
    "measure": {"test", "report", "explore"},
    "examples": {"test", "build"},
    "api": {"serve"},
    "tests": {"test", "train", "data", "build", "report", "serve", "explore", "ddr3-check", "fuzz"},
}

# Packages whose import name is not the package's name, or that install a second import name.
IMPORT_NAMES = {
    "cocotb": {"cocotb", "cocotb_tools"},
    "cocotbext-axi": {"cocotbext"},
    "torch": {"torch", "triton"},
    "pyserial": {"serial"},
    "Jinja2": {"jinja2"},
}


def imports_of(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the absolute dotted name of every import of a module of `package`, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            # The last word may name a module or a name inside a module. The full name is right in both cases.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def import_names(extra: str | None) -> set[str]:
    """Return the import names of the packages of one extra, or of the base dependencies if `extra` is None."""
    project = PROJECT["project"]
    requirements = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    distributions = [re.split(r"[^\w.-]", requirement)[0] for requirement in requirements]
    return set().union(*(IMPORT_NAMES.get(name, {name.replace("-", "_")}) for name in distributions))


def is_inside(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def is_module(name: str) -> bool:
    """Return whether a dotted name is a file of Lutern, and neither a folder nor a name inside a file."""
    return (ROOT / Path(*name.split(".")[1:])).with_suffix(".py").is_file()


def violations(source: str, package: str) -> list[str]:
    """Return the forbidden imports of a module in `package`, such as "lutern.hw" or "tests"."""
    folder, *family = package.removeprefix("lutern.").split(".")
    if folder == "hw" and family:
        of_ours = [package, *(f"lutern.{part}" for part in (*FAMILIES[family[0]], *LAYERS["hw"]))]
    else:
        of_ours = [f"lutern.{part}" for part in (folder, *LAYERS[folder])] if folder in LAYERS else ["lutern"]
    of_others = set(sys.stdlib_module_names) | import_names(None)
    of_others = of_others.union(*(import_names(extra) for extra in EXTRAS.get(folder, ())))
    if folder == "tests":
        of_others |= {path.stem for path in (ROOT / "tests").glob("*.py") if not path.name.startswith("test_")}
    found = []
    for line, name in imports_of(source, package):
        if name.split(".")[0] == "lutern":
            if not any(is_inside(name, allowed) for allowed in of_ours):
                found.append(f"line {line}: {'/'.join([folder, *family])}/ may not import {name}")
            elif package == "lutern.hw" and re.match(IN_FAMILY, name) and is_module(name.rpartition(".")[0]):
                found.append(f"line {line}: import from {'.'.join(name.split('.')[:3])} what {name} names")
        elif name.split(".")[0] not in of_others:
            found.append(f"line {line}: {name} is no package that pyproject.toml declares for {folder}/")
    return found


@pytest.mark.parametrize("folder", [*LAYERS, "examples", "tests"])
def test_folder_imports_only_what_it_may(folder: str) -> None:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        place = path.relative_to(ROOT)
        is_ours = folder in LAYERS and folder != "lutern"
        package = ".".join(["lutern", *place.parent.parts] if is_ours else place.parent.parts)
        found += [f"{place}, {text}" for text in violations(path.read_text(), package)]
    assert not found, "\n".join(found)


def test_every_folder_has_a_layer() -> None:
    """Every package has a layer. A package that is in pyproject.toml but not in `LAYERS` would not be checked."""
    packages = PROJECT["tool"]["setuptools"]["packages"]
    assert {name.split(".")[-1 if name == "lutern" else 1] for name in packages} == set(LAYERS)
    assert {name.removeprefix("lutern.hw.") for name in packages if name.startswith("lutern.hw.")} == set(FAMILIES)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("lutern.hw", "import amaranth\nfrom amaranth.lib import wiring\nfrom lutern.model_ref import norm"),
        ("lutern.hw", "from .norm import Norm\nfrom . import norm"),
        ("lutern.hw", "from lutern.hw.norm import RmsNorm\nfrom lutern.hw.pipeline import Stages"),
        ("lutern.hw.memory", "from lutern.hw.memory.ports import memory_members\nfrom ..pipeline import Skid"),
        ("lutern.sim", "from lutern.hw.memory.block import ResidentMemory"),
        ("lutern.firmware", "from lutern.hw.layouts import Word\nfrom lutern.hw import protocol"),
        ("lutern.train", "def f():\n    import torch"),
        ("lutern.cli", "from lutern.api.models import load"),
        ("lutern", "from lutern.api.models import load"),
        ("lutern.sim", "from cocotb_tools.runner import get_runner"),
        ("tests.hw", "import pytest, cocotb\nfrom lutern.cli.main import app"),
    ],
)
def test_allowed(package: str, source: str) -> None:
    assert violations(source, package) == []


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("lutern.model_ref", "from lutern.hw import norm"),
        ("lutern.model_ref", "def f():\n    import lutern.hw.norm.rms_norm"),
        ("lutern.model_ref", "from ..hw import norm"),
        ("lutern.model_ref", "from .. import hw"),
        ("lutern.model_ref", "from lutern import hw"),
        ("lutern.model_ref", "import torch"),
        ("lutern.hw", "from lutern.sim import streams"),
        ("lutern.hw", "import hw.norm"),
        ("lutern.hw", "import cocotb"),
        ("lutern.hw", "from lutern.hw.norm.rms_norm import RmsNorm"),
        ("lutern.hw.memory", "from ...sim import streams"),
        ("lutern.hw.memory", "from lutern.hw.link import HostPort"),
        ("lutern.hw.norm", "from lutern.hw.memory.block import ResidentMemory"),
        ("lutern.hw.pipeline", "from lutern.hw.layouts import Op"),
        ("lutern.firmware", "from lutern.hw.norm.rms_norm import Norm"),
        ("lutern.firmware", "from lutern.hw import layouts, norm"),
        ("lutern.boards", "import lutern.model_ref"),
        ("lutern.api", "from lutern.cli.models import open_model"),
        ("lutern.api", "from lutern.train import train"),
        ("lutern.measure", "from lutern.api.models import load"),
        ("lutern.sim", "import scipy"),
        ("tests", "import scipy"),
    ],
)
def test_forbidden(package: str, source: str) -> None:
    assert len(violations(source, package)) == 1
