"""The cost of the check of weights: the counted words are those that the layout adds, and they are few."""

from __future__ import annotations

import pytest

from lutern.firmware.limits import reason_against
from lutern.firmware.program import lay_out
from lutern.hw.layouts import BLOCKS_OF_CHECK, check_words, header_words
from lutern.hw.presets import PRESETS, preset
from lutern.measure.check_cost import added_share, added_words, measure_check
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.quantise import integer_weights
from lutern.model_ref.synthetic import PUBLISHED, random_checkpoint

SEED = 3
SMALL = ModelConfig(vocab_size=40, hidden_size=64, num_hidden_layers=2, intermediate_size=64)


@pytest.mark.parametrize("name", ["resident-25f", "stream-x16", "stream-x64"])
def test_words_of_a_program(name: str) -> None:
    """A check ends each block of records, and a check begins each row."""
    config = preset(name)
    program = lay_out(integer_weights(random_checkpoint(SMALL, SEED)), config)
    assert sum(words for _, words in program.blocks) == program.sizes.record_words
    of_block = header_words(config) + check_words(config)
    assert added_words(SMALL, config) == len(program.blocks) * of_block + check_words(config)
    added = added_words(SMALL, config) * config.word_bytes
    assert added_share(SMALL, config) == added / (program.bytes_per_token - added)


@pytest.mark.parametrize("name", [name for name in PRESETS if reason_against(PUBLISHED["370m"], preset(name)) is None])
def test_share_of_a_released_model(name: str) -> None:
    """A check is at most a fixed fraction of its block, and the check of a row has few words compared with a token."""
    assert 0 < added_share(PUBLISHED["370m"], preset(name)) < 1 / BLOCKS_OF_CHECK


def test_a_machine_that_holds_no_model() -> None:
    assert measure_check(preset("tiny"), PUBLISHED) is None
