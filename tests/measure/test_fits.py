"""Where a model fits and what another board lacks: the last line of `lutern inspect`."""

from __future__ import annotations

import pytest

from lutern.boards.catalog import BOARDS, find_board
from lutern.firmware.contents import memory_bytes, memory_lack
from lutern.hw.config import PRESETS
from lutern.measure.estimate import estimate
from lutern.measure.fits import fastest_fit, lack_of, sentence
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.synthetic import PUBLISHED

DEMO = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)


def test_the_demo() -> None:
    fit = fastest_fit(DEMO)
    assert fit is not None and (fit.board, fit.preset, fit.host) == ("ulx3s-85f", "resident-85f", False)
    board = find_board(fit.board)
    assert fit.tokens_per_second == estimate(DEMO, board.config(fit.preset), baud=1).tokens_per_second
    assert sentence(DEMO) == (
        "fits ulx3s-85f with resident-85f at 13,550 tokens/s by the cycle model; orangecrab-25f does not hold it in "
        "resident-25f: the model's hidden size is 256, but resident-25f holds at most 192 (max_width)."
    )
    assert sentence(DEMO, board).endswith("; ulx3s-85f holds it too.")


@pytest.mark.parametrize("size", PUBLISHED)
def test_memory_is_the_reason_against_released_models(size: str) -> None:
    model = PUBLISHED[size]
    needed = memory_bytes(model, PRESETS["sdram-x16"])
    lack = f"it needs {needed:,} bytes of memory, there are 33,554,432"
    assert lack_of(model, BOARDS["ulx3s-85f"]) == ("sdram-x16", lack)
    text = sentence(model, BOARDS["ulx3s-85f"])
    assert text.endswith(f"; ulx3s-85f does not hold it in sdram-x16: {lack}.")
    assert text.startswith("fits no board" if size == "2.7b" else "fits ecpix5-")  # the fastest link
    assert "2.7b" == size or "tokens/s at most, its weights sent by the host for every token" in text
    assert memory_lack(model, PRESETS["host"]) is None
