"""Records from shapes equal those of a program that was laid out, word for word of what decides cycles."""

from __future__ import annotations

import pytest

from lutern.firmware.program import Program, lay_out
from lutern.hw.config import HwConfig, preset
from lutern.hw.layouts import HEADER_KIND_BITS, OPERATION, RecordKind, header_words
from lutern.measure.shapes import Operation, records
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import random_checkpoint

SEED = 5
STREAMED = preset("tiny").with_(
    name="streamed",
    rows=5,
    source="streamed",
    word_bytes=2,
    memory_words=1 << 16,
    gain_fifo_words=64,
    max_state=512,
    max_vocab=256,
)
MACHINES = (preset("tiny"), preset("resident-85f"), STREAMED, preset("stream-x32"))
MODELS = (
    ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48),
    ModelConfig(vocab_size=64, hidden_size=64, num_hidden_layers=1, intermediate_size=64, use_lower_bound=False),
)


def parsed(program: Program) -> list[tuple[int, int, dict[str, int] | None]]:
    """Kind, words and fields of every record."""
    raw, count, at = program.words, header_words(program.config), 0
    found = []
    while at < program.setup["record_words"]:
        head = int.from_bytes(raw[at : at + count].tobytes(), "little")
        kind, length = head & ((1 << HEADER_KIND_BITS) - 1), head >> HEADER_KIND_BITS & 0xFFFFF
        at += count
        value = int.from_bytes(raw[at : at + length].tobytes(), "little")
        fields = {str(name): value >> part.offset & ((1 << part.width) - 1) for name, part in OPERATION}
        found.append((kind, length, fields if kind == RecordKind.OP else None))
        at += length
    return found


@pytest.mark.parametrize("config", MACHINES, ids=lambda config: config.name)
@pytest.mark.parametrize("model", MODELS, ids=["two layers", "one layer"])
def test_equal_to_a_program(model: ModelConfig, config: HwConfig) -> None:
    wanted = parsed(lay_out(integer_weights(random_checkpoint(model, SEED)), config))
    found = records(model, config)
    assert [(item.kind, item.words) for item in found] == [(kind, words) for kind, words, _ in wanted], f"seed {SEED}"
    for item, (_kind, _words, fields) in zip(found, wanted, strict=True):
        if fields is not None:
            assert isinstance(item.operation, Operation)
            mine = {name: int(value) for name, value in vars(item.operation).items()}
            assert mine == {name: fields[name] for name in mine}, item.operation.op.name
