"""Programs: what a machine's memory holds, read back record by record."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from lutern.firmware.packing import unpack_trits
from lutern.firmware.program import Program, _Writer, lay_out
from lutern.hw.config import HwConfig, preset
from lutern.hw.layouts import HEADER_KIND_BITS, HEADER_LENGTH_BITS, Record
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantize import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 6


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(random_checkpoint(MODEL, SEED))


def records(words: np.ndarray) -> list[tuple[Record, np.ndarray]]:
    """(kind, words) of every record in an array of words; it must end where its last record does."""
    found, at = [], 0
    while at < len(words):
        head = int.from_bytes(words[at, :4].tobytes(), "little")
        length = head >> HEADER_KIND_BITS
        found.append((Record(head & ((1 << HEADER_KIND_BITS) - 1)), words[at + 1 : at + 1 + length]))
        at += 1 + length
    assert at == len(words)
    return found


def stream(program: Program) -> list[tuple[Record, np.ndarray]]:
    return records(program.words[: program.stream_words])


@pytest.mark.parametrize("config", [preset("tiny"), preset("sim-64")], ids=lambda config: config.name)
def test_the_trits_are_all_there_in_order(weights: IntegerWeights, config: HwConfig) -> None:
    beats = np.concatenate([words for kind, words in stream(lay_out(weights, config)) if kind is Record.TRITS])
    at = 0
    for matrix in [m for layer in weights.layers for m in (
        layer.f_proj, layer.i_proj, layer.g_proj, layer.o_proj, layer.gate_proj, layer.down_proj
    )] + [weights.lm_head]:
        rows, columns = matrix.trits.shape
        halves = np.split(matrix.trits, 2) if rows == 2 * MODEL.intermediate_size else [matrix.trits]
        for half in halves:
            count = -(-len(half) // config.rows) * -(-columns // config.columns)
            read = unpack_trits(beats[at : at + count], len(half), columns, config)
            assert np.array_equal(read, half), f"seed {SEED}"
            at += count
    assert at == len(beats)


def test_one_operation_a_matrix_and_one_row_a_token(weights: IntegerWeights) -> None:
    program = lay_out(weights, preset("tiny"))
    kinds = Counter(kind for kind, _ in stream(program))
    assert kinds[Record.OP] == 1 + 7 * MODEL.num_hidden_layers + 1
    table = records(program.words[program.stream_words :])
    assert [kind for kind, _ in table] == [Record.EMBED] * MODEL.vocab_size
    assert {1 + len(words) for _, words in table} == {program.embedding_row_words}


def test_gains_stand_ahead_of_their_rows_and_fit_the_fifo(weights: IntegerWeights) -> None:
    config = preset("tiny")
    rest = records(lay_out(weights, config).words)[1:]
    chunks = [len(words) for kind, words in rest if kind is Record.GAINS][1:]  # the first is the embedding's
    assert max(chunks) <= config.gain_fifo_words // 2
    for (kind, _), (after, _) in itertools.pairwise(rest):
        assert kind is not Record.GAINS or after is Record.TRITS or after is Record.OP


def test_a_matrix_longer_than_a_header_counts_is_cut() -> None:
    """As lm_head of the largest models on narrow machines."""
    config = preset("tiny")
    writer = _Writer(config)
    rows = writer.chunk_rows(64, 0)
    assert rows // config.rows * (64 // config.columns) < 1 << HEADER_LENGTH_BITS
    assert (rows // config.rows + 1) * (64 // config.columns) >= 1 << HEADER_LENGTH_BITS


@pytest.mark.parametrize(("change", "sentence"), [
    ({"max_width": 32}, "the model's intermediate size is 48, but small holds at most 32 (max_width); "
                        "choose a larger preset or a smaller model."),
    ({"max_state": 63}, "the model's state (layers x hidden size) is 64, but small holds at most 63 (max_state); "
                        "choose a larger preset or a smaller model."),
    ({"max_vocab": 36}, "the model's vocabulary is 37, but small holds at most 36 (max_vocab); "
                        "choose a larger preset or a smaller model."),
    ({"memory_words": 2000}, "the model needs 2679 words of 4 bytes, but small has 2000 (memory_words); "
                             "choose a larger preset or a smaller model."),
    ({"gain_fifo_words": 4}, "4 words of gains of 4 rows do not fit half of the gain FIFO of small (4 words); "
                             "choose a preset with a deeper gain_fifo_words."),
], ids=["width", "state", "vocabulary", "memory", "gains"])
def test_what_does_not_fit_is_refused(weights: IntegerWeights, change: dict[str, int], sentence: str) -> None:
    with pytest.raises(LuternError) as caught:
        lay_out(weights, preset("tiny").with_(name="small", **change))
    assert str(caught.value) == sentence
