"""Training: the PyTorch network equals the float model, a resumed run equals an uninterrupted one, and the result is
a checkpoint."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lutern.model_ref.checkpoint import load_checkpoint, load_tokenizer, save_checkpoint
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
    synthetic_tokens=2048,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # for networks as small as these, more threads only wait for each other


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(STORY * 60)
    return path


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the run as with Ctrl-C, after the network was saved at a step."""
    from lutern.train import fit

    store = fit.store

    def store_and_stop(
        folder: Path, network: object, optimizer: object, state: dict[str, object], group: object
    ) -> None:
        store(folder, network, optimizer, state, group)  # type: ignore[arg-type]
        if state["step"] == step and folder.name == "training":
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "store", store_and_stop)


def assert_equal_checkpoints(first: Path, second: Path) -> None:
    one, other = load_checkpoint(first), load_checkpoint(second)
    for name, tensor in one.tensors.items():
        assert np.array_equal(tensor, other.tensors[name]), name


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
    assert shipped < np.log2(tokenizer.vocab_size) - 0.5, "the network learned nothing"
    assert json.loads((out / "training_report.json").read_text()) == report


@pytest.mark.parametrize(
    "options", [pytest.param(OPTIONS, id="text alone"), pytest.param(TEACHERS, id="teachers", marks=pytest.mark.slow)]
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: TrainOptions,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = train(text, tmp_path / "whole", options)
    stop_at(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(text, tmp_path / "parts", options)
    monkeypatch.undo()
    with pytest.raises(LuternError, match="was trained with learning_rate"):
        train(text, tmp_path / "parts", replace(options, resume=True, learning_rate=0.5))
    with pytest.raises(LuternError, match="give --resume to continue it"):
        train(text, tmp_path / "parts", options)
    parts = train(text, tmp_path / "parts", replace(options, resume=True))
    assert "train: continuing from step 6 of 12" in capsys.readouterr().err
    assert parts["record"] == whole["record"]
    assert_equal_checkpoints(tmp_path / "whole", tmp_path / "parts")
    before = (tmp_path / "parts" / "model.safetensors").read_bytes()
    for again in (replace(options, resume=True), options):
        with pytest.raises(LuternError, match="holds a finished model"):
            train(text, tmp_path / "parts", again)
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == before


def test_a_refused_training_leaves_no_files(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(LuternError, match="pieces only; ask for at most"):
        train(text, out, replace(OPTIONS, tokenizer="bpe:4000"))
    with pytest.raises(LuternError, match="a batch of 4 crops cannot be shared equally by 1 process in accumulate=3"):
        train(text, out, replace(OPTIONS, accumulate=3))
    text.write_text("short")
    with pytest.raises(LuternError, match="too few"):
        train(text, out, OPTIONS)
    assert not out.exists()


def test_parts_and_activations_computed_again_train_the_same(text: Path, tmp_path: Path) -> None:
    """The sums have another order, which moves some weights across a threshold, so the records only agree to 0.01
    bits."""
    plain = replace(OPTIONS, dropout=0.0)
    record = np.array([list(row.values()) for row in train(text, tmp_path / "plain", plain)["record"]])
    again = train(text, tmp_path / "again", replace(plain, checkpoint_activations=True))["record"]
    assert np.array_equal([list(row.values()) for row in again], record), "the operations must be the same"
    assert_equal_checkpoints(tmp_path / "plain", tmp_path / "again")
    parts = train(text, tmp_path / "parts", replace(plain, accumulate=4))["record"]
    assert np.allclose([list(row.values()) for row in parts], record, rtol=0, atol=0.01)


def test_pieces_and_documents(text: Path, tmp_path: Path) -> None:
    """A BPE model has the keys and special tokens of the releases and begins a text with <s>. The reported number is
    that of its files."""
    out = tmp_path / "out"
    text.write_text(STORY * 150)
    report = train(text, out, replace(OPTIONS, steps=30, learning_rate=1e-2, tokenizer="bpe:48", sequence_length=16))
    tokenizer = load_tokenizer(out)
    assert tokenizer.ahead == (1,) and tokenizer.conventions.eos == (2,)
    config = json.loads((out / "config.json").read_text())
    assert {"bos_token_id": 1, "eos_token_id": 2, "vocab_size": 48}.items() <= config.items()
    ids = split(np.array(tokenizer.encode(text.read_text(), begin=False)))[1]
    bits = bits_per_character(FloatModel(load_checkpoint(out)), ids, ahead=tokenizer.ahead)
    assert report["validation_bits_per_token"] == pytest.approx(bits)
    assert report["validation_bits_per_character"] < bits
    assert report["record"][-1]["validation_bits"] == pytest.approx(report["validation_bits_per_character"], rel=0.2)


def test_training_continues_from_a_checkpoint(text: Path, tmp_path: Path) -> None:
    from lutern.train.finish import start_weights
    from lutern.train.network import Network

    start = tmp_path / "start"
    first = train(text, start, replace(OPTIONS, steps=40, learning_rate=1e-2, dropout=0.0))
    tuned = replace(OPTIONS, steps=1, start_from=str(start), learning_rate=1e-9, hidden_size=None, dropout=0.0)
    report = train(text, tmp_path / "out", tuned)
    begun = report["record"][0]["validation_bits"]
    assert begun == pytest.approx(first["validation_bits_per_character"], abs=1e-4)
    with pytest.raises(LuternError, match="--out and --from are both"):
        train(text, start, replace(tuned, force=True))
    # A matrix that is already ternary keeps its scale.
    checkpoint = load_checkpoint(start)
    tensors = {name: np.array(value) for name, value in checkpoint.tensors.items()}
    for name in checkpoint.config.projections:
        trits, scale = ternarise(tensors[f"{name}.weight"])
        tensors[f"{name}.weight"] = (trits * np.float32(scale)).astype(np.float32)
    save_checkpoint(tmp_path / "ternary", checkpoint.config, tensors, "float32")
    network = Network(checkpoint.config).eval()
    network.load_state_dict(start_weights(tmp_path / "ternary"))
    logits, _ = network(torch.arange(8)[None], network.initial_state(1))
    model = FloatModel(load_checkpoint(tmp_path / "ternary"))
    expected, _ = model.step(np.array([0]), model.initial_state(1))
    assert np.allclose(logits[:, 0].detach().numpy(), expected, rtol=1e-3, atol=1e-3)


def test_force_replaces_a_model_and_its_files(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text.write_text(STORY * 150)
    train(text, out, replace(OPTIONS, steps=1, tokenizer="bpe:48", sequence_length=16))
    assert (out / "generation_config.json").is_file()
    train(text, out, replace(OPTIONS, steps=1, force=True))
    assert not (out / "generation_config.json").exists()
    assert load_tokenizer(out).ahead == ()


def test_out_of_memory_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lutern.train.distributed import Group
    from lutern.train.failures import explained

    group = Group(torch.device("cpu"))

    def said(batch: int, **changes: object) -> str:
        with pytest.raises(LuternError) as caught:
            with explained(tmp_path, batch, replace(OPTIONS, **changes), group):
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")
        return str(caught.value)

    assert said(6) == (
        "the computer's memory is too small for 6 crops of 32 tokens at once; give --set accumulate=2, which trains "
        "the same in smaller parts."
    )
    assert "accumulate=3" in said(6, accumulate=2)
    assert "checkpoint_activations=true" in said(4, accumulate=4)
    assert "a smaller N with --set sequence_length=N" in said(4, accumulate=4, checkpoint_activations=True)
    with pytest.raises(RuntimeError, match="another"), explained(tmp_path, 4, OPTIONS, group):
        raise RuntimeError("another")


def test_a_loss_that_is_no_number_ends_the_run(text: Path, tmp_path: Path) -> None:
    with pytest.raises(LuternError, match=r"the loss is nan at step \d+; lower the learning rate"):
        train(text, tmp_path / "out", replace(OPTIONS, learning_rate=1e30, warmup_steps=0))
    assert not (tmp_path / "out" / "config.json").exists()


def test_crops_from_a_file_are_those_from_memory() -> None:
    from lutern.train.data import DeviceCorpus, MappedCorpus, generator_of, mixed

    ids = np.arange(500, dtype=np.uint16)
    mapped, held = MappedCorpus(ids, torch.device("cpu"), (7,)), DeviceCorpus(torch.arange(500)[None], None, (7,))
    whole = held.crops(6, 20, generator_of(1, 2))
    for inputs, targets in (whole, mapped.crops(6, 20, generator_of(1, 2))):
        assert torch.equal(inputs[:, 1:], targets[:, :-1]) and (inputs[:, 0] == 7).all()
        assert torch.equal(targets, whole[1])
    shares = [(0.5, held), (0.5, mapped)]
    together = mixed(shares, 6, 20, generator_of(3))
    for begin in range(0, 6, 2):
        part = mixed(shares, 6, 20, generator_of(3), slice(begin, begin + 2))
        assert torch.equal(part[0], together[0][begin : begin + 2]) and len(part[1]) == 2


def test_the_papers_schedule_is_halved_midway() -> None:
    from lutern.train.fit import Schedule

    plain = Schedule(100, 4, 4e-3, 10, 0.1, 1.0, 1)
    halved = replace(plain, halved=True)
    assert plain.rate(9) == 4e-3 and plain.rate(99) < 1e-5
    assert [halved.rate(step) / plain.rate(step) for step in (5, 49, 50, 99)] == [1, 1, 0.5, 0.5]


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


def small_ensemble(vocab_size: int) -> Any:
    from lutern.train.distill import Ensemble
    from lutern.train.network import Network

    torch.manual_seed(4)
    config = replace(load_checkpoint(TINY).config, vocab_size=vocab_size)
    networks = [Network(config, ternary=False).eval() for _ in range(2)]
    for network in networks:
        network.divide_logits(0.1)  # with random weights of 0.02, all tokens are almost equally likely
    return Ensemble(networks, 1.1)


def test_kept_probabilities_have_the_right_mean() -> None:
    from lutern.train.distill import kept

    seed, draws, top = 12, 20_000, 3
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(9, generator=generator).square().softmax(0)
    tokens, weights = kept(probabilities.expand(draws, -1), top, generator)
    assert tokens.shape == (draws, top + 1) and torch.allclose(weights.sum(-1), torch.ones(draws))
    largest = probabilities.topk(top)
    assert (tokens[:, :top] == largest.indices).all() and torch.equal(weights[0, :top], largest.values)
    assert not (tokens[:, top:] == tokens[:, :top]).any(), "the last token must be one of the others"
    mean = torch.zeros(draws, 9).scatter_add(1, tokens, weights).mean(0)
    assert (mean - probabilities).abs().max() < 5 * 0.5 / draws**0.5, f"seed {seed}"
    tokens, weights = kept(probabilities[None], 9, generator)  # if there are no more tokens, all are kept
    assert torch.equal(torch.zeros(1, 9).scatter_add(1, tokens, weights)[0], probabilities)


def test_weighted_targets_have_the_cross_entropy_of_their_probabilities() -> None:
    from lutern.train.network import cross_entropy

    torch.manual_seed(6)
    logits, tokens = torch.randn(2, 5, 7), torch.randint(7, (2, 5, 3))  # a token may appear twice
    weights = torch.rand(2, 5, 3).softmax(-1)
    dense = torch.zeros(2, 5, 7).scatter_add(-1, tokens, weights)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), dense.flatten(0, 1))
    assert torch.allclose(cross_entropy(logits, torch.stack([tokens.float(), weights], -1)), expected)


def test_written_text_keeps_the_probabilities_of_the_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teachers write a text, and the probabilities kept with it are those that they give for this text."""
    from lutern.train import distill

    monkeypatch.setattr(distill, "WRITE_TOKENS", 40)
    monkeypatch.setattr(distill, "WRITE_STREAMS", 3)
    seed, top, ensemble = 5, 4, small_ensemble(12)
    ids = torch.randint(12, (300,), generator=torch.Generator().manual_seed(seed))
    corpus = distill.written(ensemble, ids, 161, top, seed)
    assert corpus.ids.shape == (5, 41) and corpus.targets is not None
    begin = int(distill.generator_of(seed, 0).integers(0, 300 - distill.PROMPT_TOKENS, (3, 1))[1, 0])
    prompt = ids[begin : begin + distill.PROMPT_TOKENS]
    assert corpus.ids[1, 0] == prompt[-1]
    read = torch.cat([prompt[:-1], corpus.ids[1, :-1]])[None].long()
    with torch.no_grad():
        expected, _ = ensemble(read, ensemble.initial_state(1))
    largest = expected[0, -40:].topk(top)
    assert torch.equal(corpus.targets.tokens[1, :, :top].long(), largest.indices)
    assert torch.allclose(corpus.targets.weights[1, :, :top].float(), largest.values, atol=1e-3)
    assert (corpus.targets.weights[..., -1] == 0).all(), "a token that the teachers drew must have no extra weight"
    inputs, targets = corpus.crops(2, 20, distill.generator_of(1))
    assert inputs.shape == (2, 20) and targets.shape == (2, 20, top + 2, 2)
    assert torch.allclose(targets[..., 1].sum(-1), torch.ones(2, 20), atol=2e-3)
    again = distill.written(ensemble, ids, 161, top, seed)
    assert torch.equal(again.ids, corpus.ids), f"seed {seed}"


def test_the_given_text_keeps_its_own_tokens() -> None:
    from lutern.train import distill

    seed, weight, ensemble = 8, 0.25, small_ensemble(12)
    ids = torch.randint(12, (90,), generator=torch.Generator().manual_seed(seed))
    corpus = distill.labelled(ensemble, ids, weight, 4, seed)
    assert torch.equal(corpus.ids[0], ids) and corpus.targets is not None
    assert torch.equal(corpus.targets.tokens[0, :, -1].long(), ids[1:])
    assert (corpus.targets.weights[0, :, -1] == weight).all()
    with torch.no_grad():
        expected, _ = ensemble(ids[None, :-1], ensemble.initial_state(1))
    assert torch.allclose(corpus.targets.weights[0, :, :4].float(), 0.75 * expected[0].topk(4).values, atol=1e-3)


def test_lean_trains_the_same(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, the plain forms of the kernels run: with this option they store fewer numbers and give the same
    results."""
    from lutern.train import network

    seen = []

    def layer(module: Any, h: Any, bound: Any, start: Any, settings: Any) -> Any:
        seen.append(settings.lean)
        return fused_layer(module, h, bound, start, settings)

    fused_layer = network.fused_layer
    monkeypatch.setattr(network, "fused_layer", layer)
    monkeypatch.setattr(network.Network, "is_fused", lambda self: self.ternary)
    records = []
    for lean in (False, True):
        seen.clear()
        options = replace(OPTIONS, dropout=0.0, steps=6, lean=lean)
        records.append(train(text, tmp_path / str(lean), options)["record"])
        assert set(seen) == {lean}
    assert records[0] == records[1]


def test_calibration_finds_the_temperature_of_an_overconfident_network() -> None:
    from lutern.train.distill import calibrated
    from lutern.train.network import Network

    torch.manual_seed(8)
    network = Network(replace(load_checkpoint(TINY).config, vocab_size=8), ternary=False).eval()
    with torch.no_grad():  # the network draws the text, so the right temperature of the network is 1
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
    # Trained weights crowd at the threshold of half the scale. As they change the scale, this takes a few rounds.
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
