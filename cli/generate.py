"""`lutern generate`: text from a board, from the simulated board, or from the integer model, token by token."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from lutern.cli.models import Network, open_network
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, baud_option, whole
from lutern.cli.output import given_text, given_texts, plain_console
from lutern.cli.progress import progress_bar, transfer_bar
from lutern.firmware.conversations import EMPTY_PROMPT, Sampling, converse
from lutern.firmware.host_weights import line_tokens_per_s
from lutern.firmware.identify import identify
from lutern.firmware.link import Client
from lutern.firmware.program import lay_out
from lutern.firmware.serial_port import BAUD, SerialPort
from lutern.firmware.session import GoldenSession, Machine, Run, Session
from lutern.hw.config import PRESETS, HwConfig, preset
from lutern.hw.protocol import INFO, Opcode
from lutern.measure.cycles import token_cycles
from lutern.model_ref.errors import LuternError
from lutern.model_ref.quantise import IntegerWeights
from lutern.model_ref.tokenizer import Tokenizer
from lutern.sim.board import SimulatedBoard, simulated
from lutern.sim.lockstep import LockStep

TARGETS = ("sim", "golden")
SIM_PRESET = "sim-64"
PROMPT = "once upon a time"
CHECK_NEEDS_SIM = "--check compares the simulated board with the integer model; leave it out with --on {on}."


def generate_text(
    prompt: Annotated[str | None, typer.Argument(callback=given_text, help="Text to go on from.")] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt", callback=given_texts, help="A text to go on from; again for more, all in flight at once."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="demo, demo-small, a checkpoint folder, or an image.")] = "demo",
    on: Annotated[
        str, typer.Option(help="sim: the simulated board; golden: the integer model; or the port of a board.")
    ] = "sim",
    baud: Annotated[int, baud_option()] = BAUD,
    tokens: Annotated[int, whole("-n", "--tokens", least=1, most=LARGEST_COUNT, help="Tokens to generate.")] = 200,
    temperature: Annotated[
        float, typer.Option("-t", "--temperature", help="0 takes the likeliest, else the chip samples.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", help="The host samples among the k likeliest; 0: all.")] = 0,
    seed: Annotated[
        int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of the sampler; prompt i has seed + i.")
    ] = 1,
    check: Annotated[bool, typer.Option("--check", help="Compare every h, S, code and logit.")] = False,
    preset_name: Annotated[
        str | None,
        typer.Option("--preset", help=f"Machine: {', '.join(PRESETS)}; default: the port's, else {SIM_PRESET}."),
    ] = None,
) -> None:
    """Let a model write: on real gateware, simulated, or on the integer model it is proved equal to."""
    if on not in TARGETS and os.sep not in on:
        raise LuternError(
            f"there is nothing called {on} to run on; give one of {', '.join(TARGETS)}, or a port such as /dev/ttyUSB0."
        )
    if check and on != "sim":
        raise LuternError(CHECK_NEEDS_SIM.format(on=on))
    sampling = Sampling(temperature, top_k, seed)
    texts = ([prompt] if prompt is not None else []) + (prompts or []) or [PROMPT]
    opened = open_network(model)
    tokenizer = opened.tokenizer()
    ids = [tokenizer.encode(text) for text in texts]
    if not all(ids):
        raise LuternError(EMPTY_PROMPT)
    hw_config = preset(preset_name or SIM_PRESET)
    weights = opened.weights()
    if on in TARGETS:
        machine = _sim(weights, hw_config, check) if on == "sim" else GoldenSession(weights, len(texts), len(texts))
        _write(machine, opened, tokenizer, texts, ids, tokens, sampling)
        return
    with SerialPort(on, baud) as port:
        session = open_session(Client(port), weights, preset_name)
        _write(session, opened, tokenizer, texts, ids, tokens, sampling, on, baud)


def open_session(client: Client, weights: IntegerWeights, preset_name: str | None = None) -> Session:
    """A session with the chip at the other end, whichever machine it is, or only if it is that one."""
    among = PRESETS.values() if preset_name is None else [preset(preset_name)]
    hw_config = identify(INFO.unpack(client.transact(Opcode.INFO)), among)
    program = lay_out(weights, hw_config)
    with transfer_bar("loading the model over the link") as advance:
        return Session(client, program, progress=advance)


def _sim(weights: IntegerWeights, hw_config: HwConfig, check: bool) -> Machine:
    """A session with the simulated board; a model that fits, then a board: built when it is not in the cache."""
    program = lay_out(weights, hw_config)
    board = SimulatedBoard(simulated(hw_config))
    with transfer_bar("loading the model over the link") as advance:
        session = Session(Client(board), program, progress=advance)
    return LockStep(session, board, weights) if check else session


def _write(
    machine: Machine,
    network: Network,
    tokenizer: Tokenizer,
    texts: list[str],
    ids: list[list[int]],
    count: int,
    sampling: Sampling,
    where: str = "simulated",
    baud: int = BAUD,
) -> None:
    """Print prompt and text as they come (several: one after the other when all is done), then what it took."""
    console = plain_console(stderr=True)
    out = sys.stdout
    alone = len(texts) == 1
    if alone:
        out.write(texts[0])
        out.flush()
    runs: list[Run] = []
    written = list(texts)
    start = time.monotonic()
    try:
        with progress_bar("tokens", hidden=alone) as advance:
            for piece in converse(machine, ids, count, sampling):
                if not runs or runs[-1] is not piece.run:
                    runs.append(piece.run)
                text = tokenizer.decode(piece.tokens)
                written[piece.which] += text
                if alone:
                    out.write(text)
                    out.flush()
                advance(sum(map(len, written)) - sum(map(len, texts)), count * len(texts))
    finally:
        out.write("\n" if alone else "".join(f"{text}\n" for text in written))
        out.flush()
    seconds = time.monotonic() - start
    steps = sum(len(prompt) - 1 + count for prompt in ids)
    for line in summary(runs, steps, seconds, machine, network, where, baud):
        console.print(line, style="dim", soft_wrap=True)


def summary(
    runs: list[Run], steps: int, seconds: float, machine: Machine, network: Network, where: str, baud: int
) -> list[str]:
    """What a run took: speed here, cycles of a pass, lane use, and the speed that the cycles mean at the preset's
    clock, or the link allows where it brings the weights; the last run, which had the fewest conversations left, is not
    counted where there was another."""
    trits = network.config.trits
    if isinstance(machine, GoldenSession):
        return [f"integer model: {steps / seconds:.1f} tokens/s", *_synthetic(network)]
    session = machine.session if isinstance(machine, LockStep) else machine
    assert isinstance(session, Session)
    hw_config = session.config
    widest = max(len(run.tokens[0]) for run in runs)
    full = [run for run in runs if len(run.tokens[0]) == widest]
    cycles = sum(run.cycles for run in full) / len(full)
    lines = [f"{hw_config.name}, {hw_config.lanes} lanes, {where}: {steps / seconds:.1f} tokens/s ({steps} tokens)"]
    per = f"pass of {widest} tokens" if widest > 1 else "token"
    if hw_config.memory == "host":
        bound = widest * line_tokens_per_s(session.program, baud)
        lines.append(
            f"{session.program.bytes_per_token:,} bytes of weights a {per} over the link: at most {bound:.3g} "
            f"tokens/s at {baud:,} baud"
        )
    else:
        model_cycles = token_cycles(session.program.model, hw_config, widest).cycles
        lines.append(
            f"{cycles:,.0f} cycles/{per} (cycle model {model_cycles:,}; "
            f"trits / lanes {trits / hw_config.lanes:,.0f}: lane use {trits / hw_config.lanes / cycles:.1%}); "
            f"{widest * hw_config.clock_hz / cycles:,.0f} tokens/s at {hw_config.clock_hz / 1e6:.0f} MHz"
        )
    if clipped := sum(run.saturations for run in runs):
        lines.append(f"values were clipped in {clipped} beats: the model's ranges are calibrated, not proved")
    if isinstance(machine, LockStep):
        lines.append(f"checked {machine.checked:,} values against the integer model: no difference")
    return lines + _synthetic(network)


def _synthetic(network: Network) -> list[str]:
    """The line that every figure of random weights carries."""
    return [f"synthetic weights ({network.synthetic})"] if network.synthetic else []
