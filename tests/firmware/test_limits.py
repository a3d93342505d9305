"""The limits of a machine that a model exceeds: all these limits are reported, in order, with the numbers of the
program."""

from __future__ import annotations

import pytest

from lutern.firmware.limits import (
    check_fit,
    excess,
    lacks,
    memory_bytes,
    reason_against,
    sizes_of,
    state_slots,
    state_words,
)
from lutern.firmware.schedule import program_sizes
from lutern.hw.config import HwConfig
from lutern.hw.layouts import check_words
from lutern.hw.presets import PRESETS
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import EMBEDDING_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED

MODEL = ModelConfig(vocab_size=40, hidden_size=64, num_hidden_layers=3, intermediate_size=96)
MACHINE = HwConfig(
    "small",
    rows=5,
    columns=8,
    streams=4,
    source="streamed",
    word_bytes=8,
    memory_words=1 << 14,
    max_width=96,
    max_state=4 * 192,
    max_vocab=40,
)
DEEP = MACHINE.with_(
    name="deep", memory_words=1 << 24, max_width=8192, max_state=1 << 16, max_vocab=1 << 15, gain_fifo_words=1024
)
"""A machine with the limits of the largest published shape, except that its memory has only 128 MiB."""


def test_every_limit_is_named_in_order() -> None:
    tight = MACHINE.with_(memory_words=16, max_width=63, max_state=191, max_vocab=39)
    found = lacks(MODEL, tight)
    assert [lack.what for lack in found] == [
        "memory",
        "hidden size",
        "intermediate size",
        "state (layers x hidden size)",
        "vocabulary",
    ]
    words = program_sizes(MODEL, MACHINE).words
    assert [(lack.needed, lack.held) for lack in found] == [(8 * words, 128), (64, 63), (96, 63), (192, 191), (40, 39)]
    with pytest.raises(LuternError) as caught:
        check_fit(MODEL, tight)
    assert str(caught.value) == (
        f"the model needs {8 * words:,} bytes of memory, small has 128 (memory_words): {words / 16:,.0f} times as "
        "much is needed; other limits are also exceeded: hidden size 64 (at most 63), intermediate size 96 (at most "
        "63), state (layers x hidden size) 192 (at most 191), vocabulary 40 (at most 39); choose a preset that "
        "holds it, such as sim-64, or a smaller model."
    )


def test_a_limit_that_is_just_met_is_not_exceeded() -> None:
    words = program_sizes(MODEL, MACHINE).words
    exact = MACHINE.with_(memory_words=words, max_state=192)
    assert lacks(MODEL, exact) == () and reason_against(MODEL, exact) is None
    check_fit(MODEL, exact)
    assert [lack.what for lack in lacks(MODEL, exact.with_(memory_words=words - 1))] == ["memory"]


@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("name", PRESETS)
def test_memory_is_the_reason_on_every_machine_that_has_one(name: str, size: str) -> None:
    """Another limit comes first only if the host sends the weights, or if the memory can store the weights."""
    hw_config, found = PRESETS[name], lacks(PUBLISHED[size], PRESETS[name])
    if hw_config.memory == "host":
        assert not any("memory" in lack.what for lack in found)
    elif (name, size) == ("ddr3-x16", "1.3b"):  # the memory of 512 MiB is enough, but max_width is only enough for 370M
        assert [lack.what for lack in found] == ["intermediate size", "state (layers x hidden size)"]
    elif found:
        where = "block RAM for trits and embeddings" if hw_config.source == "resident" else "memory"
        assert found[0].what == where and found[0].needed > found[0].held
        assert str(reason_against(PUBLISHED[size], hw_config)).startswith(f"the model needs {found[0].needed:,} bytes")


def test_embeddings_of_twelve_bits_are_advised_where_they_help() -> None:
    model = PUBLISHED["370m"]
    with pytest.raises(LuternError) as caught:
        check_fit(model, DEEP)
    wide, narrow = (memory_bytes(model, DEEP, bits) for bits in EMBEDDING_BITS)
    over = wide - (1 << 27)
    assert str(caught.value) == (
        f"the model needs {wide:,} bytes of memory, deep has 134,217,728 (memory_words): {over / 1e3:.0f} KB "
        f"({100 * over / (1 << 27):.2f} %) "
        f"too many (with `lutern convert --embedding-bits 12` it would need {narrow:,}, which fit); choose a preset "
        "that holds it, such as ddr3-x16, or a smaller model."
    )
    check_fit(model, DEEP, embedding_bits=12)
    for other in ("1.3b", "2.7b"):
        assert "--embedding-bits" not in str(reason_against(PUBLISHED[other], DEEP)), other


@pytest.mark.parametrize("word_bytes", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", PUBLISHED)
def test_a_table_of_twelve_bits_is_three_quarters(size: str, word_bytes: int) -> None:
    """Every row has 12 bits instead of 16 bits for each element. All other sizes stay the same."""
    model = PUBLISHED[size]
    machine = DEEP.with_(columns=max(2, word_bytes), codes_per_cycle=2, word_bytes=word_bytes)
    wide, narrow = (sizes_of(model, machine, bits) for bits in EMBEDDING_BITS)
    assert wide == program_sizes(model, machine)
    check = check_words(machine)
    assert 4 * (narrow.row_words - check) == 3 * (wide.row_words - check)
    assert (narrow.record_words, narrow.trit_beats) == (wide.record_words, wide.trit_beats)
    assert wide.words - narrow.words == model.vocab_size * (wide.row_words - narrow.row_words)


def test_resident_machines_keep_sixteen_bits() -> None:
    wide, narrow = (sizes_of(PUBLISHED["370m"], PRESETS["resident-85f"], bits) for bits in EMBEDDING_BITS)
    assert wide == narrow


def test_state_in_memory_is_counted() -> None:
    """The state needs four bytes per element for at least one stream. Each further stream needs the same number of
    bytes again."""
    behind = MACHINE.with_(state="memory")
    assert state_words(MODEL, MACHINE) == 0 and state_words(MODEL, behind) == 3 * 64 * 4 // 8
    assert memory_bytes(MODEL, behind) - memory_bytes(MODEL, MACHINE) == 3 * 64 * 4
    words = program_sizes(MODEL, behind).words
    assert "of which its state takes 768" in str(reason_against(MODEL, behind.with_(memory_words=words + 95)))
    for streams in (1, 2, 3):
        room = behind.with_(memory_words=words + 96 * (streams + 1) - 1)
        assert lacks(MODEL, room) == () and state_slots(MODEL, room) == streams
    assert state_slots(MODEL, MACHINE) == 4


def test_impossible_layouts_are_reported() -> None:
    short = MACHINE.with_(gain_fifo_words=4, memory_words=16)
    memory, layout = lacks(MODEL, short)
    assert memory.what == "memory" and "do not fit half of the gain FIFO of small (4 words)" in layout.text


@pytest.mark.parametrize(
    ("needed", "held", "said"),
    [
        (134_470_464, 134_217_728, "253 KB (0.19 %) too many"),
        (101, 100, "1 bytes (1.00 %) too many"),
        (150, 100, "50 bytes (50 %) too many"),
        (3_000_000, 2_000_000, "1 MB (50 %) too many"),
        (201, 100, "2.0 times as much is needed"),
        (123_400, 100, "1,234 times as much is needed"),
    ],
)
def test_excess(needed: int, held: int, said: str) -> None:
    assert excess(needed, held) == said
