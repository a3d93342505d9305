"""hw/config.py: names that machines' descriptions had before are refused with those that they have now."""

from dataclasses import asdict

import pytest

from lutern.cli.estimate import changed
from lutern.hw.config import PRESETS, HwConfig, preset
from lutern.model_ref.errors import LuternError


@pytest.mark.parametrize("name", PRESETS)
def test_a_machine_is_its_fields(name: str) -> None:
    assert HwConfig.from_dict(asdict(preset(name))) == preset(name)


def test_old_names_of_fields() -> None:
    values = asdict(preset("stream-x16"))
    values["tokens"] = values.pop("streams")
    with pytest.raises(LuternError, match=r"^'tokens' is no field of a machine; it is called streams now\.$"):
        HwConfig.from_dict(values)
    with pytest.raises(LuternError, match=r"^tokens=4 changes no field .* NAME=VALUE, it is called streams now\.$"):
        changed(preset("tiny"), ["tokens=4"])


def test_old_names_of_sources() -> None:
    values = asdict(preset("stream-x16")) | {"source": "stream"}
    with pytest.raises(LuternError, match=r"source is 'stream'; it is called streamed now\.$"):
        HwConfig.from_dict(values)


def test_a_name_that_never_was() -> None:
    with pytest.raises(LuternError, match=r"^'lines' is no field of a machine; choose one of name, rows, "):
        HwConfig.from_dict({"name": "x", "lines": 3})


def test_too_few_words_from_the_host() -> None:
    with pytest.raises(LuternError, match=r"^HwConfig host: 1023 words wait on the chip; give memory_words 1024 or"):
        preset("host").with_(memory_words=1023)
    assert preset("host").with_(memory_words=1024).memory_words == 1024


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"columns": 18, "codes_per_cycle": 2}, r"columns is 18; give a power of two\.$"),
        ({"streams": 3}, r"streams is 3; give a power of two\.$"),
        ({"rows": 5, "results_per_cycle": 2}, r"rows is 5, no multiple of results_per_cycle 2; choose one\.$"),
    ],
)
def test_shapes_that_do_not_work(changes: dict[str, int], sentence: str) -> None:
    with pytest.raises(LuternError, match=sentence):
        preset("tiny").with_(**changes)
