"""The Transformer for the comparison, and one run of the scaling laws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lutern.model_ref.config import ModelConfig
from lutern.train.scaling import Plan, Run, read_result
from lutern.train.scaling_all import train_all

torch = pytest.importorskip("torch", reason="training is an optional extra")

SEED = 4
CONFIG = ModelConfig(vocab_size=38, hidden_size=64, num_hidden_layers=2, intermediate_size=176)
PLAN = Plan(
    sizes=((32, 1), (64, 1), (96, 1)), steps=8, batch=2, sequence_length=16, warmup_steps=2, validations=2, device="cpu"
)
WINDOW = 16


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("once upon a time there was a cat who saw a dog.\n" * 200)
    return path


def test_transformer_has_as_many_weights_and_all_learn() -> None:
    from lutern.train.transformer import Transformer

    torch.manual_seed(SEED)
    network, ids = Transformer(CONFIG, WINDOW), torch.randint(38, (2, WINDOW + 1))
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and name != "embeddings.weight"]
    assert sum(p.numel() for p in matrices) == CONFIG.trits
    loss, _ = network(ids[:, :-1], network.initial_state(2), ids[:, 1:])
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_attention_sees_what_came_before_and_nothing_after() -> None:
    from lutern.train.transformer import Transformer

    torch.manual_seed(SEED)
    network, ids = Transformer(CONFIG, WINDOW).eval(), torch.randint(38, (1, WINDOW))
    other = ids.clone()
    other[0, 10] = (ids[0, 10] + 1) % 38
    with torch.no_grad():
        change = (network(ids, network.initial_state(1))[0] - network(other, network.initial_state(1))[0]).abs()
    assert change[0, :10].max() == 0 and (change[0, 10:].amax(-1) > 1e-4).all(), f"seed {SEED}"


@pytest.mark.parametrize("ahead", [(), (1,)])
def test_chunks_are_read_behind_half_a_window(ahead: tuple[int, ...]) -> None:
    """The logits of a later chunk are those of a crop that starts half a window earlier with the tokens that begin a
    text."""
    from lutern.train.transformer import Transformer

    torch.manual_seed(SEED)
    network, ids = Transformer(CONFIG, WINDOW, ahead=ahead).eval(), torch.randint(38, (2, 4 * WINDOW // 2))
    chunk, state = network.validation_chunk, network.initial_state(2)
    assert chunk == WINDOW // 2
    with torch.no_grad():
        for begin in range(0, ids.shape[1], chunk):
            logits, state = network(ids[:, begin : begin + chunk], state)
            crop = ids[:, max(0, begin - chunk) : begin + chunk].clone()
            if begin:
                crop[:, : len(ahead)] = torch.tensor(ahead, dtype=torch.long)
            whole, _ = network(crop, network.initial_state(2))
            assert torch.allclose(logits, whole[:, -chunk:], atol=1e-5), f"seed {SEED}, chunk at {begin}"


@pytest.mark.parametrize("kind", ["matmul-free", "transformer"])
def test_a_stopped_run_continues(kind: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lutern.train import fit, scaling_all
    from lutern.train.scaling_run import train_one

    run = Run(kind, 32, 1, 1.0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out in (whole, parts):
        scaling_all._begin(text, out, PLAN)
        (out / run.name).mkdir()
    result = train_one(whole, run, PLAN)
    assert [row["step"] for row in result.record] == [4, 8]
    assert result.weights == run.shape(len(set(text.read_text()))).trits
    assert read_result(whole / run.name / "run.json") == result
    assert sorted(path.name for path in (whole / run.name).iterdir()) == ["run.json"], "saves were not removed"

    store = fit.store

    def store_and_stop(folder: Path, network: object, optimizer: object, state: dict, group: object) -> None:
        store(folder, network, optimizer, state, group)  # type: ignore[arg-type]
        if state["step"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "store", store_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train_one(parts, run, PLAN)
    monkeypatch.undo()
    assert [row["step"] for row in read_result(parts / run.name / "record.json").record] == [4]
    assert train_one(parts, run, PLAN).record == result.record


@pytest.mark.slow
def test_all_runs_as_processes(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes start even if the working folder contains a folder called lutern."""
    (tmp_path / "lutern").mkdir()
    (tmp_path / "lutern" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen: list[tuple[int, int]] = []
    results = train_all(
        text, tmp_path / "out", replace(PLAN, at_once=2), lambda done, total, _: seen.append((done, total))
    )
    assert len(results) == 6 and seen[-1] == (48, 48)
    assert all(result.record[-1]["step"] == 8 for result in results)
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["steps"] == 8
