"""Coverage-guided fuzzing: `python tests/fuzz.py TARGET` fuzzes one parser, `python tests/fuzz.py all` all parsers.

    all ─► quickest target first ─► TARGET in its own process ─► libFuzzer's lines ─► a row of the table
                                        ▲                                │
                                        └── again, while the last QUIET ─┘
                                            inputs reached a new edge

The script needs the extra `fuzz`. libFuzzer prints a line NEW for each input that reaches a new edge, and stops at the
first fault. libFuzzer keeps the input of the fault in build/fuzz/. Copy this input into the folder of the target in
tests/data/fuzz, where test_fuzz.py reads it. ``all`` leaves out targets whose row is in build/fuzz/done.json. Remove
this file to run all targets again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import atheris

with contextlib.nullcontext() if "all" in sys.argv else atheris.instrument_imports(include=["lutern"]):
    from fuzz_targets import TARGETS, Target, check

PLACE = Path(__file__).parents[1] / "build" / "fuzz"
DONE = PLACE / "done.json"
GUIDED = 0.4
"""The fraction of inputs that libFuzzer changes itself. The target's own mutation changes the other inputs."""
QUIET = 100_000
"""A target is done if its last inputs, as many as this number, reached no new edge."""
STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+)")
FAULT = re.compile(r"Test unit written to (\S+)")
MOST_ROUNDS = 20


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--runs", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="go on from the inputs of the run before")
    return parser.parse_args(arguments)


def fuzz(target: Target, options: argparse.Namespace) -> None:
    """Run libFuzzer, which ends the process. The last lines that libFuzzer prints are its statistics."""
    folder = PLACE / options.target
    if not options.keep:
        shutil.rmtree(folder / "corpus", ignore_errors=True)
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(target.seeds):
        (folder / "corpus" / f"seed-{index}").write_bytes(seed)

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        generator = random.Random(seed)
        if generator.random() < GUIDED:
            return bytes(atheris.Mutate(data, size))
        return target.mutate(bytes(data), generator)[:size]

    arguments = [
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-max_total_time={options.seconds}",
        f"-max_len={target.most_bytes}",
        f"-artifact_prefix={folder}/",
        "-timeout=60",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        str(folder / "corpus"),
    ]
    atheris.Setup([sys.argv[0], *arguments], lambda data: check(target, bytes(data)), custom_mutator=mutate)
    atheris.Fuzz()


def read_lines(lines: Iterable[str], edges: int, before: int) -> tuple[int, int, int, str]:
    """Return four values from libFuzzer's lines: the number of inputs, the number of edges that they reached, the
    number of the input that reached the last new edge, and the name of the file with the input that caused a fault.

    In earlier rounds, ``before`` inputs reached ``edges`` edges. An edge is a jump between two blocks of the program.
    """
    inputs, newest, fault = 0, 0, ""
    for line in lines:
        if found := STATUS.match(line):
            inputs = int(found[1])
            if int(found[3]) > edges:
                edges, newest = int(found[3]), before + inputs
        elif found := FAULT.search(line):
            fault = found[1]
    return before + inputs, edges, newest, fault


def run_target(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Run rounds until ``options.runs`` inputs were tried and the last ``QUIET`` inputs reached no new edge. Stop at a
    fault."""
    inputs = edges = newest = 0
    fault, begin = "", time.monotonic()
    for number in range(MOST_ROUNDS):
        missing = max(options.runs - inputs, newest + QUIET - inputs)
        if missing <= 0 or fault:
            break
        command = [sys.executable, __file__, name, f"--runs={missing}", f"--seed={options.seed + number}"]
        log = PLACE / f"{name}.log"
        with open(log, "w") as file:
            code = subprocess.run([*command, *["--keep"] * (number > 0)], stderr=file, stdout=file).returncode
        inputs, edges, last, fault = read_lines(log.read_text(errors="replace").splitlines(), edges, inputs)
        newest = last or newest
        fault = fault or (f"exit code {code}" if code else "")
    seconds = round(time.monotonic() - begin)
    return {"inputs": inputs, "edges": edges, "newest": newest, "fault": fault, "seconds": seconds}


def speed(target: Target, seconds: float = 0.3) -> float:
    """Measure how many inputs per second a target reads without libFuzzer."""
    generator, count, begin = random.Random(1), 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        check(target, target.mutate(generator.choice(target.seeds), generator)[: target.most_bytes])
        count += 1
    return count / seconds


def run_all(options: argparse.Namespace) -> None:
    """Run every target that is not done, beginning with the quickest, and print a table."""
    PLACE.mkdir(parents=True, exist_ok=True)
    rows = json.loads(DONE.read_text()) if DONE.exists() else {}
    waiting = {name: speed(TARGETS[name]) for name in TARGETS if name not in rows}
    print(f"{'target':18} {'inputs':>10} {'edges':>6} {'last new edge':>14} {'seconds':>8}  fault")
    for name in [*rows, *sorted(waiting, key=lambda name: -waiting[name])]:
        if name not in rows:
            rows[name] = run_target(name, options)
            fresh = DONE.with_suffix(".new")
            fresh.write_text(json.dumps(rows, indent=1))
            os.replace(fresh, DONE)
        row = rows[name]
        print(
            f"{name:18} {row['inputs']:>10,} {row['edges']:>6,} {row['newest']:>14,} {row['seconds']:>8,}  "
            f"{row['fault'] or 'none'}",
            flush=True,
        )


def main() -> None:
    """Fuzz one target, or all."""
    options = options_of()
    if options.target == "all":
        run_all(options)
    else:
        fuzz(TARGETS[options.target], options)


if __name__ == "__main__":
    main()
