"""Cocotb benches on Amaranth components, each run by one call from an ordinary pytest function.

    component ─► RTLIL ─► digest ─► build/benches/<digest>/top      built once, and kept while the RTL stays the same
                                         └─► runs/<bench>-<id>/     bench.log, results.xml, parameters.json of this run

    def test_norm() -> None:
        run_bench(RmsNorm(config), "lutern.sim.benches.norm", parameters={"columns": 8}, seed=7)

Inside the bench, `bench_parameters()` and `bench_seed()` return the values that were passed. If a bench fails,
`run_bench` raises AssertionError with the cocotb test's name, its message, the seed and the log's path. A bench can
read and drive only the ports of the component, because Verilator optimises nothing if every signal is public.
`public="all"` makes all signals public, for debugging. Verilator's runtime and headers are compiled once and shared by
all benches, because they take most of the build time of a small bench.
"""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from amaranth.lib import wiring

from lutern.boards.cache import expanded
from lutern.model_ref.errors import LuternError
from lutern.sim.convert import convert_rtlil, convert_verilog, digest, domain_ports, list_ports
from lutern.sim.tools import environment, is_plain, prune, require_compiler, tail, verilator_environment

_PARAMETERS = "LUTERN_BENCH_PARAMETERS"
_SEED = "LUTERN_BENCH_SEED"
_FLAGS = ("-Wno-fatal", "-Wno-lint", "--x-assign", "fast", "--x-initial", "0", "-O3", "--output-split", "0")
_COMPILER_FLAGS = "-O1"  # Python takes more time than the simulated gateware, so a fast compilation matters more
_MAKE_FLAGS = ("OPT_FAST=", "OPT_SLOW=", "OPT_GLOBAL=")  # a precompiled header needs equal flags in all files
_HEADERS = ("verilated.h", "verilated_vpi.h", "verilated_dpi.h", "memory", "string")
_TRACE_FLAGS = ("-CFLAGS", "-UVM_TRACE -DVM_TRACE=1")  # otherwise cocotb 2.1 leaves VM_TRACE at 0


@functools.cache
def bench_parameters() -> dict[str, Any]:
    """Return the `parameters` of run_bench. Call this function inside a bench."""
    path = os.environ.get(_PARAMETERS)
    if path is None:
        raise LuternError(f"{_PARAMETERS} is not set: start this bench through lutern.sim.runner.run_bench.")
    return dict(json.loads(Path(path).read_text()))


def bench_seed() -> int:
    """Return the `seed` of run_bench. Call this function inside a bench."""
    return int(os.environ.get(_SEED, "0"))


def build_root() -> Path:
    """Return the folder for builds: LUTERN_BUILD if it is set, otherwise build/ next to the sources, or build/ in the
    working folder if there are no sources."""
    repository = Path(__file__).resolve().parents[1]
    default = (repository if (repository / "pyproject.toml").exists() else Path.cwd()) / "build"
    folder = expanded(os.environ.get("LUTERN_BUILD") or str(default), "LUTERN_BUILD")
    if not is_plain(folder):
        raise LuternError(
            f"make cannot build benches in {folder}; set LUTERN_BUILD to a folder that has no space or other special "
            "character in its path."
        )
    return folder


def _verilate(
    folder: Path,
    sources: Sequence[Path],
    *,
    waves: bool,
    public: str = "ports",
    flags: str = _COMPILER_FLAGS,
    ahead: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> None:
    """Run Verilator on `sources` in `folder`, then run the command `ahead`, then compile."""
    from cocotb_tools.runner import Verilator  # cocotb is installed for tests only

    dropped = "--public-flat-rw" if public == "ports" else ""

    class Builder(Verilator):
        """Makes only the ports public, and compiles all files with equal flags."""

        def _build_command(self) -> list[Any]:
            verilate, make = super()._build_command()
            commands = [[item for item in verilate if item != dropped], list(ahead), [*make, *_MAKE_FLAGS, *targets]]
            return [command for command in commands if command]

    with environment(verilator_environment()):
        try:
            Builder().build(
                sources=sources,
                hdl_toplevel="top",
                build_dir=folder,
                build_args=[*_FLAGS, "-CFLAGS", flags, *(_TRACE_FLAGS if waves else ())],
                waves=waves,
                always=True,
                timescale=("1ns", "1ps"),
                log_file=folder / "build.log",
            )
        except (RuntimeError, SystemExit) as error:
            raise AssertionError(
                f"Verilator could not build {folder.name}: {error}\n" + tail(folder / "build.log")
            ) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock. If two test processes make the same build, the second process waits here for the first."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _runtime(parent: Path, waves: bool) -> Path:
    """Return the folder with Verilator's compiled runtime and its precompiled headers."""
    runtime = parent / f".runtime-{digest(*_FLAGS, _COMPILER_FLAGS, *_MAKE_FLAGS, *_HEADERS, str(waves))[:12]}"
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / f"{runtime.name}.lock"):
        if not runtime.exists():
            with tempfile.TemporaryDirectory(prefix=".runtime-", dir=parent) as name:
                work, fresh = Path(name), Path(name) / "runtime"
                fresh.mkdir()
                (work / "top.v").write_text("module top(input clk /* verilator public_flat_rw */); endmodule\n")
                header = work / "runtime.h"
                header.write_text("".join(f"#include <{name}>\n" for name in _HEADERS))
                _verilate(work, [work / "top.v"], waves=waves, targets=["top", "runtime.h.fast.gch"])
                for item in (header, *work.glob("verilated*.o")):
                    shutil.copy(item, fresh)
                shutil.copy(work / "runtime.h.fast.gch", fresh / "runtime.h.gch")
                fresh.rename(runtime)
    return runtime


def _build(
    component: wiring.Component, folder: Path, rtlil_text: str, public: str, waves: bool, sources: Sequence[Path]
) -> None:
    require_compiler()
    runtime = _runtime(folder.parent, waves)
    folder.mkdir(exist_ok=True)
    with _locked(folder / "lock"):
        if (folder / "built").exists():
            return
        (folder / "top.v").write_text(convert_verilog(rtlil_text))
        # Only the component's own ports are public.
        names = ["clk", "rst", *domain_ports(rtlil_text), *(port.name for port in list_ports(component))]
        rules = [f'public_flat_rw -module "top" -var "{name}"\n' for name in names]
        (folder / "public.vlt").write_text("`verilator_config\n" + "".join(rules))
        # cp -p would keep old times, but for make the files must be newer than the generated header.
        take = ["cp", *map(str, runtime.glob("*.o")), str(folder)]
        flags = f"{_COMPILER_FLAGS} -include ../{runtime.name}/runtime.h"
        _verilate(
            folder,
            [folder / "public.vlt", folder / "top.v", *sources],
            waves=waves,
            public=public,
            flags=flags,
            ahead=take,
        )
        (folder / "built").touch()


def run_bench(
    component: wiring.Component,
    testbench_module: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    testcase: str | Sequence[str] | None = None,
    waves: bool = False,
    public: Literal["ports", "all"] = "ports",
    sources: Sequence[Path] = (),
) -> Path:
    """Build `component` with Verilator (cached) and run the cocotb tests of `testbench_module` on it.

    `parameters` must be values that JSON can represent. `testcase` names one or several cocotb tests; the default is
    all tests. `sources` are Verilog files of modules that the component instantiates. Returns the folder of the run.
    The folder contains bench.log, results.xml, dump.vcd if `waves` is true, and the files that the bench wrote into its
    working folder. Raises AssertionError if a test fails.
    """
    from cocotb_tools.runner import get_runner

    rtlil_text = convert_rtlil(component)
    texts = [path.read_bytes() for path in sources]
    key = digest(rtlil_text, public, str(waves), *_FLAGS, _COMPILER_FLAGS, *texts)[:20]
    folder = build_root() / "benches" / f"{type(component).__name__}-{key}"
    if not (folder / "built").exists():
        _build(component, folder, rtlil_text, public, waves, sources)

    os.utime(folder)
    if (folder / "runs").exists():
        prune(folder / "runs", 20)
    prune(folder.parent, 60)
    run = folder / "runs" / f"{testbench_module.rsplit('.', 1)[-1]}-{uuid.uuid4().hex[:8]}"
    run.mkdir(parents=True)
    (run / "parameters.json").write_text(json.dumps(dict(parameters or {})))
    results, log = run / "results.xml", run / "bench.log"
    values = {**verilator_environment(), _PARAMETERS: str(run / "parameters.json"), _SEED: str(seed)}
    code: object = 0
    with environment(values):
        try:
            get_runner("verilator").test(
                test_module=testbench_module,
                hdl_toplevel="top",
                hdl_toplevel_lang="verilog",
                build_dir=folder,
                test_dir=run,
                seed=seed,
                testcase=testcase,
                waves=waves,
                results_xml=str(results),
                log_file=log,
                timescale=("1ns", "1ps"),
            )
        except (RuntimeError, SystemExit) as error:
            code = error
    failures, passed = _read_results(results)
    if failures or not passed or code:
        what = "\n".join(failures) or f"no test passed ({code})"
        raise AssertionError(f"{testbench_module} on {type(component).__name__}, seed {seed}: {what}\n{tail(log)}")
    print(log.read_text(errors="replace"))  # pytest shows the log only with -s
    return run


def _read_results(path: Path) -> tuple[list[str], int]:
    """Return the messages of the failed tests and the number of passed tests in cocotb's results.xml."""
    failures, passed = [], 0
    if path.exists():
        for case in ElementTree.parse(path).iter("testcase"):
            bad = [*case.iter("failure"), *case.iter("error")]
            passed += not bad and not list(case.iter("skipped"))
            failures += [f"{case.get('name')}: {b.get('message') or b.get('error_msg') or b.text}" for b in bad]
    return failures, passed
