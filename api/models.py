"""Opens a model by its name (a shipped model, a checkpoint folder, or an image file), and computes with the model
without a chip.

    load("demo") ─► Model ─┬─► weights ─► generate, logits      by the integer model, exactly as on every chip
                           ├─► simulate ─► Machine              by the compiled gateware
                           └─► estimate ─► Estimate             cycles, bytes, tokens/s

Only the config is read at first. Weights and tokenizer are read when they are first used, and are then kept. Quantising
a checkpoint takes seconds for the demo and minutes for the released models. An image is already quantised.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lutern.api import Progress
from lutern.model_ref.checkpoint import Checkpoint, load_checkpoint
from lutern.model_ref.comparison import rows_of
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.embedding import WIDE_BITS
from lutern.model_ref.errors import LuternError
from lutern.model_ref.fast_model import FastModel
from lutern.model_ref.float_model import FloatModel
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import PUBLISHED
from lutern.model_ref.tokenizer import TOKENIZER_FILE, Tokenizer, load_tokenizer
from lutern.model_ref.weight_files import file_for_folder, not_a_folder

if TYPE_CHECKING:  # these modules import the descriptions of the gateware, which logits do not need
    from lutern.api.machines import Machine
    from lutern.api.writing import Options
    from lutern.firmware.image import OpenImage
    from lutern.hw.config import HwConfig
    from lutern.measure.estimate import Estimate

SHIPPED = ("demo", "demo-small")
"""The shipped checkpoints, the largest first. Commands without ``--model`` choose one of these checkpoints."""
LARGE = "demo-large"
"""A model that is shipped as an image, because the image has a seventh of the checkpoint's size. The model is opened
only by its name."""
NUMERICS = ("float", "integer")
Numerics = Literal["float", "integer"]


class Model:
    """A network with its weights and its tokenizer. ``load`` returns a ``Model``.

    Members
    -------
    name : str
        The name or path that was given to ``load``.
    config : ModelConfig
        The shape: V is ``vocab_size``, d ``hidden_size``, L ``num_hidden_layers``, m ``intermediate_size``.
    embedding_bits : int
        Bits of an element of the embedding table in a chip's memory, 16 or 12.
    synthetic : str
        How random weights were made. Empty for trained weights.
    notes : tuple of str
        One sentence for each thing that was read in an unexpected way.
    source : Checkpoint or OpenImage
        The checkpoint or image from which the model is read.
    """

    def __init__(self, name: str, source: Checkpoint | OpenImage) -> None:
        self.name, self.source = name, source
        self.config: ModelConfig = source.config
        self.embedding_bits: int = WIDE_BITS if isinstance(source, Checkpoint) else source.embedding_bits
        self.synthetic: str = source.synthetic
        self.notes: tuple[str, ...] = tuple(source.notes)

    def __repr__(self) -> str:
        config = self.config
        return (
            f"<Model {self.name}: {config.num_hidden_layers} layers, hidden size {config.hidden_size}, "
            f"{config.vocab_size} tokens, {config.trits:,} ternary weights>"
        )

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint with the float weights, or None for an image."""
        return self.source if isinstance(self.source, Checkpoint) else None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that contain the weights."""
        return self.source.files if isinstance(self.source, Checkpoint) else (self.source.path,)

    @cached_property
    def weights(self) -> IntegerWeights:
        """The quantised network, which is loaded into a chip."""
        return integer_weights(self.source) if isinstance(self.source, Checkpoint) else self.source.weights()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises LuternError for a checkpoint folder without a tokenizer."""
        if isinstance(self.source, Checkpoint):
            found = load_tokenizer(self.source.folder)
        else:
            where = f"{self.name}: {TOKENIZER_FILE}"
            found = Tokenizer.from_json(self.source.tokenizer_json, where, self.source.conventions)
        return found.limit_to(self.config.vocab_size)

    def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Return the token numbers of a text, which are the same as in the published code.

        ``begin``: include the tokens that the tokenizer puts before a text. Raises LuternError for a character that has
        no token (the message gives its position), and for a text without tokens.
        """
        return self.tokenizer.encode_prompt(text, begin=begin)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token numbers. Special tokens are left out."""
        return self.tokenizer.text_of(tokens)

    def generate(self, prompt: str, **options: Unpack[Options]) -> Iterator[str]:
        """Continue a text with the integer model, which needs no chip and gives the same tokens as every chip.

        Options and errors are the same as in ``Machine.generate``.
        """
        from lutern.api.writing import generate
        from lutern.firmware.session import GoldenSession

        return generate(GoldenSession(self.weights), self.tokenizer, prompt, **options)

    def logits(self, tokens: str | ArrayLike, numerics: Numerics = "integer") -> NDArray[Any]:
        """Return the logits [n, V] after each of n tokens, from a zero state (V: vocabulary).

        Parameters
        ----------
        tokens : str or array of int
            A text, or its token numbers [n].
        numerics : str
            "integer": exactly the numbers of the gateware, as float64. "float": the float32 network of the checkpoint.

        Raises
        ------
        LuternError
            A token number is outside the vocabulary, or ``numerics`` is "float" for an image, which has no float
            weights.
        """
        return np.stack([logits for logits, _ in self.rows(tokens, numerics)])

    def rows(
        self, tokens: str | ArrayLike, numerics: Numerics = "integer"
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield ``logits`` [V] and ``hidden`` [L + 1, d] after each token. ``hidden`` is the embedding, then the output
        of each layer.

        Parameters and errors are the same as in ``logits``. Only the results of one token are in memory.
        """
        if numerics not in NUMERICS:
            raise LuternError(f"there are no {numerics} numerics; give one of {', '.join(NUMERICS)}.")
        ids = self.token_numbers(tokens)
        if numerics == "integer":
            return rows_of(FastModel(self.weights), ids)
        if self.checkpoint is None:
            raise LuternError(
                f"{self.name} is an image, which holds no float weights; choose integer numerics, or the checkpoint."
            )
        return rows_of(FloatModel(self.checkpoint), ids)

    def token_numbers(self, tokens: str | ArrayLike) -> NDArray[np.int64]:
        """Return the token numbers int64 [n] of a text or an array. Raises LuternError for numbers outside the
        vocabulary."""
        ids = np.array(self.encode(tokens)) if isinstance(tokens, str) else np.asarray(tokens)
        if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
            raise LuternError(
                f"token numbers of shape {list(ids.shape)} and type {ids.dtype} were given; give whole numbers [T], at "
                "least one."
            )
        wrong = (ids < 0) | (ids >= self.config.vocab_size)
        if wrong.any():
            place = int(np.argmax(wrong))
            raise LuternError(
                f"token {ids[place]} at position {place} is outside the vocabulary of {self.config.vocab_size} tokens; "
                "encode the text with this model's tokenizer."
            )
        return ids.astype(np.int64)

    def simulate(
        self,
        machine: str | HwConfig | None = None,
        *,
        check: bool = False,
        counters: bool = False,
        over_link: bool = False,
        with_waves: bool = False,
        progress: Progress | None = None,
    ) -> Machine:
        """Return the simulated board with this model loaded. The simulation is the compiled top level of a chip, with
        the same link.

        Parameters
        ----------
        machine : str or HwConfig
            A preset's name, or your own machine. Default: the first of resident-85f and sim-64 that holds the model.
        check : bool
            Compare every h, state, code and logit with the integer model. The first difference raises LuternError.
        counters : bool
            Add the counters that ``Machine.count`` reads to the machine.
        over_link : bool
            Load over the link, as a real board is loaded. This takes minutes for a large model. By default the
            simulated memory is written directly.
        with_waves : bool
            Compile the simulation so that ``Machine.record_waves`` can record signals. Such a simulation is slower.
        progress : Progress
            Called with the number of loaded bytes.

        Returns
        -------
        Machine
            A context manager. The first simulation of a machine compiles the machine, which takes ten seconds to
            minutes. The result is kept in ``LUTERN_CACHE``.

        Raises
        ------
        LuternError
            There is no such preset, the machine does not hold the model, or there is no compiler.
        """
        from lutern.api.machines import simulate

        return simulate(self, machine, counters, with_waves, check=check, over_link=over_link, progress=progress)

    def estimate(
        self, machine: str | HwConfig = "", *, board: str = "", streams: int = 1, share: float = 1.0
    ) -> Estimate:
        """Return cycles, bytes, tokens/s and resources of this model on a machine, as ``lutern.estimate`` does."""
        from lutern.api.chips import estimate

        return estimate(self, machine, board=board, streams=streams, share=share)


def load(name: str | os.PathLike[str]) -> Model:
    """Open a shipped model, a checkpoint folder in the published format, or an image file.

    The shipped models are ``"demo"``, ``"demo-small"`` and ``"demo-large"``. ``load`` reads only headers and the
    config. Raises LuternError for a path that is no model, is damaged, or needs a feature that Lutern does not support.
    """
    name = os.fspath(name)
    return Model(name, open_image_file(name) if is_image(name) else open_checkpoint(name))


def is_image(name: str) -> bool:
    """Return whether a name means an image, which is a file or the shipped model ``LARGE``."""
    return _path_of(name).is_file()


def open_checkpoint(name: str) -> Checkpoint:
    """Open the checkpoint of a shipped model or of a folder."""
    return load_checkpoint(checkpoint_folder(name))


def open_image_file(name: str) -> OpenImage:
    """Open an image by its path or by the name of a shipped image. A file of a checkpoint is refused, and the message
    names its folder."""
    from lutern.firmware.image import open_image

    path = _path_of(name)
    reason = file_for_folder(path)
    if reason:
        raise LuternError(reason)
    return open_image(str(path))


def checkpoint_folder(name: str) -> Path:
    """Return the checkpoint folder that a name or path means. Raises LuternError if there is no such folder."""
    folder = _path_of(name)
    if not folder.is_dir():
        if folder.is_file() and file_for_folder(folder) is None:
            open_image_file(name)
            raise LuternError(f"{name} is an image already; give the checkpoint folder that it was made from.")
        if name in PUBLISHED:
            raise LuternError(
                f"{name} is a published shape, whose weights are not shipped; give the checkpoint folder. An estimate "
                f'needs no weights: lutern estimate --size {name}, or lutern.estimate(lutern.PUBLISHED["{name}"]).'
            )
        raise LuternError(
            not_a_folder(name)
            or f"there is no model {name}; give one of {', '.join((*SHIPPED, LARGE))}, or a folder with config.json "
            "and model.safetensors."
        )
    return folder


def _path_of(name: str) -> Path:
    """Return the folder or file that a name means. If a path named like ``LARGE`` exists, it replaces the shipped
    image."""
    shipped = Path(str(resources.files("lutern.firmware"))) / "models" / name
    if name in SHIPPED:
        return shipped
    return shipped / "model.image" if name == LARGE and not Path(name).exists() else Path(name)


__all__ = [
    "LARGE",
    "NUMERICS",
    "SHIPPED",
    "Model",
    "Numerics",
    "checkpoint_folder",
    "is_image",
    "load",
    "open_checkpoint",
    "open_image_file",
]
