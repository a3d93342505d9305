"""Released models on boards with DDR3: which boards they fit, how large and how fast they are, compared with the cycle
model."""

from __future__ import annotations

import pytest

from lutern.boards.catalog import BOARDS
from lutern.hw.presets import preset
from lutern.measure.estimate import estimate
from lutern.measure.on_boards import PRESET, OnBoard, machine, rows
from lutern.measure.resources import resources
from lutern.model_ref.synthetic import PUBLISHED

ROWS = rows()
BAUD = 1_000_000


def of(model: str, board: str, streams: int) -> OnBoard | None:
    """Return the row of a model on a board, or None."""
    found = [r for r in ROWS if r.model == model and board in r.boards and r.config.streams == streams]
    assert len(found) <= 1
    return found[0] if found else None


def test_which_models_fit_which_boards() -> None:
    """The sizes are computed by hand: 134 MB fit into 512 MiB, 118 MB with 12 bits into 128 MiB, and 690 MB only into 1
    GiB. No 25F fits a model."""
    assert not any("orangecrab-25f" in row.boards for row in ROWS)
    holding = {size: {board for row in ROWS if row.model == size for board in row.boards} for size in PUBLISHED}
    assert holding["370m"] == {name for name, board in BOARDS.items() if board.ddr3} - {"orangecrab-25f"}
    assert {"ecpix5-85f", "orangecrab-85f"} <= holding["1.3b"] and not holding["1.3b"] & {
        "versa-ecp5-5g",
        "butterstick",
    }
    assert holding["2.7b"] == {"logicbone-85f"}
    narrow = {board for row in ROWS if row.embedding_bits == 12 for board in row.boards}
    assert narrow == {
        name for name, board in BOARDS.items() if board.ddr3 and board.memories[0].byte_count == 1 << 27
    } - {"orangecrab-25f"}


def test_rates_by_hand() -> None:
    """A token has 68.9 MB, and 16 bytes come every two cycles. Two streams are nearly twice as fast. Refreshes take 1
    to 5 %."""
    one, two = of("370m", "ecpix5-85f", 1), of("370m", "ecpix5-85f", 2)
    assert one is not None and two is not None and one.changes == ()
    assert one.bound == pytest.approx(8 * one.config.memory_hz / 68.9e6, rel=0.01)
    assert 1.95 < two.tokens_per_second / one.tokens_per_second < 2
    assert all(0.95 < row.share < 0.99 for row in ROWS)
    for row in ROWS:
        fpga = BOARDS[row.boards[0]].fpga
        assert resources(row.config).block_rams <= fpga.block_rams, row
        assert row.byte_count <= BOARDS[row.boards[0]].memories[0].byte_count, row


def test_the_preset_is_used_if_the_model_fits() -> None:
    board = BOARDS["ecpix5-85f"]
    config, changes = machine(PUBLISHED["370m"], board, 1)
    assert (config, changes) == (board.config(PRESET), ())
    config, changes = machine(PUBLISHED["1.3b"], board, 2)
    assert (
        changes == ("max_width=5632", "state=memory", "streams=2")
        and config.memory_words == preset(PRESET).memory_words
    )


@pytest.mark.slow
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_equal_to_the_estimate_with_the_cycle_model(streams: int) -> None:
    """The lanes and barriers of a whole token never take longer than the token's words."""
    row = of("370m", "ecpix5-85f", streams)
    assert row is not None
    found = estimate(PUBLISHED["370m"], row.config, streams=streams, baud=BAUD)
    assert found.tokens_per_second == pytest.approx(row.tokens_per_second, rel=1e-5)
    assert found.bound == pytest.approx(row.bound)
