"""Programs: the tests read the contents of a machine's memories back record by record."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lutern.firmware import schedule
from lutern.firmware.limits import MOST_SLOTS, check_fit, state_slots
from lutern.firmware.packing import pack_trits, unpack_groups, unpack_narrow_row, unpack_trits
from lutern.firmware.program import Program, lay_out
from lutern.firmware.schedule import LOOKAHEAD, chunk_rows, program_sizes
from lutern.hw.config import TRIT_MEMORY, HwConfig
from lutern.hw.layouts import HEADER_KIND_BITS, OPERATION, Op, RecordKind, check_words, full_parts, header_words
from lutern.hw.presets import preset
from lutern.hw.protocol import SETUP
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.mlgru import Bounds
from lutern.model_ref.norm import Gains
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.sampling import SCORE_FRAC_BITS
from lutern.model_ref.synthetic import random_checkpoint

MODEL = ModelConfig(vocab_size=37, hidden_size=32, num_hidden_layers=2, intermediate_size=48)
SEED = 6
STREAM = HwConfig("stream", rows=5, columns=4, streams=4, source="streamed", word_bytes=2, max_state=200)
WIDE = HwConfig("wide", rows=10, columns=4, results_per_cycle=2, streams=2, source="streamed", word_bytes=4)
NINE = HwConfig("nine", rows=8, columns=16, word_bytes=9)
CONFIGS = [preset("tiny"), preset("sim-64"), NINE, preset("resident-85f"), STREAM, WIDE]
configs = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(random_checkpoint(MODEL, SEED))


@pytest.fixture(scope="module")
def narrow_weights() -> IntegerWeights:
    return integer_weights(random_checkpoint(MODEL, SEED), embedding_bits=12)


def records(program: Program) -> list[tuple[RecordKind, np.ndarray]]:
    """Return kind and words of every record. The stream must end with the last word of a record."""
    words, size, found, at = program.words[: program.sizes.record_words], header_words(program.hw_config), [], 0
    while at < len(words):
        head = int.from_bytes(words[at : at + size].tobytes(), "little")
        length = head >> HEADER_KIND_BITS
        found.append((RecordKind(head & ((1 << HEADER_KIND_BITS) - 1)), words[at + size : at + size + length]))
        at += size + length
    assert at == len(words)
    return found


def whole_beats(words: np.ndarray, kind: RecordKind, config: HwConfig) -> np.ndarray:
    """Return words of trits as beats. Short beats are filled with zero trits, which stand for the missing rows."""
    if kind is RecordKind.TRITS:
        return words.reshape(-1, config.beat_bytes)
    filled = np.tile(pack_trits(np.zeros((1, 1), np.int8), config), (len(words), 1))
    filled[:, : config.word_bytes] = words
    return filled


def operations(program: Program) -> list[Any]:
    return [
        OPERATION.from_bits(int.from_bytes(words.tobytes(), "little") & (1 << OPERATION.size) - 1)
        for kind, words in records(program)
        if kind is RecordKind.OP
    ]


def halves(weights: IntegerWeights) -> list[np.ndarray]:
    """Return the trits of every operation in order. gate_proj has two operations, one for the rows of gate and one for
    the rows of up."""
    found = []
    for layer in weights.layers:
        found += [matrix.trits for matrix in (layer.f_proj, layer.i_proj, layer.g_proj, layer.o_proj)]
        found += [*np.split(layer.gate_proj.trits, 2), layer.down_proj.trits]
    return [*found, weights.lm_head.trits]


def gains_of(weights: IntegerWeights) -> list[np.ndarray]:
    """Return the items [elements, K] of every vector and bound in the order in which they are used. A vector has K
    gains for each element, and a bound has one item (K = 1)."""

    def tuples(vector: tuple[Gains | None, list[Gains]]) -> np.ndarray:
        return np.stack([gains.items for gains in (*([vector[0]] if vector[0] else []), *vector[1])], axis=1)

    following = [*(layer.x_gains for layer in weights.layers[1:]), weights.final_gains]
    found = [tuples(weights.layers[0].x_gains)]
    for layer, after in zip(weights.layers, following, strict=True):
        found.append(Bounds.from_integers(layer.one_minus_lower_bound).items[:, None])
        found += [tuples(vector) for vector in (layer.v_gains, layer.y_gains, layer.w_gains, after)]
    return found


@configs
def test_all_trits_are_stored_in_order(weights: IntegerWeights, config: HwConfig) -> None:
    program = lay_out(weights, config)
    beats = program.beats[: program.sizes.trit_beats]
    if config.source == "streamed":
        beats = np.concatenate(
            [
                whole_beats(words, kind, config)
                for kind, words in records(program)
                if kind in (RecordKind.TRITS, RecordKind.SHORT_TRITS)
            ]
        )
        assert len(program.beats) == 0
    at = 0
    for trits in halves(weights):
        rows, columns = trits.shape
        count = -(-rows // config.rows) * -(-columns // config.columns)
        assert np.array_equal(unpack_trits(beats[at : at + count], rows, columns, config), trits), f"seed {SEED}"
        at += count
    assert at == len(beats)


@configs
def test_all_gains_are_stored_in_order(weights: IntegerWeights, config: HwConfig) -> None:
    chunks = [words for kind, words in records(lay_out(weights, config)) if kind is RecordKind.GAINS]
    for index, items in enumerate(gains_of(weights)):
        whole, per_element = items.shape
        rows = chunk_rows(whole, 1, per_element, config) if index else whole  # the embedding's gains are not cut
        for start in range(0, whole, rows):
            some = items[start : start + rows]
            assert np.array_equal(unpack_groups(chunks.pop(0), len(some), per_element, config), some), f"seed {SEED}"
    assert not chunks


@configs
def test_the_table_is_where_setup_says(weights: IntegerWeights, config: HwConfig) -> None:
    program = lay_out(weights, config)
    setup, codes = program.setup, weights.embeddings.codes
    assert set(setup) == set(SETUP.names) and setup["vocab"] == MODEL.vocab_size
    assert (setup["embedding_bits"], setup["layers"]) == (16, MODEL.num_hidden_layers)
    assert (setup["state_base"], setup["state_words"]) == (0, 0)  # S is in block RAM
    for token, row in enumerate(codes):
        at, count = setup["embedding_base"] + token * setup["embedding_stride"], setup["embedding_row_words"]
        if config.source == "resident":
            used = program.beats[at : at + setup["embedding_stride"], : full_parts(config) * config.word_bytes]
            words = used.reshape(-1, config.word_bytes)[:count]
        else:
            words = program.words[at : at + count]
        words = words[check_words(config) :]
        assert np.array_equal(unpack_groups(words, len(row), 1, config)[:, 0], row), f"token {token}, seed {SEED}"


@configs
def test_tables_of_12_bits(narrow_weights: IntegerWeights, config: HwConfig) -> None:
    """On a machine that supports items of 12 bits the table needs three quarters of the words. Other machines get items
    of 16 bits."""
    program, codes = lay_out(narrow_weights, config), narrow_weights.embeddings.codes
    wide, setup = program_sizes(MODEL, config), program.setup
    takes = config.source == "streamed"
    assert setup["embedding_bits"] == (12 if takes else 16) and not (codes & 0xF).any()
    check = check_words(config)
    data = wide.row_words - check
    assert setup["embedding_row_words"] == check + (data * 3 // 4 if takes else data)
    assert program.sizes == program_sizes(MODEL, config, 12)
    assert np.array_equal(
        program.words[: wide.record_words], lay_out(wider(narrow_weights), config).words[: wide.record_words]
    )
    for token, row in enumerate(codes):
        at, count = setup["embedding_base"] + token * setup["embedding_stride"], setup["embedding_row_words"]
        if takes:
            assert np.array_equal(unpack_narrow_row(program.words[at + check : at + count], len(row), config), row), (
                token
            )
    if not takes:
        same = lay_out(wider(narrow_weights), config)
        assert np.array_equal(program.beats, same.beats) and np.array_equal(program.words, same.words)


def wider(weights: IntegerWeights) -> IntegerWeights:
    """Return the same values in a table of 16 bits."""
    return replace(weights, embeddings=replace(weights.embeddings, bits=16))


@configs
def test_the_operations_run_ahead(weights: IntegerWeights, config: HwConfig) -> None:
    """The operation of the embedding and two more operations come before all gains. Then one operation comes with each
    matrix until no operation is left."""
    program = lay_out(weights, config)
    ops = operations(program)
    layer = [Op.F, Op.I, Op.G, Op.RESIDUAL, Op.GATE, Op.UP, Op.RESIDUAL]
    assert [op.op for op in ops] == [Op.EMBED, *layer * MODEL.num_hidden_layers, Op.HEAD]
    assert ops[-1].frac == SCORE_FRAC_BITS
    kinds = [kind for kind, _ in records(program)]
    assert kinds[: LOOKAHEAD + 2] == [RecordKind.OP] * (LOOKAHEAD + 1) + [RecordKind.GAINS]
    assert (RecordKind.TRITS in kinds) == (config.source == "streamed")
    assert Counter(kinds)[RecordKind.OP] == len(ops) == 2 + 7 * MODEL.num_hidden_layers
    if config.source == "resident":
        assert Counter(kinds)[RecordKind.GAINS] == 1 + 5 * MODEL.num_hidden_layers


@configs
def test_sizes_and_sections(weights: IntegerWeights, config: HwConfig) -> None:
    program = lay_out(weights, config)
    sizes = program_sizes(MODEL, config)
    assert (sizes.words, sizes.beats) == (len(program.words), len(program.beats))
    assert program.words.shape[1:] == (config.word_bytes,) and program.beats.shape[1:] == (config.beat_bytes,)
    read = (sizes.record_words + sizes.row_words) * config.word_bytes + sizes.trit_beats * config.beat_bytes
    assert program.bytes_per_token == read and program.trits == MODEL.trits
    (address, words), *beats = program.sections
    assert address == 0 and np.array_equal(words, program.words)
    assert bool(beats) == (config.source == "resident")
    for address, parts in beats:
        assert address == TRIT_MEMORY and parts.shape == (sizes.beats << config.part_bits, config.word_bytes)
        whole = parts.reshape(sizes.beats, -1)
        assert np.array_equal(whole[:, : config.beat_bytes], program.beats) and not whole[:, config.beat_bytes :].any()


def test_gains_precede_their_rows_and_fit_the_fifo(weights: IntegerWeights) -> None:
    config = STREAM.with_(gain_fifo_words=40)
    plain = [record for record in records(lay_out(weights, config)) if record[0] is not RecordKind.CHECK]
    found = plain[LOOKAHEAD + 1 :]
    chunks = [len(words) for kind, words in found if kind is RecordKind.GAINS][1:]  # without the gains of the embedding
    assert max(chunks) <= config.gain_fifo_words // 2 and len(chunks) > 30
    for (kind, _), (after, _) in itertools.pairwise(found[1:]):
        assert kind is not RecordKind.GAINS or after in (RecordKind.TRITS, RecordKind.SHORT_TRITS)


def test_the_state_of_a_stream_is_in_words_of_p_elements(weights: IntegerWeights) -> None:
    """The model has two layers of 32 elements."""
    assert lay_out(weights, NINE).state_stride == 64 and lay_out(weights, WIDE).state_stride == 32


def test_streams_are_limited_by_their_states() -> None:
    assert state_slots(MODEL, STREAM) == 3
    assert state_slots(MODEL, STREAM.with_(max_state=1000)) == 4


def test_states_in_memory_follow_the_table(weights: IntegerWeights) -> None:
    """The states have two layers of 32 elements of 32 bits, which are 64 words of 16 bits for each layer. The states
    begin at the first word after the program."""
    machine = STREAM.with_(state="memory", max_state=1)
    program = lay_out(weights, machine)
    wanted = {"state_base": len(program.words), "state_words": 64, "layers": 2}
    assert {name: program.setup[name] for name in wanted} == wanted and program.state_stride == 128
    assert all(op.state_base == 0 for op in schedule.operations(MODEL, machine))
    plain = lay_out(weights, STREAM)
    assert (plain.setup["state_base"], plain.setup["state_words"], plain.setup["layers"]) == (0, 0, 2)
    assert program.bytes_per_pass(4) - plain.bytes_per_pass(4) == 2 * 4 * 128 * 2


def test_slots_are_as_many_as_the_memory_has_words_for() -> None:
    machine = STREAM.with_(state="memory")
    words = program_sizes(MODEL, machine).words
    for room, slots in ((128, 1), (5 * 128 - 1, 4), (7 * 128, 7), (1000 * 128, MOST_SLOTS)):
        assert state_slots(MODEL, machine.with_(memory_words=words + room)) == slots
    held, needed = (f"{machine.word_bytes * (words + state):,}" for state in (127, 128))
    with pytest.raises(LuternError, match=rf"needs {needed} bytes .* has {held} .*, of which its state takes 256"):
        check_fit(MODEL, machine.with_(memory_words=words + 127))


def test_a_bound_that_is_no_item_is_refused(weights: IntegerWeights) -> None:
    layer = weights.layers[0]
    bounds = layer.one_minus_lower_bound.copy()
    bounds[3] = (1 << 16) + 1
    wrong = replace(weights, layers=[replace(layer, one_minus_lower_bound=bounds), *weights.layers[1:]])
    with pytest.raises(LuternError, match=r"a lower bound \(1 - LB\) is 65537 / 2\^17"):
        lay_out(wrong, STREAM)


LARGER = "choose a preset that holds it, such as tiny, or a smaller model."


@pytest.mark.parametrize(
    ("config", "change", "sentence"),
    [
        (
            STREAM,
            {"max_width": 32},
            f"the model's intermediate size is 48, but small holds at most 32 (max_width); {LARGER}",
        ),
        (
            STREAM,
            {"max_state": 63},
            f"the model's state (layers x hidden size) is 64, but small holds at most 63 (max_state); {LARGER}",
        ),
        (STREAM, {"max_vocab": 36}, f"the model's vocabulary is 37, but small holds at most 36 (max_vocab); {LARGER}"),
        (
            STREAM,
            {"memory_words": 2000},
            "the model needs 8,646 bytes of memory, small has 4,000 (memory_words): 2.2 times as much is needed; "
            f"{LARGER}",
        ),
        (
            NINE,
            {"memory_words": 200},
            "the model needs 2,349 bytes of block RAM for operations and gains, small has 1,800 (memory_words): "
            f"549 bytes (30 %) too many; {LARGER}",
        ),
        (
            NINE,
            {"trit_beats": 200},
            "the model needs 8,606 bytes of block RAM for trits and embeddings, small has 5,200 (trit_beats): "
            f"3.41 KB (66 %) too many; {LARGER}",
        ),
        (
            NINE,
            {"word_bytes": 32},
            "small: a beat of trits has 26 bytes and holds no word of 32; choose smaller words.",
        ),
        (
            STREAM,
            {"gain_fifo_words": 8},
            "5 words of gains of 5 rows do not fit half of the gain FIFO of small (8 words); "
            "choose a preset with a deeper gain_fifo_words.",
        ),
        (
            NINE,
            {"rows": 32, "results_per_cycle": 32, "columns": 64, "codes_per_cycle": 64},
            "the model's intermediate size is 48, not a multiple of the 32 results per cycle of small; "
            "choose a preset with fewer results per cycle.",
        ),
    ],
    ids=["width", "state", "vocabulary", "words", "resident words", "beats", "parts", "gains", "results"],
)
def test_what_does_not_fit_is_refused(
    weights: IntegerWeights, config: HwConfig, change: dict[str, int], sentence: str
) -> None:
    with pytest.raises(LuternError) as caught:
        lay_out(weights, config.with_(name="small", **change))
    assert str(caught.value) == sentence


def test_a_program_of_more_words_than_24_bits_name() -> None:
    """The released 370M in words of 64 bits and the 2.7B in words of 128 bits fit exactly. A memory that has one word
    fewer is too small."""
    wide = preset("stream-x32").with_(name="wide", columns=16, max_width=8192, max_vocab=32_000)
    for shape, changes in (
        ((1024, 24, 2816), {"word_bytes": 8, "max_state": 24_576}),
        ((2560, 32, 6912), {"word_bytes": 16, "rows": 10, "max_state": 81_920}),
    ):
        hidden, layers, intermediate = shape
        model = ModelConfig(
            vocab_size=32_000, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate
        )
        config = wide.with_(streams=1, **changes)
        words = program_sizes(model, config).words
        assert words > 1 << 24
        check_fit(model, config.with_(memory_words=words))
        needed, held = (f"{config.word_bytes * count:,}" for count in (words, words - 1))
        with pytest.raises(LuternError, match=f"the model needs {needed} bytes of memory, wide has {held} "):
            check_fit(model, config.with_(memory_words=words - 1))
        last = max(operation.state_base for operation in schedule.operations(model, config))
        assert last == (layers - 1) * hidden and last < 1 << OPERATION["state_base"].width
