"""Weights are damaged in memory while a model runs. The text stays right, and each repair prints a sentence on
standard error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from letters import save_letters
from lutern.api.writing import Style
from lutern.cli.models import Model, open_model
from lutern.cli.repairs import repairs_shown
from lutern.cli.writing import Place, write_texts, write_turns
from lutern.firmware.conversations import Sampling
from lutern.firmware.link import Client, RefusedError
from lutern.firmware.program import lay_out
from lutern.firmware.selftest import check_decode
from lutern.firmware.session import MOST_REPAIRS, Feed, GoldenSession, Run, Session
from lutern.hw.presets import preset
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.sim.board import SimulatedBoard, simulated

SEED = 5
MODEL = ModelConfig(vocab_size=27, hidden_size=48, num_hidden_layers=2, intermediate_size=64)
MACHINE = preset("stream-x64").with_(counters=True, top_k=0)
"""A machine whose memory is at the port, so that a test can change it. tests/sim/test_port_board.py compiles the same
machine."""
DONE = "the model was compared and loaded again, and the run repeated."
STYLE = Style(10, Sampling(0.0), (), (), begin=False)
PROMPT = "once upon"


class Damaged(Session):
    """A session that flips a bit of word ``at[n]`` before run n, and of word ``always`` before every attempt of a
    run."""

    at: dict[int, int] = {}
    always: int | None = None
    runs = 0

    def run(self, *arguments: Any, **options: Any) -> Run:
        self._damage(self.at.get(self.runs))
        self.runs += 1
        return super().run(*arguments, **options)

    def _run_once(self, *arguments: Any) -> Run:
        self._damage(self.always)
        return super()._run_once(*arguments)

    def _damage(self, address: int | None) -> None:
        if address is not None:
            board = self._door
            assert isinstance(board, SimulatedBoard)
            word = board.peek(address, 1)
            word[0, 2] ^= 1 << 5
            board.poke(address, word)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Return a small random model whose tokens are letters and a space."""
    return open_model(str(save_letters(tmp_path_factory.mktemp("model"), MODEL, seed=SEED)))


@pytest.fixture(scope="module")
def board() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(simulated(MACHINE)) as board:
        yield board


@pytest.fixture
def session(network: Model, board: SimulatedBoard) -> Damaged:
    board.reset()
    return Damaged(Client(board), lay_out(network.weights, MACHINE), door=board)


def row_address(session: Session, token: int) -> int:
    """Return the address of the last word of a token's row in the embedding table."""
    sizes = session.program.sizes
    return sizes.record_words + token * sizes.stride + sizes.row_words - 1


def warnings(text: str) -> list[str]:
    """Return the lines of standard error that report a repair."""
    return [line for line in text.splitlines() if line.startswith("warning: ")]


def expected_text(network: Model, prompt: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the text of the integer model."""
    tokenizer = network.tokenizer
    write_texts(Place(network, GoldenSession(network.weights)), tokenizer, [tokenizer.encode(prompt)], STYLE, False)
    return capsys.readouterr().out


def test_text_and_warnings(network: Model, session: Damaged, capsys: pytest.CaptureFixture[str]) -> None:
    """A block of records is damaged between two tokens, and then the embedding row of a later token."""
    tokenizer = network.tokenizer
    wanted = expected_text(network, PROMPT, capsys)
    first, words = session.program.blocks[1]
    token = tokenizer.encode(wanted.strip())[len(PROMPT) + 5]
    prompt = tokenizer.encode(PROMPT, begin=False)
    prefills = -(-len(prompt) // session.streams)
    session.at = {prefills + 1: first + words // 2, prefills + 5: row_address(session, token)}
    write_texts(Place(network, session), tokenizer, [prompt], STYLE, False)
    done = capsys.readouterr()
    assert done.out == wanted
    assert warnings(done.err) == [
        f"warning: Block 1 of the weights (words {first:,} to {first + words - 1:,}) was damaged in memory; {DONE}",
        f"warning: The embedding of token {token} was damaged in memory; {DONE}",
    ]


def test_turns(network: Model, session: Damaged, capsys: pytest.CaptureFixture[str]) -> None:
    """The damage happens in the second turn. The state after the first turn is computed again, and the second turn
    prints one warning."""
    tokenizer = network.tokenizer
    said = []

    def turns() -> Iterator[str]:
        yield "once"
        said.append(capsys.readouterr())
        session.at = {session.runs: session.program.blocks[0][0] + 3}
        yield " more"
        said.append(capsys.readouterr())
        yield " and"

    write_turns(Place(network, session), tokenizer, turns(), STYLE, False)
    said.append(capsys.readouterr())
    golden = Place(network, GoldenSession(network.weights))
    write_turns(golden, tokenizer, iter(["once", " more", " and"]), STYLE, False)
    assert "".join(one.out for one in said) == capsys.readouterr().out
    assert [len(warnings(one.err)) for one in said] == [0, 1, 0]


def test_a_memory_that_is_damaged_each_time(
    network: Model, session: Damaged, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run ends with the chip's error, and the warnings report each repair that was tried."""
    token = 3
    session.always = row_address(session, token)
    refused = pytest.raises(RefusedError, match="weights in its memory are not those that were loaded")
    with refused, repairs_shown(session):
        session.run([Feed(token, fresh=True)])
    assert warnings(capsys.readouterr().err) == MOST_REPAIRS * [
        f"warning: The embedding of token {token} was damaged in memory; {DONE}"
    ]


def test_selftest_fails(network: Model, session: Damaged) -> None:
    """The selftest fails if the memory loses bits, even if the tokens are right."""
    golden = GoldenSession(network.weights)
    assert check_decode(session, golden, 3) == "3 tokens and their logits equal the integer model's"
    session.at = {session.runs: row_address(session, 0)}
    with pytest.raises(LuternError, match=f"^The embedding of token 0 was damaged in memory; {DONE}$"):
        check_decode(session, golden, 3)


def test_integer_model_shows_no_repairs(network: Model, capsys: pytest.CaptureFixture[str]) -> None:
    with repairs_shown(GoldenSession(network.weights)):
        pass
    assert capsys.readouterr().err == ""
