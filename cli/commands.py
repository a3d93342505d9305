"""Lists the commands of `lutern`, and prints every error that a user can correct as one sentence."""

import errno
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer

from lutern.cli.defaults import default_map
from lutern.cli.lazy import Entry, lazy_group
from lutern.cli.output import close_output, open_streams, printable, refuse
from lutern.cli.renamed import renamed
from lutern.cli.version import version_text
from lutern.model_ref.errors import LuternError
from lutern.model_ref.output_files import FULL

COMMANDS = {
    name: Entry(f"lutern.cli.{module}", attribute, summary)
    for name, module, attribute, summary in (
        ("doctor", "doctor", "doctor", "Show what is installed, and how to get what is missing."),
        ("generate", "generate", "generate_text", "Let a model write, on simulated gateware or on a board."),
        ("go", "go", "go", "Build and load a bitstream, test the board, and let a model write."),
        ("ports", "ports", "ports", "List the serial ports that --on takes."),
        ("selftest", "selftest", "selftest", "Test a board: its link, its memory, and a known text."),
        ("board", "board", "serve_board", "Serve the simulated board at a port of its own."),
        ("serve", "serve", "serve_model", "Serve a model by the OpenAI API."),
        ("link", "link", "app", "Print a recorded session of the link."),
        ("eval", "evaluate", "evaluate", "Print bits per character and per token, float and integer."),
        ("compare", "compare", "compare", "Compare the integer network and float16 with the float one."),
        ("logits", "logits", "write_logits", "Write logits and hidden states into a file."),
        ("tokenize", "tokenize", "tokenize", "Print the token numbers of a text."),
        ("convert", "convert", "convert", "Quantise a checkpoint into an image, the file for a board."),
        ("inspect", "inspect", "inspect", "Print the parts of a model, and which machines hold the model."),
        ("new", "new", "new", "Write a checkpoint of random numbers in a published shape."),
        ("train", "train", "train", "Train a model and write its checkpoint."),
        ("scale", "scale", "scale", "Train several sizes, and fit how the loss falls with size."),
        ("cost", "cost", "cost", "Print what blocks cost on an ECP5, each synthesised alone."),
        ("bench", "bench", "bench", "Count cycles of machines and models in simulation."),
        ("cycles", "cycles", "cycles", "Show where a token's cycles go, phase by phase."),
        ("inject", "inject", "inject", "Inject faults into a simulated board, and count their effects."),
        ("estimate", "estimate", "estimate_machine", "Compute cycles, tokens/s and resources without simulation."),
        ("explore", "explore", "explore", "Search machines for a model and a chip."),
        ("power", "power", "app", "Count toggles; estimate or measure joules."),
        ("report", "report", "write_report", "Write all figures of a model and a machine into an HTML file."),
        ("build", "build", "build", "Build a bitstream: synthesis, place and route, report."),
        ("program", "program", "program", "Load a bitstream into a board."),
        ("verilog", "verilog", "verilog", "Print the Verilog of a machine."),
        ("cache", "cache", "app", "Print or remove the results that are kept on this computer."),
    )
}
"""The commands by name, in the order of the help text."""

app = typer.Typer(
    name="lutern",
    cls=lazy_group(COMMANDS),
    help="MatMul-free language models as FPGA gateware.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # a help text with brackets or colons, such as a path, is printed unchanged
    pretty_exceptions_enable=False,  # a defect of Lutern shows Python's own traceback
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(version_text())
        raise typer.Exit


@app.callback()
def lutern(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print version and commit, and end.")
    ] = False,
) -> None:
    """MatMul-free language models as FPGA gateware."""


INTERRUPTED = 130
"""The exit status after Ctrl-C."""
_UsageError: Any = typer.BadParameter.__base__
"""The base class of the exceptions that the command line's parser raises."""


def defaults(arguments: list[str]) -> dict[str, Any]:
    """Return the defaults for the options of the command in ``arguments``. These defaults come from the environment and
    the configuration file."""
    name = next((word for word in arguments if not word.startswith("-")), None)
    return default_map(typer.main.get_command(app), name)


def _end(number: int, frame: FrameType | None) -> None:
    """End the process after a signal as after an error, so that ports are closed and temporary files are removed."""
    sys.exit(128 + number)


def run() -> int:
    """Run the command line, and return the exit status.

    For an error that a user can correct, one sentence is printed, and the status is 1. Ctrl-C ends the process without
    a message and with status 130, SIGTERM with status 143, and the end of its terminal with status 129.
    """
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup the signal stays ignored
        signal.signal(signal.SIGHUP, _end)
    try:
        open_streams()
        arguments = sys.argv[1:] or ["--help"]
        status = app(arguments, prog_name="lutern", standalone_mode=False, default_map=defaults(arguments))
        if status != INTERRUPTED:
            sys.stdout.flush()
    except LuternError as error:
        return refuse(error)
    except OSError as error:
        return refuse(_sentence(error))
    except MemoryError:
        return refuse(
            LuternError("the memory of this computer is not enough for this; choose a smaller model or text.")
        )
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "lutern"
        instead = renamed(command, getattr(error, "option_name", ""))
        message = _asked(printable(error.format_message()), command) if instead is None else f"{instead}."
        print(f"lutern: {message}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        close_output()
    return status if isinstance(status, int) else 0


def _sentence(error: OSError) -> LuternError:
    """Return the sentence for a system error that a user can correct. Any other error is a defect of Lutern and is
    raised again."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    if error.errno == errno.ENAMETOOLONG:
        return LuternError(f"the name {name[:40]}... is too long for a file; give another name.")
    if error.errno in FULL:
        return LuternError(f"nothing more can be written ({error.strerror}); make room.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO) and name:
        return LuternError(f"{name} cannot be used ({error.strerror}); give another, or change its rights.")
    raise error


def _asked(message: str, command: str) -> str:
    """Return an error message of the command line's parser as one sentence that says what to do."""
    return f"{' '.join(message.split()).replace('. Did', '; did').rstrip('.?')}; see {command} --help."
