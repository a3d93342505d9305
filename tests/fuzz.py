"""Coverage-guided fuzzing of one parser: `python tests/fuzz.py TARGET [--runs N] [--seed S] [--seconds T]`.

Needs the extra `fuzz`. libFuzzer prints each input that reaches a new edge (NEW), and ends with the first fault, whose
input it keeps in build/fuzz/; copy it into the folder of the target in tests/data/fuzz, where test_fuzz.py reads it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lutern"]):
    from fuzz_targets import TARGETS, check

PLACE = Path(__file__).parents[1] / "build" / "fuzz"
GUIDED = 0.4
"""Share of the inputs that libFuzzer changes itself; the target's own mutation makes the others."""


def main() -> None:
    """Run libFuzzer; its statistics are the last lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=0)
    options = parser.parse_args()
    target, folder = TARGETS[options.target], PLACE / options.target
    shutil.rmtree(folder / "corpus", ignore_errors=True)
    (folder / "corpus").mkdir(parents=True)
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
        "-timeout=10",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        str(folder / "corpus"),
    ]
    atheris.Setup([sys.argv[0], *arguments], lambda data: check(target, bytes(data)), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
