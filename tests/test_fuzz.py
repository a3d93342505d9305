"""Every parser of outside input reads seeded mutations, and inputs that caused faults in the past; see also fuzz.py."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from fuzz_targets import MORE_BYTES, TARGETS, Target, change_bytes, check
from lutern.model_ref.errors import LuternError

SEED = 20
COUNT = 60
FAULTS = sorted((Path(__file__).parent / "data" / "fuzz").glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    """Inputs are mutations of the seeds, and mutations of these mutations. Every fourth input is made from a seed."""
    target, generator = TARGETS[name], random.Random(SEED)
    data = target.seeds[0]
    for index in range(COUNT):
        data = target.mutate(generator.choice(target.seeds) if index % 4 == 0 else data, generator)
        try:
            check(target, data)
        except Exception as error:
            raise AssertionError(f"{name}, seed {SEED}, input {index}: {data!r}") from error


@pytest.mark.parametrize("path", FAULTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_inputs_that_were_faults(path: Path) -> None:
    check(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize(("error", "seen"), [(KeyError("x"), KeyError), (LuternError("\x1b"), AssertionError)])
def test_a_fault_is_seen(error: Exception, seen: type[Exception]) -> None:
    """``check`` reports every exception except LuternError, and a LuternError whose sentence contains a control
    character."""

    def read(data: bytes) -> object:
        raise error

    with pytest.raises(seen):
        check(Target((b"",), read, change_bytes), b"")


def test_memory_is_counted() -> None:
    def read(data: bytes) -> object:
        return bytearray(MORE_BYTES + (64 << 20)).count(1)

    with pytest.raises(AssertionError, match="bytes of memory for 0 of input"):
        check(Target((b"",), read, change_bytes), b"")


MANY = b'{"a": [' + b"{}," * 1_300_000 + b"{}]}"
HEADER = struct.pack("<Q", len(MANY)) + MANY
LARGE = {
    **dict.fromkeys(("index", "tokenizer", "tokenizer-config"), MANY),
    "safetensors": HEADER,
    "recording": TARGETS["recording"].seeds[0] + b"0 > " + b"c0db" * (1 << 18),
    "text": "\N{GRINNING FACE}".encode() + b"a" * (1 << 23),
    "toggles": TARGETS["toggles"].seeds[0] * 5000,
    "bitstream": b"\xff" * (1 << 25),
    "tokens": TARGETS["tokens"].seeds[0] + bytes(1 << 25),
}


@pytest.mark.parametrize("name", LARGE)
def test_memory_of_a_large_input(name: str) -> None:
    """Megabytes of wrong input need no more memory than ``check`` allows."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    check(TARGETS[name], LARGE[name])
