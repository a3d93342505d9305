"""Folder X/ is installed as the package lutern.X with all its files, editable and as a wheel, and no other file is
installed."""

import re
import shutil
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from processes import Finished, run, run_python

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = sorted(PROJECT["tool"]["setuptools"]["package-dir"].values())
DIST_INFO = f"lutern-{PROJECT['project']['version']}.dist-info"
NO_SOURCES = shutil.ignore_patterns("__pycache__", "*.egg-info", "sim_build", "*.vcd", "*.fst", ".*")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the sources, because setuptools builds in the source tree and leaves its products there."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=NO_SOURCES)
    return folder


@pytest.fixture(scope="module")
def source_files(sources: Path) -> set[str]:
    """Return the names of all files in all folders, listed before the wheel is built."""
    paths = [path for name in FOLDERS for path in (sources / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(sources)) for path in paths}


@pytest.fixture(scope="module")
def wheel(sources: Path, source_files: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel without the network, and return its path."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", sources]
    done = run(command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def run_there(program: str, folder: Path, **environment: str) -> Finished:
    """Run a program in a folder outside the checkout, so that it can import only installed packages."""
    return run_python(program, cwd=folder, env=environment)


def test_wheel_holds_every_file_and_nothing_else(wheel: Path, source_files: set[str]) -> None:
    assert "hw/__init__.py" in source_files
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = {name for name in names if not name.startswith(DIST_INFO)}
    wanted = {name if name.startswith("lutern/") else f"lutern/{name}" for name in source_files}
    assert not wanted - packaged, "the wheel must contain every file; add the package or its data to pyproject.toml"
    assert not packaged - wanted, "the wheel must contain only files of the folders"


def test_wheel_holds_the_license_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{DIST_INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert "lutern = lutern.cli.main:main" in archive.read(f"{DIST_INFO}/entry_points.txt").decode()


def test_wheel_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = run_there("import lutern.hw; print(lutern.hw.__file__)", tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.stdout.strip() == str(tmp_path / "site" / "lutern" / "hw" / "__init__.py"), done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_editable_install_points_into_the_checkout(folder: str, tmp_path: Path) -> None:
    name = "lutern" if folder == "lutern" else f"lutern.{folder}"
    done = run_there(f"import {name} as package; print(package.__file__)", tmp_path)
    assert done.stdout.strip() == str(ROOT / folder / "__init__.py"), done.stderr


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder != "lutern"])
def test_folder_is_not_importable_by_its_bare_name(folder: str, tmp_path: Path) -> None:
    done = run_there(f"import {folder}", tmp_path)
    assert done.returncode == 1
    assert f"No module named '{folder}'" in done.stderr


def test_folder_and_package_have_the_same_name() -> None:
    package_dir = PROJECT["tool"]["setuptools"]["package-dir"]
    assert package_dir == {"lutern" if folder == "lutern" else f"lutern.{folder}": folder for folder in FOLDERS}


def test_installed_version_is_that_of_the_sources() -> None:
    assert metadata.version("lutern") == PROJECT["project"]["version"]


def test_every_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = {pin.split("==")[0] for pin in pins}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(item for extra in extras for item in extra)]:
        assert re.split(r"[^\w.-]", requirement)[0] in names
