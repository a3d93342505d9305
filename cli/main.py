"""The command `lutern`: one list of commands, one place where errors become one sentence."""

import sys

import typer

from lutern.cli import doctor, evaluate, generate, train
from lutern.model_ref.errors import LuternError

app = typer.Typer(
    name="lutern",
    help="MatMul-free language models as FPGA gateware.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a defect of ours shows Python's own traceback
)


@app.callback()
def lutern() -> None:
    """MatMul-free language models as FPGA gateware."""


# Every command of `lutern`, in the order that a newcomer meets them.
app.command("doctor")(doctor.doctor)
app.command("generate")(generate.generate_text)
app.command("eval")(evaluate.evaluate)
app.command("train")(train.train)


def main() -> None:
    """Run the command line. What a user can mend ends with one sentence and status 1, Ctrl-C with 130 and silence."""
    try:
        app()
    except LuternError as error:
        print(f"lutern: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
