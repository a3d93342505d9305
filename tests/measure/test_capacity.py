"""Which memories fit which models: bytes computed by hand, and the sentences that a user reads."""

from __future__ import annotations

import pytest

from lutern.boards.catalog import BOARDS
from lutern.hw.layouts import check_words
from lutern.measure.capacity import WORD_BITS, machine_of_width, memories, needs, would_hold
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.synthetic import PUBLISHED


def test_needs_are_trits_tables_and_little_else() -> None:
    """A byte has five trits, an element of the table has 16 or 12 bits, and each row has a check. Gains, headers and
    checks of blocks take at most 1 %."""
    for need in needs():
        model = PUBLISHED[need.model]
        check_bytes = check_words(machine_of_width(need.word_bits)) * need.word_bits // 8
        row_bytes = model.hidden_size * need.embedding_bits / 8 + check_bytes
        least = model.trits / 5 + model.vocab_size * row_bytes
        assert least < need.byte_count < 1.01 * least, need
    assert len(needs()) == 2 * len(WORD_BITS) * len(PUBLISHED)


@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_trits_of_a_word_fill_the_lanes(word_bits: int) -> None:
    assert machine_of_width(word_bits).beat_bits == word_bits


def test_which_models_fit_which_memories() -> None:
    """370M fits into 128 MiB only with 12 bits, 1.3B fits into 512 MiB, and 2.7B fits into 1 GiB."""
    fits = {
        (need.model, need.embedding_bits): {size >> 20 for size in memories() if need.byte_count <= size}
        for need in needs()
    }
    assert fits == {
        ("370m", 16): {512, 1024},
        ("370m", 12): {128, 512, 1024},
        ("1.3b", 16): {512, 1024},
        ("1.3b", 12): {512, 1024},
        ("2.7b", 16): {1024},
        ("2.7b", 12): {1024},
    }


def test_every_memory_of_every_board_is_listed() -> None:
    found = {board.name for kinds in memories().values() for boards in kinds.values() for board in boards}
    assert found == {name for name, board in BOARDS.items() if board.memories}
    assert list(memories()) == sorted(memories())


def test_the_sentences() -> None:
    gigabyte = "the DDR3L x16 of 1024 MiB of logicbone-45f, logicbone-85f"
    large = (
        "the DDR3L x16 of 512 MiB of orangecrab-85f, ulx4m-ld and the DDR3 x16 of 512 MiB of ecpix5-45f, ecpix5-85f "
        f"and {gigabyte}"
    )
    little = "the DDR3L x16 of 128 MiB of orangecrab-25f, versa-ecp5-5g, butterstick"
    end = ", for which no preset is large enough"
    narrow = next(need for need in needs() if (need.model, need.word_bits, need.embedding_bits) == ("370m", 64, 12))
    assert would_hold(PUBLISHED["370m"]) == (
        f"its weights would fit {large}, with `--embedding-bits 12` ({narrow.byte_count:,} bytes) also {little}{end}"
    )
    assert would_hold(PUBLISHED["370m"], 12) == f"its weights would fit {little} and {large}{end}"
    assert would_hold(PUBLISHED["1.3b"]) == f"its weights would fit {large}{end}"
    assert would_hold(PUBLISHED["2.7b"]) == f"its weights would fit {gigabyte}{end}"
    small = ModelConfig(vocab_size=40, hidden_size=64, num_hidden_layers=1, intermediate_size=64)
    assert "of 128 MiB of orangecrab-25f, versa-ecp5-5g, butterstick and the" in would_hold(
        small
    ) and "bits" not in would_hold(small)
