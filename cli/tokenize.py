"""`lutern tokenize`: prints the token numbers of a text, for comparison with the published code."""

from __future__ import annotations

from typing import Annotated

import typer

from lutern.cli.models import open_model
from lutern.cli.prompts import collect_prompts


def tokenize(
    text: Annotated[str, typer.Argument(help="The text. - is standard input.")],
    model: Annotated[
        str, typer.Option(help="demo, demo-small, demo-large, a checkpoint folder, or an image.")
    ] = "demo",
    no_bos: Annotated[bool, typer.Option("--no-bos", help="Leave out the beginning-of-text token.")] = False,
) -> None:
    """Print a text's token numbers on one line, as the model reads them."""
    (prompt,) = collect_prompts(text, [], [], piped=False)
    print(*open_model(model).tokenizer.encode_prompt(prompt, begin=not no_bos))
