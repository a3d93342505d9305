"""The last line of `lutern inspect`: the boards that a model fits, and the limit that it exceeds on another board."""

from __future__ import annotations

import pytest

from lutern.boards.catalog import BOARDS, find_board
from lutern.firmware.limits import memory_bytes
from lutern.hw.presets import PRESETS, preset
from lutern.measure.capacity import would_hold
from lutern.measure.estimate import estimate
from lutern.measure.fits import check_model, chip_lacks, fastest_fit, lack_of, largest_machine, sentence
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.synthetic import PUBLISHED

DEMO = ModelConfig(vocab_size=38, hidden_size=256, num_hidden_layers=4, intermediate_size=256)
SENT = "its weights sent by the host for every token"


def test_the_demo() -> None:
    fit = fastest_fit(DEMO)
    assert fit is not None and (fit.board, fit.preset, fit.host) == ("ulx3s-85f", "resident-1024", False)
    board = find_board(fit.board)
    assert fit.tokens_per_second == estimate(DEMO, board.config(fit.preset), baud=1).tokens_per_second > 18_000
    assert sentence(DEMO) == (
        f"fits ulx3s-85f with resident-1024 at {fit.tokens_per_second:,.0f} tokens/s by the cycle model; colorlight-i5 "
        "does not hold it in sdram-x32: sdram-x32 needs 58 block RAMs, the LFE5U-25F of colorlight-i5 has 56."
    )
    assert sentence(DEMO, board).endswith("; ulx3s-85f holds it too.")


@pytest.mark.parametrize("size", PUBLISHED)
@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if not board.ddr3])
def test_memory_is_the_reason_against_released_models(name: str, size: str) -> None:
    """On every board without DDR3 the reason is the SDRAM, or block RAM on a board without SDRAM, and never the
    vectors."""
    model, board = PUBLISHED[size], BOARDS[name]
    machine = largest_machine(board)
    lack = lack_of(model, board)
    assert lack is not None and lack[0] == machine.name
    assert machine.memory == ("sdram" if board.memory else "block")
    kind = "memory" if board.memory else "block RAM for trits and embeddings"
    assert lack[1].startswith("the model needs ") and f" bytes of {kind}, {machine.name} has " in lack[1]
    with pytest.raises(LuternError) as caught:
        check_model(model, "it", board)
    text = str(caught.value)
    assert text.startswith(f"it does not fit {name}: {lack[1]}; ")
    if size == "370m":
        assert "; it fits " in text and "ddr3-x16 on orangecrab-85f, ecpix5-45f, ecpix5-85f, " in text
        return
    assert text.endswith(f"; {would_hold(model)}.")
    assert (f", {SENT}; " in text) == (size != "2.7b") and ("; no board holds it; " in text) == (size == "2.7b")


@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if board.ddr3])
def test_ddr3_and_released_models(name: str) -> None:
    """370M fits a part of 4 Gb, but not a part of 1 Gb. No preset has room for the vectors of larger models."""
    board = BOARDS[name]
    large = largest_machine(board).name == "ddr3-x16"
    assert large == (board.memories[0].byte_count >= 512 << 20)
    assert (lack_of(PUBLISHED["370m"], board) is None) == large
    for size in ("1.3b", "2.7b"):
        assert lack_of(PUBLISHED[size], board) is not None


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_sentence_of_released_models(size: str) -> None:
    model = PUBLISHED[size]
    needed = memory_bytes(model, PRESETS["sdram-x16"])
    text = sentence(model, BOARDS["ulx3s-85f"])
    lack = (
        f"the model needs {needed:,} bytes of memory, sdram-x16 has 33,554,432 (memory_words): "
        f"{needed / 33_554_432:,.{0 if size == '2.7b' or size == '1.3b' else 1}f} times as much is needed"
    )
    would = "" if size == "370m" else f"; {would_hold(model)}"
    assert text.endswith(f"; ulx3s-85f does not hold it in sdram-x16: {lack}{would}.")
    if size == "370m":
        assert text.startswith("fits orangecrab-85f with ddr3-x16 at ")
        return
    assert text.startswith("fits no board" if size == "2.7b" else "fits ecpix5-")
    assert size == "2.7b" or f"tokens/s at most, {SENT}; " in text


def test_the_reason_of_a_given_preset() -> None:
    with pytest.raises(LuternError, match=r"^370M does not fit ulx3s-85f: the model's intermediate size is 2816, but"):
        check_model(PUBLISHED["370m"], "370M", BOARDS["ulx3s-85f"], "host")
    check_model(PUBLISHED["370m"], "370M", BOARDS["ulx3s-85f"], "host-45f")


def test_a_chip_that_is_too_small_for_its_machine() -> None:
    found = chip_lacks(preset("resident-85f"), BOARDS["ulx3s-25f"])
    assert [(lack.what, lack.held) for lack in found] == [("block RAMs", 56), ("LUT", 24_288)]
    assert found[0].text == "resident-85f needs 206 block RAMs, the LFE5U-25F of ulx3s-25f has 56"
    presets = [(board, name) for board in BOARDS.values() for name in board.presets]
    lacking = {(board.name, name) for board, name in presets if chip_lacks(board.config(name), board)}
    assert lacking == {("colorlight-i5", "sdram-x32")}  # needs 58 block RAMs, but the chip has 56
    small = ModelConfig(vocab_size=40, hidden_size=256, num_hidden_layers=2, intermediate_size=256)
    assert lack_of(small, BOARDS["colorlight-i5"]) == (
        "sdram-x32",
        "sdram-x32 needs 58 block RAMs, the LFE5U-25F of colorlight-i5 has 56",
    )
    assert lack_of(small, BOARDS["colorlight-i9"]) is None
