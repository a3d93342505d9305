"""The schedule lists every record that ``lay_out`` writes, and follows the equations of the network."""

from __future__ import annotations

import pytest

from lutern.firmware.program import Program, lay_out
from lutern.firmware.schedule import LAYER, chunk_rows, operations, phase_names, records, trit_records
from lutern.hw.config import HwConfig
from lutern.hw.layouts import (
    HEADER_KIND_BITS,
    LONGEST_RECORD,
    OPERATION,
    Eps,
    Op,
    RecordKind,
    group_shape,
    header_words,
)
from lutern.hw.presets import PRESETS, preset
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint

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
FLAGS = ("new_vector", "reuse", "keep", "makes_vector", "outer")


def parsed(program: Program) -> list[tuple[int, int, dict[str, int] | None]]:
    """Return kind, number of words and fields of every record."""
    raw, count, at = program.words, header_words(program.hw_config), 0
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
def test_every_record_of_a_program_is_the_schedules(model: ModelConfig, config: HwConfig) -> None:
    written = parsed(lay_out(integer_weights(random_checkpoint(model, SEED)), config))
    found = records(model, config)
    assert [(record.kind, record.words) for record in found] == [(kind, words) for kind, words, _ in written], (
        f"seed {SEED}"
    )
    for record, (_kind, _words, fields) in zip(found, written, strict=True):
        if fields is not None:
            wanted = record.operation.fields
            assert wanted == {name: fields[name] for name in wanted}, f"{record.operation.name}, seed {SEED}"


def test_the_records_of_an_operation_hold_all_its_rows() -> None:
    """The gains and trits of every matrix contain each row once and in order."""
    model = MODELS[0]
    found = records(model, STREAMED)
    for operation in operations(model, STREAMED):
        own = [record for record in found if record.operation == operation]
        assert own[0].kind is RecordKind.OP, operation.name
        gains = [record for record in own if record.kind is RecordKind.GAINS]
        trits = [record for record in own if record.kind in (RecordKind.TRITS, RecordKind.SHORT_TRITS)]
        for parts, is_there in ((gains, operation.items > 0), (trits, operation.columns > 0)):
            rows = [row for record in parts for row in range(record.start, record.start + record.count)]
            assert rows == list(range(operation.rows)) * is_there, operation.name


def test_the_operations_of_a_layer() -> None:
    """The inputs and results of each operation equal the inputs and results in the network's equations, which this test
    lists by hand."""
    model = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
    config = HwConfig("by-hand", rows=5, columns=4, results_per_cycle=1, codes_per_cycle=4, max_state=64)
    found = [
        (
            op.name,
            op.op,
            op.rows,
            op.columns,
            op.row_groups,
            op.last_results,
            op.items,
            op.u_index,
            op.state_base,
            op.eps,
        )
        for op in operations(model, config)
        if op.layer == 1
    ]
    assert found == [
        ("f_proj", Op.F, 32, 32, 7, 2, 1, 0, 0, Eps.NONE),
        ("i_proj", Op.I, 32, 32, 7, 2, 0, 1, 32, Eps.NONE),
        ("g_proj", Op.G, 32, 32, 7, 2, 2, 2, 32, Eps.NONE),
        ("o_proj", Op.RESIDUAL, 32, 32, 7, 2, 2, 0, 0, Eps.O_PROJ),
        ("gate_proj", Op.GATE, 48, 32, 10, 3, 0, 0, 0, Eps.NONE),
        ("up_proj", Op.UP, 48, 32, 10, 3, 1, 0, 0, Eps.NONE),
        ("down_proj", Op.RESIDUAL, 32, 48, 7, 2, 2, 0, 0, Eps.DOWN_PROJ),  # the result is the vector that lm_head reads
    ]
    layer = operations(model, config)[1:8]
    flags = {flag: [op.name.removesuffix("_proj") for op in layer if getattr(op, flag)] for flag in FLAGS}
    assert flags == {
        "new_vector": ["f", "o", "gate", "down"],
        "reuse": ["up"],
        "keep": ["gate"],
        "makes_vector": ["g", "o", "up", "down"],
        "outer": ["g", "o", "down"],
    }
    embed, *_, head = operations(model, config)
    assert (embed.name, embed.items, embed.beats, embed.layer) == ("embeddings", 4, 32, None)
    assert (head.name, head.rows, head.columns, head.new_vector, head.layer) == ("lm_head", 37, 32, True, None)
    down = next(op for op in operations(model, config) if op.name == "down_proj")
    assert (down.layer, down.items) == (0, 4)  # the vector of f, i and g


def test_the_phases_are_the_operations_and_the_choice() -> None:
    model = MODELS[0]
    names = phase_names(model.num_hidden_layers)
    assert [name for _, name in names[1:-1]] == [op.name for op in operations(model, STREAMED)[1:]]
    assert names[0] == ("embeddings", "row") and names[-1] == ("head", "choice")
    assert names[1 + len(LAYER)] == ("layer 1", "f_proj")


def test_a_last_row_group_that_fits_its_first_words_is_short() -> None:
    """On 5 x 4 lanes, one row of a matrix of 16 beats takes one word per beat. Three rows take as many words as
    five."""
    columns = 64
    config = HwConfig("short", rows=5, columns=4, streams=4, source="streamed", word_bytes=2, max_state=200)
    beats = -(-columns // config.columns)
    assert trit_records(config.rows + 1, columns, config) == [
        (RecordKind.TRITS, config.rows, beats * config.beat_bytes // config.word_bytes),
        (RecordKind.SHORT_TRITS, 1, beats),
    ]
    for rows in (config.rows, config.rows + 3):
        assert [kind for kind, _, _ in trit_records(rows, columns, config)] == [RecordKind.TRITS]
    assert [kind for kind, _, _ in trit_records(1, columns, config)] == [RecordKind.SHORT_TRITS]


def test_a_matrix_longer_than_a_block_is_cut() -> None:
    """Matrices such as lm_head of the largest models are cut on narrow machines. Resident trits are not cut."""
    rows = chunk_rows(1 << 20, 64, 0, STREAMED)
    words_a_group = 64 // STREAMED.columns * STREAMED.beat_bytes // STREAMED.word_bytes
    assert rows // STREAMED.rows * words_a_group <= LONGEST_RECORD
    assert (rows // STREAMED.rows + 1) * words_a_group > LONGEST_RECORD
    assert chunk_rows(1 << 20, 64, 0, preset("tiny")) == 1 << 20


@pytest.mark.parametrize("name", ["stream-x16", "stream-x32", "stream-x64", "ddr3-x16", "stream-x256", "stream-x512"])
def test_gains_of_a_record_end_with_a_word(name: str) -> None:
    """The gains of a record fill whole words. Only the gains of an operation's last rows may end within a word, and the
    next record does not use the rest of this word."""
    config = PRESETS[name].with_(max_width=8192, gain_fifo_words=1024)
    gains = [record for record in records(PUBLISHED["370m"], config) if record.kind is RecordKind.GAINS]
    for record in gains:
        ends = record.start + record.count == record.operation.rows
        groups, _ = group_shape(config, record.operation.items)
        assert ends or record.count % (config.results_per_cycle * groups) == 0, record
        assert ends or record.count % config.rows == 0, record
