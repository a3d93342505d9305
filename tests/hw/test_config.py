"""hw/config.py: wrong machines are refused, and the message for an old name contains the new name."""

from dataclasses import asdict
from typing import Any

import pytest

from lutern.firmware.schedule import phase_names
from lutern.hw.config import HwConfig
from lutern.hw.layouts import OPERATION, OPERATION_BITS, results_op, shape_bits
from lutern.hw.machines import parse_settings
from lutern.hw.presets import PRESETS, preset
from lutern.model_ref.errors import LuternError


@pytest.mark.parametrize("name", PRESETS)
def test_machines_are_restored_from_their_fields(name: str) -> None:
    assert HwConfig.from_dict(asdict(preset(name))) == preset(name)


def test_old_names_of_fields() -> None:
    values = asdict(preset("stream-x16"))
    values["tokens"] = values.pop("streams")
    with pytest.raises(LuternError, match=r"^'tokens' is no field of a machine; it is called streams now\.$"):
        HwConfig.from_dict(values)
    with pytest.raises(LuternError, match=r"^--set tokens=4 changes no field .*, it is called streams now\.$"):
        parse_settings(["tokens=4"])


def test_old_names_of_sources() -> None:
    values = asdict(preset("stream-x16")) | {"source": "stream"}
    with pytest.raises(LuternError, match=r"source is 'stream'; it is called streamed now\.$"):
        HwConfig.from_dict(values)


def test_unknown_names_of_fields() -> None:
    with pytest.raises(LuternError, match=r"^'lines' is no field of a machine; choose one of name, rows, "):
        HwConfig.from_dict({"name": "x", "lines": 3})


def test_too_few_words_from_the_host() -> None:
    with pytest.raises(LuternError, match=r"^HwConfig host: memory_words is 1023; with memory host give 1024 or"):
        preset("host").with_(memory_words=1023)
    assert preset("host").with_(memory_words=1024).memory_words == 1024


STREAMED = {"source": "streamed", "rows": 80, "columns": 8}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"columns": 18, "codes_per_cycle": 2}, r"columns is 18; give a power of two\.$"),
        ({"streams": 3}, r"streams is 3; give a power of two\.$"),
        ({"gain_fifo_groups": 2}, r"gain_fifo_groups is 2; fields of the gateware hold 3 to 4096\.$"),
        ({"memory_words": 1 << 24}, r"memory_words is 16777216; fields of the gateware hold 1 to 8388608\.$"),
        (STREAMED | {"memory_words": 1 << 32}, r"memory_words is 4294967296; .* hold 1 to 4294967295\.$"),
        ({"max_state": (1 << 20) + 1}, r"max_state / results_per_cycle is 1048577; .* hold 1 to 1048576\.$"),
        (
            STREAMED | {"word_bytes": 640, "rows": 50, "columns": 64, "results_per_cycle": 2},
            r"word_bytes is 640; fields of the gateware hold 2 to 512\.$",
        ),
        (
            STREAMED | {"word_bytes": 80, "rows": 25, "columns": 16, "results_per_cycle": 1},
            r"word_bytes is 80; above 64 bytes, give a multiple of 32\.$",
        ),
        (
            STREAMED | {"memory": "axi", "memory_ports": 3},
            r"bytes do not fit 3 AXI4 ports; give memory_ports 1, 2, 4, 8, 16, of 64, 128, 256, 512 bits each\.$",
        ),
        (
            STREAMED | {"memory": "axi", "memory_ports": 2},
            r"bytes do not fit 2 AXI4 ports; give memory_ports 1, 2, 4, 8, 16, of 64, 128, 256, 512 bits each\.$",
        ),
        (
            {"state": "memory"},
            r"state is 'memory', but with source resident no memory of words .*; choose state block\.$",
        ),
        (
            STREAMED | {"state": "memory", "rows": 25, "word_bytes": 10},
            r"and word_bytes is 10; give a power of two up to",
        ),
        (
            STREAMED | {"state": "memory", "word_bytes": 64, "max_width": 8},
            r"is 64; .* up to 32, the bytes of a vector of max_width 8\.$",
        ),
        (
            {"rows": 5, "results_per_cycle": 2},
            r"rows is 5, which is not a multiple of results_per_cycle 2; give a multiple\.$",
        ),
        (
            STREAMED | {"memory": "sdram", "any_clock": True},
            r"any_clock is true, but the timings of memory 'sdram' depend on its clock; choose any_clock false\.$",
        ),
    ],
)
def test_invalid_machines(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LuternError, match=sentence):
        preset("tiny").with_(**changes)


@pytest.mark.parametrize(
    ("words", "bits"),
    [(1, 16), (1 << 16, 16), ((1 << 16) + 1, 17), (1 << 24, 24), ((1 << 24) + 1, 25), ((1 << 32) - 1, 32)],
)
def test_addresses_are_as_wide_as_the_memory(words: int, bits: int) -> None:
    assert preset("stream-x32").with_(memory_words=words).address_bits == bits
    assert preset("tiny").address_bits == 24  # two memories of 2^23 words


@pytest.mark.parametrize(("state", "results", "bits"), [(1, 1, 1), (81_920, 1, 17), (81_920, 2, 16), (1 << 20, 1, 20)])
def test_state_addresses_are_as_wide_as_needed(state: int, results: int, bits: int) -> None:
    config = preset("tiny").with_(max_state=state, results_per_cycle=results)
    assert (config.state_bits, results_op(config)["state_base"].width) == (bits, bits)
    assert bits <= OPERATION["state_base"].width == 20 and shape_bits(OPERATION) <= OPERATION_BITS


def test_layers_that_counters_hold() -> None:
    """A streamed machine counts the layers of any released model. A resident machine counts the layers that fit its
    chip."""
    streamed, resident = (preset(name).with_(counters=True) for name in ("stream-x32", "tiny"))
    assert len(phase_names(72)) <= streamed.counted_phases < len(phase_names(73))
    assert len(phase_names(17)) <= resident.counted_phases < len(phase_names(18))
    assert preset("stream-x32").counted_phases == 0
