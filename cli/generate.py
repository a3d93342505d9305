"""`lutern generate`: writes text, token by token, from a board, the simulated board, or the integer model."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from lutern.api.machines import SIM_PRESETS, Machine, first_that_holds, open_machine
from lutern.api.models import Model
from lutern.api.writing import TEMPERATURE, TOKENS, choose_sampling, encode_prompts, style_of
from lutern.cli.machine import MachineOption, SetOption, given_machine, preset_option
from lutern.cli.models import MODEL_HELP, default_model, open_model
from lutern.cli.numbers import LARGEST_COUNT, LARGEST_SEED, baud_option, whole
from lutern.cli.output import given_text, given_texts, plain_console
from lutern.cli.port import PORTS, MemoryOption, RecordOption, check_options, is_port
from lutern.cli.progress import load_bar
from lutern.cli.prompts import collect_prompts, turns
from lutern.cli.trace import CYCLES, CyclesOption, SignalOption, TraceOption, check_trace, say_where
from lutern.cli.writing import Place, write_texts, write_turns
from lutern.firmware.host_sampling import LOGIT_BYTES, Sampling
from lutern.firmware.host_weights import LINE_BITS
from lutern.firmware.serial_port import BAUD
from lutern.firmware.session import GoldenSession
from lutern.hw.config import HwConfig
from lutern.model_ref.chat import Chat
from lutern.model_ref.conventions import Conventions
from lutern.model_ref.errors import LuternError
from lutern.model_ref.tokenizer import Tokenizer

TARGETS = ("sim", "golden")
PROMPT = "once upon a time"
CHECK_NEEDS_SIM = (
    "--check compares the simulated board with the integer model, and --on {on} is not simulated; leave out --check."
)
_VOCABULARY = 32_000
LINK_COST = (
    f"Then the host chooses, and the link transfers all logits for every token, {LOGIT_BYTES} bytes each. A "
    f"vocabulary of {_VOCABULARY:,} needs {LOGIT_BYTES * _VOCABULARY:,} bytes, "
    f"{LOGIT_BYTES * _VOCABULARY * LINE_BITS / BAUD:.2f} s at {BAUD:,} baud."
)
ON_HOST = "Sampling on the host, which needs all logits"


Prompt = Annotated[str | None, typer.Argument(callback=given_text, help="Text to continue; - is standard input.")]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", callback=given_texts, help="A text to continue; can be repeated, texts run in parallel."),
]
PromptFiles = Annotated[
    list[Path] | None, typer.Option("--prompt-file", help="A file with a text to continue, plain or .xz.")
]
ChatOption = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="Put each prompt into the template of a chat model as a message. Without a prompt, each line of input "
        "is a message.",
    ),
]
Interactive = Annotated[
    bool, typer.Option("--interactive", help="Continue with every line of input; the state stays on the board.")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "-t",
        "--temperature",
        help=f"0: choose the likeliest token; above 0: sample; default: the model's, else {TEMPERATURE}.",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", help=f"Choose among the k likeliest tokens; 0: all. {LINK_COST}", rich_help_panel=ON_HOST),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        help="Choose among the likeliest tokens that together have this probability.",
        rich_help_panel=ON_HOST,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        "--min-p",
        help="Choose among the tokens with at least this share of the likeliest token's probability.",
        rich_help_panel=ON_HOST,
    ),
]
Penalty = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty", help="Above 1: makes earlier tokens of the text less likely.", rich_help_panel=ON_HOST
    ),
]
Stops = Annotated[
    list[str] | None,
    typer.Option("--stop", callback=given_texts, help="End before this text, which is not written; can be repeated."),
]
OverLink = Annotated[
    bool,
    typer.Option(
        "--over-link",
        help="Load the simulated board over its link, as a real board; takes minutes for a large model. Without this "
        "option, the image is written directly into a simulated memory outside the chip.",
    ),
]


def generate_text(
    prompt: Prompt = None,
    prompts: Prompts = None,
    prompt_files: PromptFiles = None,
    chat: ChatOption = False,
    interactive: Interactive = False,
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "",
    on: Annotated[str, typer.Option(help=f"sim: the simulated board; golden: the integer model; or {PORTS}.")] = "sim",
    baud: Annotated[int | None, baud_option()] = None,
    record: RecordOption = None,
    memory: MemoryOption = None,
    tokens: Annotated[
        int, whole("-n", "--tokens", least=1, most=LARGEST_COUNT, help="Tokens to generate at most.")
    ] = TOKENS,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Penalty = None,
    stop: Stops = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Continue after the end-of-text token.")] = False,
    no_bos: Annotated[bool, typer.Option("--no-bos", help="Leave out the beginning-of-text token.")] = False,
    seed: Annotated[
        int, whole("--seed", least=0, most=LARGEST_SEED, help="Seed of the sampler; prompt i has seed + i.")
    ] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Compare every h, S, code and logit with the integer model.")
    ] = False,
    over_link: OverLink = False,
    trace: TraceOption = None,
    cycles: CyclesOption = CYCLES,
    signals: SignalOption = None,
    preset_name: Annotated[
        str, preset_option(f"the port's, else {SIM_PRESETS[0]}, which simulates a token fastest, or {SIM_PRESETS[1]}")
    ] = "",
    settings: SetOption = None,
    machine_file: MachineOption = None,
) -> None:
    """Let a model write on a board, on the simulated board, or on the integer model. All three give the same tokens.

    The text ends at the model's end-of-text token. Sampling options that are not given come from the model's
    generation_config.json.
    """
    check_place(on, check)
    check_options(on, baud, record, memory)
    span = check_trace(trace, cycles, signals, on)
    if "" in (stop or []):
        raise LuternError("a text of --stop is empty; give the text at which to end.")
    asked: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    choose_sampling(Conventions(), seed, asked)  # a wrong number is refused before anything is opened
    chosen = given_machine(preset_name, settings, machine_file)
    wanted = chosen.config if chosen else None
    given = prompt is not None or bool(prompts or prompt_files)
    talks = interactive or (chat and not given)
    with ExitStack() as stack:
        chip: Machine | None = None
        if is_port(on) and not model:  # the machine of the chip determines the default model
            chip = stack.enter_context(open_machine(on, baud=baud, machine=wanted, memory=memory, record=record))
        opened = open_model(model or default_model(chip.config if chip else wanted if on == "sim" else None))
        tokenizer = opened.tokenizer
        texts = collect_prompts(prompt, prompts or [], prompt_files or [], piped=not talks)
        if talks and len(texts) > 1:
            raise LuternError(
                f"{len(texts)} prompts were given, but an interactive conversation begins with one; give one prompt."
            )
        style, of_file = style_of(
            tokenizer, tokens=tokens, seed=seed, stop=stop or [], ignore_eos=ignore_eos, begin=not no_bos, **asked
        )
        ids = [] if talks else encode_prompts(tokenizer, texts or [PROMPT], chat, style.begin)
        if talks and chat:
            Chat(tokenizer).check()
        say_what_is_read(tokenizer, of_file)
        if on == "golden":
            place = Place(opened, GoldenSession(opened.weights, max(1, len(ids)), max(1, len(ids))))
        else:
            if on == "sim":
                machine = simulated_for(opened, wanted, style.sampling, check, over_link, trace is not None)
            else:
                chip = chip or open_machine(on, baud=baud, machine=wanted, memory=memory, record=record)
                machine = chip
            stack.enter_context(machine)
            style.sampling.check_kept(machine.config.top_k)
            if on != "sim":
                with load_bar() as advance:
                    machine.load(opened, progress=advance)
            place = Place.of(opened, machine)
            if trace is not None:
                stack.enter_context(machine.record_waves(trace, span, signals))
        if talks:
            write_turns(place, tokenizer, itertools.chain(texts, turns()), style, chat)
        else:
            write_texts(place, tokenizer, ids, style, hidden=chat)
    if trace is not None:
        say_where(trace)


def simulated_for(
    opened: Model, wanted: HwConfig | None, sampling: Sampling, check: bool, over_link: bool, with_waves: bool
) -> Machine:
    """Return the simulated board of the machine ``wanted``, or of the first preset that holds the model."""
    hw_config = wanted or first_that_holds(opened.weights)
    sampling.check_kept(hw_config.top_k)
    with load_bar() as advance:
        return opened.simulate(hw_config, check=check, over_link=over_link, with_waves=with_waves, progress=advance)


def check_place(on: str, check: bool) -> None:
    """Refuse a name that ``--on`` does not accept, and a check of a machine that is not simulated."""
    if on not in TARGETS and not is_port(on):
        raise LuternError(f"there is nothing called {on} to run on; give one of {', '.join(TARGETS)}, {PORTS}.")
    if check and on != "sim":
        raise LuternError(CHECK_NEEDS_SIM.format(on=on))


def say_what_is_read(tokenizer: Tokenizer, of_file: list[str]) -> None:
    """Print which options generation_config.json sets, and which of its options Lutern does not support."""
    console = plain_console(stderr=True)
    if of_file:
        console.print(f"sampling of generation_config.json: {', '.join(of_file)}", style="dim", soft_wrap=True)
    if tokenizer.conventions.unheeded:
        console.print(
            f"of the model's files, these options are not built and have no effect: "
            f"{', '.join(tokenizer.conventions.unheeded)}",
            style="dim",
            soft_wrap=True,
        )
