"""Training: the PyTorch network is the float model, a resumed run is an uninterrupted one, a checkpoint comes out."""

import io
import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lutern.model_ref.checkpoint import load_checkpoint, load_tokenizer
from lutern.model_ref.errors import LuternError
from lutern.model_ref.evaluate import bits_per_character, split
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.ternarise import ternarise
from lutern.train import TrainOptions, train

torch = pytest.importorskip("torch", reason="training is an optional extra")

TINY = Path(__file__).parents[1] / "data" / "tiny"
STORY = "once upon a time there was a cat who saw a dog. the dog ran home, and the cat sat down.\n"
OPTIONS = TrainOptions(
    hidden_size=64,
    num_hidden_layers=2,
    intermediate_size=64,
    steps=12,
    batch=4,
    sequence_length=32,
    warmup_steps=3,
    dropout=0.1,
    validate_every=4,
    save_every=6,
    device="cpu",
)
TEACHERS = replace(
    OPTIONS,
    teachers=2,
    teacher_hidden_size=32,
    teacher_num_hidden_layers=1,
    teacher_intermediate_size=32,
    teacher_steps=6,
    teacher_batch=4,
    synthetic_characters=2048,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # networks this small only wait for each other's threads


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(STORY * 60)
    return path


def test_network_equals_the_float_model() -> None:
    from lutern.train.network import Network

    checkpoint = load_checkpoint(TINY)
    network = Network(checkpoint.config).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in checkpoint.tensors.items()})
    seed, streams, length = 3, 3, 16
    ids = np.random.default_rng(seed).integers(0, checkpoint.config.vocab_size, (streams, length))
    logits, last = network(torch.from_numpy(ids), network.initial_state(streams))
    model = FloatModel(checkpoint)
    state = model.initial_state(streams)
    for position in range(length):
        expected, state = model.step(ids[:, position], state)
        error = np.abs(logits[:, position].detach().numpy() - expected).max() / np.sqrt(np.mean(expected**2))
        assert error <= 1e-4, f"seed {seed}, position {position}"
    assert np.abs(last.detach().numpy() - state).max() <= 1e-4


def test_recurrence_has_the_gradient_of_its_formula() -> None:
    from lutern.train.recurrence import recurrence

    torch.manual_seed(5)
    f, x = torch.rand(2, 6, 3, dtype=torch.double), torch.randn(2, 6, 3, dtype=torch.double)
    start = torch.randn(2, 3, dtype=torch.double)
    expected = f[:, 0] * start + x[:, 0]
    assert torch.equal(recurrence(f, x, start)[:, 0], expected)
    arguments = [value.requires_grad_() for value in (f, x, start)]
    assert torch.autograd.gradcheck(recurrence, arguments)


def test_every_parameter_learns() -> None:
    from lutern.train.network import Network

    network = Network(load_checkpoint(TINY).config)
    logits, _ = network(torch.arange(8)[None], network.initial_state(1))
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_training_writes_a_checkpoint_and_its_figure(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = train(text, out, replace(OPTIONS, steps=40, learning_rate=1e-2))
    checkpoint = load_checkpoint(out)
    assert checkpoint.config.hidden_size == 64 and checkpoint.config.num_hidden_layers == 2
    tokenizer = load_tokenizer(out)
    ids = np.array(tokenizer.encode(text.read_text()))
    assert tokenizer.decode(ids[:99].tolist()) == text.read_text()[:99]
    shipped = bits_per_character(FloatModel(checkpoint), split(ids)[1])
    assert report["validation_bits_per_character"] == pytest.approx(shipped)
    assert shipped < np.log2(tokenizer.vocab_size) - 0.5, "it learned nothing"
    assert json.loads((out / "training_report.json").read_text()) == report


@pytest.mark.parametrize(
    "options", [pytest.param(OPTIONS, id="text alone"), pytest.param(TEACHERS, id="teachers", marks=pytest.mark.slow)]
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: TrainOptions, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lutern.train import fit

    whole = train(text, tmp_path / "whole", options)
    store = fit._store

    def store_and_stop(*arguments: object) -> None:
        store(*arguments)  # type: ignore[arg-type]
        if arguments[4] == 6 and "teacher" not in str(arguments[0]):
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_store", store_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(text, tmp_path / "parts", options)
    monkeypatch.undo()
    parts = train(text, tmp_path / "parts", replace(options, resume=True))
    assert parts["record"] == whole["record"]
    one, other = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    for name, tensor in one.tensors.items():
        assert np.array_equal(tensor, other.tensors[name]), name
    with pytest.raises(LuternError, match="was trained with learning_rate"):
        train(text, tmp_path / "parts", replace(options, resume=True, learning_rate=0.5))


def test_short_text_is_refused(text: Path, tmp_path: Path) -> None:
    text.write_text("short")
    with pytest.raises(LuternError, match="too few"):
        train(text, tmp_path / "out", OPTIONS)


def test_progress_is_quiet_in_a_pipe() -> None:
    from lutern.train.progress import Progress

    stream = io.StringIO()
    progress = Progress("train", 100, stream)
    for step in range(1, 101):
        progress.show(step, "loss", end=step == 100)
    assert stream.getvalue().splitlines() == ["train   1/100  loss", "train 100/100  loss"]


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(LuternError, match="dropout is 1"):
        TrainOptions(dropout=1)
    with pytest.raises(LuternError, match="device is 'tpu'"):
        TrainOptions(device="tpu")
    with pytest.raises(LuternError, match="steps is 0"):
        TrainOptions(steps=0)


def test_a_temperature_folds_into_the_head() -> None:
    from lutern.train.network import Network

    network = Network(load_checkpoint(TINY).config).eval()
    ids, state = torch.arange(8)[None], network.initial_state(1)
    with torch.no_grad():
        before, _ = network(ids, state)
        network.divide_logits(1.5)
        after, _ = network(ids, state)
    assert torch.allclose(after * 1.5, before, rtol=1e-5, atol=1e-5)


def test_calibration_finds_the_temperature_of_an_overconfident_network() -> None:
    from lutern.train.distill import calibrated
    from lutern.train.network import Network

    torch.manual_seed(8)
    network = Network(replace(load_checkpoint(TINY).config, vocab_size=8), ternary=False).eval()
    with torch.no_grad():  # text drawn from the network itself, so that its own temperature is 1
        ids, state = torch.zeros(1, 1, dtype=torch.long), network.initial_state(1)
        network.divide_logits(0.2)
        text = [ids]
        for _ in range(3000):
            logits, state = network(text[-1], state)
            text.append(torch.multinomial(logits[:, 0].softmax(-1), 1))
        network.divide_logits(1 / 1.5)
    assert calibrated([network], torch.cat(text, 1)[0]).temperature == pytest.approx(1.5, abs=0.15)


def test_rounding_to_bfloat16_keeps_every_trit() -> None:
    from lutern.train.bfloat16 import rounded_with_trits_kept

    seed = 9
    generator = np.random.default_rng(seed)
    weight = generator.normal(0, 0.02, (96, 64)).astype(np.float32)
    # Trained weights gather at the threshold, half the scale; the scale moves with them, so a few rounds place them.
    crowd, near = generator.random(weight.shape) < 0.2, generator.uniform(0.998, 1.002, weight.shape)
    for _ in range(20):
        _, scale = ternarise(weight)
        weight[crowd] = (np.sign(weight) * scale / 2 * near)[crowd]
    wanted, scale = ternarise(weight)
    plain = weight.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert (ternarise(plain)[0] != wanted).mean() > 0.01, f"seed {seed}: the case is too easy"
    kept = rounded_with_trits_kept(weight)
    trits, kept_scale = ternarise(kept)
    assert np.array_equal(trits, wanted), f"seed {seed}"
    assert kept_scale == pytest.approx(scale, rel=2e-3)
    assert np.array_equal(kept, kept.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert np.abs(kept - weight).max() <= np.abs(weight).max() * 2**-7
