"""Configs: the published keys are read and written, and the value of an unsupported option is refused with its name."""

import json
from pathlib import Path
from typing import Any

import pytest

from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError

TINY = Path(__file__).parents[1] / "data" / "tiny" / "config.json"


def published(**changes: Any) -> dict[str, Any]:
    return {**json.loads(TINY.read_text()), **changes}


def test_reads_the_published_keys() -> None:
    config = ModelConfig.from_json(TINY)
    assert config == ModelConfig(256, 128, 2, 512)
    assert config.trits == 2 * (4 * 128 * 128 + 3 * 128 * 512) + 256 * 128
    assert sum(rows * columns for rows, columns in config.projections.values()) == config.trits


def test_writes_what_it_reads() -> None:
    config = ModelConfig(38, 96, 3, 64, use_lower_bound=False)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("hidden_size", "ratio", "expected"), [(128, 4, 512), (1024, 4, 2816), (2560, None, 6912), (96, 4, 256)]
)
def test_intermediate_size_follows_the_published_rule(hidden_size: int, ratio: int | None, expected: int) -> None:
    values = published(hidden_size=hidden_size, hidden_ratio=ratio, intermediate_size=None)
    assert ModelConfig.from_dict(values).intermediate_size == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "llama"),
        ("num_heads", 2),
        ("expand_ratio", 2),
        ("use_short_conv", True),
        ("hidden_act", "gelu"),
        ("tie_word_embeddings", True),
        ("rms_norm_eps", 0.0),
        ("norm_eps", True),
        ("hidden_size", 0),
        ("hidden_size", 10**9),
        ("hidden_size", 128.0),
        ("hidden_size", "128"),
        ("vocab_size", True),
        ("num_hidden_layers", -1),
        ("intermediate_size", 1 << 40),
        ("use_lower_bound", "yes"),
    ],
)
def test_unsupported_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(LuternError, match=f"^config: {name} is {value!r}"):
        ModelConfig.from_dict(published(**{name: value}))


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_hidden_layers"])
def test_a_missing_size_is_named(name: str) -> None:
    values = published()
    del values[name]
    with pytest.raises(LuternError, match=f"{name} is missing"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "list", "cut", "bytes", "deep"]
)
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(LuternError, match="cannot be read"):
        ModelConfig.from_json(path)
    path.write_bytes(content)
    with pytest.raises(LuternError, match=r"no(t valid)? JSON"):
        ModelConfig.from_json(path)


def test_digests_of_configs_differ() -> None:
    one = ModelConfig(38, 64, 2, 64)
    assert one.digest == ModelConfig(38, 64, 2, 64).digest
    others = [
        ModelConfig(38, 64, 2, 128),
        ModelConfig(38, 64, 3, 64),
        ModelConfig(38, 64, 2, 64, use_lower_bound=False),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4
