"""The image file: reading returns the same network, and damaged or hostile files are refused early."""

import hashlib
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from lutern.firmware.image import Image, open_image, read_image, seal, write_image
from lutern.firmware.image_format import digest_of
from lutern.model_ref.checkpoint import load_checkpoint
from lutern.model_ref.config import ModelConfig
from lutern.model_ref.errors import LuternError
from lutern.model_ref.model import IntegerModel
from lutern.model_ref.quantise import IntegerWeights, integer_weights
from lutern.model_ref.synthetic import random_checkpoint

TINY = Path(__file__).parents[1] / "data" / "tiny"
TOKENIZER = '{"version": "1.0", "text": "ä"}'
TOKENIZER_NAME = "tokenizer.json"
F_PROJ = "model.layers.0.attn.f_proj"
ACTIVATIONS = ["h", *(f"model.layers.{layer}.{name}" for layer in (0, 1) for name in ("attn.i_proj", "mlp.gate_proj"))]


@pytest.fixture(scope="module")
def weights() -> IntegerWeights:
    return integer_weights(load_checkpoint(TINY))


@pytest.fixture(scope="module")
def path(weights: IntegerWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "tiny.lutern"
    write_image(path, weights, TOKENIZER, "tests/data/tiny")
    return path


@pytest.fixture(scope="module")
def image(path: Path) -> Image:
    return read_image(path)


def assert_equal(got: Any, expected: Any, where: str) -> None:
    assert type(got) is type(expected), where
    if is_dataclass(expected):
        for field in fields(expected):
            assert_equal(getattr(got, field.name), getattr(expected, field.name), f"{where}.{field.name}")
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected), where
        for index, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    elif isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype and np.array_equal(got, expected), where
    else:
        assert got == expected, where


def test_weights_come_back_whole(image: Image, weights: IntegerWeights) -> None:
    assert_equal(image.weights, weights, "weights")
    assert image.tokenizer_json == TOKENIZER and image.source == "tests/data/tiny"
    assert set(image.digests) == {*weights.config.tensor_shapes, "model.lower_bounds", "tokenizer.json"}


def test_sums_are_identical(image: Image, weights: IntegerWeights) -> None:
    written, read = IntegerModel(weights), IntegerModel(image.weights)
    state_a = state_b = written.initial_state(1)
    for token in (1, 7, 200, 3, 3, 90, 41, 255):
        ids = np.array([token])
        sums_a, scale_a, state_a = written.decode(ids, state_a)
        sums_b, scale_b, state_b = read.decode(ids, state_b)
        assert np.array_equal(sums_a, sums_b) and np.array_equal(scale_a, scale_b), f"token {token}"
        assert np.array_equal(state_a, state_b), f"token {token}"


def test_equal_inputs_give_equal_files(path: Path, image: Image, weights: IntegerWeights, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "again", weights, TOKENIZER.encode(), "tests/data/tiny")
    assert (tmp_path / "again").read_bytes() == path.read_bytes() and digest == image.digest
    assert write_image(tmp_path / "other", weights, TOKENIZER, "elsewhere") != digest
    assert sorted(item.name for item in tmp_path.iterdir()) == ["again", "other"]


def test_trits_cost_little(path: Path, weights: IntegerWeights) -> None:
    trits, table = weights.config.trits, weights.embeddings.mantissa.size
    assert path.stat().st_size < trits * 1.6 / 8 + table * 2 + 60_000


def test_truncated_files_are_refused(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(LuternError, match="truncated or no image file"):
            read_image(tmp_path / "cut")
    with pytest.raises(LuternError, match="there is no image file"):
        read_image(tmp_path / "missing")
    with pytest.raises(LuternError, match="cannot be written"):
        write_image(tmp_path / "no" / "folder", read_image(path).weights, "", "")


def test_any_flipped_bit_is_refused(path: Path, tmp_path: Path) -> None:
    content, generator = path.read_bytes(), random.Random(5)
    header = int.from_bytes(content[:8], "little")
    places = [*range(8), *generator.choices(range(8, 8 + header), k=60)]
    places += generator.choices(range(8 + header, len(content)), k=12)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(LuternError) as error:
            read_image(tmp_path / "damaged")
        assert str(error.value).count("\n") == 0, f"byte {place}: {error.value}"


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def set_config(name: str, value: Any) -> Change:
    return lambda body, tensors: body["config"].__setitem__(name, value)


def set_matrix(name: str, value: Any) -> Change:
    return lambda body, tensors: body["matrices"][F_PROJ].__setitem__(name, value)


def set_body(name: str, value: Any) -> Change:
    return lambda body, tensors: body.__setitem__(name, value)


def set_conventions(name: str, value: Any) -> Change:
    return lambda body, tensors: body["conventions"].__setitem__(name, value)


def set_item(name: str, value: int) -> Change:
    return lambda body, tensors: tensors[name].flat.__setitem__(0, value)


def set_tensor(name: str, value: np.ndarray) -> Change:
    return lambda body, tensors: tensors.__setitem__(name, value)


def set_tokenizer(text: bytes) -> Change:
    """Replace the tokenizer by a deflated text and its digest. The text may be a decompression bomb."""

    def change(body: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        tensors["tokenizer.json"] = np.frombuffer(zlib.compress(text), np.uint8)
        body["text"] = hashlib.sha256(text).hexdigest()

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (set_body("format", "other"), "is no Lutern image"),
        (set_body("version", 1), "version 1, but this program reads versions 3 and 4; convert again"),
        (set_body("version", 2), "version 2, but this program reads versions 3 and 4; convert again"),
        (set_body("version", 5), "is an image of version 5, but this program reads versions 3 and 4"),
        (set_body("embedding_bits", "16"), "the metadata's embedding_bits is not as Lutern writes it"),
        (set_body("embedding_bits", 14), "embedding_bits holds a number that Lutern never writes"),
        (set_body("embedding_bits", 12), r"embeddings.weight is U16 \[256, 128\], but must be U8 \[256, 192\]"),
        (set_body("conventions", []), "the metadata's conventions is not as Lutern writes it"),
        (set_body("conventions", {}), "the metadata's conventions is not as Lutern writes it"),
        *(
            (set_conventions(name, value), "the metadata's conventions is not as Lutern writes it")
            for name, value in (
                ("bos", True),
                ("eos", 2),
                ("eos", [2.0]),
                ("stops", [1]),
                ("sampling", {"temperature": -1}),
                ("sampling", {"temperature": float("nan")}),
                ("sampling", {"heat": 1}),
                ("tokens", {"bos_token": 1}),
                ("tokens", {"other": "x"}),
                ("chat_template", None),
                ("unheeded", "x"),
            )
        ),
        (set_body("source", 3), "the metadata's source is not as Lutern writes it"),
        (set_body("matrices", []), "the metadata's matrices is not as Lutern writes it"),
        (set_body("digests", None), "the metadata's digests is not as Lutern writes it"),
        (set_body("h_frac_bits", 64), "h_frac_bits holds a number that Lutern never writes"),
        (set_body("h_frac_bits", True), "the metadata's h_frac_bits is not"),
        (set_body("vector_exponents", {}), "the metadata's model.layers.0.attn_norm is not"),
        (set_config("vocab_size", 1 << 17), "the config is not the one"),
        (set_config("hidden_size", 1 << 60), "hidden_size is"),
        (set_config("num_heads", 2), "num_heads is 2"),
        (set_matrix("k", [1, 0]), f"k of {F_PROJ} holds a number"),
        (set_matrix("k", [1 << 16, 0, 0]), f"k of {F_PROJ} holds a number"),
        (set_matrix("e1", [1 << 16, 2048]), "exponent holds a number"),
        (set_matrix("e2", None), f"e2 of {F_PROJ} holds a number"),
        (set_matrix("frac_bits", 1 << 70), "frac_bits holds a number"),
        (set_item(f"{F_PROJ}.weight", 0xC3), "byte 0 is 0xc3, which names no five trits"),
        # a mantissa that is not normalised; a mantissa of -2048; a mantissa of -1; a zero with an exponent
        *(
            (set_item(f"{F_PROJ}.norm.weight", item), "norm.weight holds a number that Lutern never writes")
            for item in (1, 0x03FF, 0x0800, 0x0FFF, 0x1000)
        ),
        *(
            (set_item("model.lower_bounds", item), "model.lower_bounds holds a number that Lutern never writes")
            for item in (1, 0x03FF, 0x0800, 0x0FFF, 0x1000, 0xF500)
        ),  # 0xF500 is 2.5 steps
        (set_item("model.embeddings.weight", 0x0800), "model.embeddings.weight holds a number"),
        (set_tensor("model.norm.weight", np.zeros(3, np.uint16)), r"model.norm.weight is U16 \[3\], but must be U16"),
        (set_tensor("model.norm.weight", np.zeros(128, np.int32)), r"norm.weight is I32 \[128\], but must be U16"),
        (set_tensor("tokenizer.json", np.zeros((), np.uint8)), r"tokenizer.json is U8 \[\], but must be U8"),
        (set_tensor("tokenizer.json", np.full(3, 255, np.uint8)), "the digest of tokenizer.json is wrong"),
        (set_tokenizer(b"\xff\xff"), "tokenizer.json is not UTF-8"),
        (set_tokenizer(bytes((1 << 26) + 1)), "the digest of tokenizer.json is wrong"),
        (set_body("calibrated", ["x"]), "calibrated holds"),
        (set_body("calibrated", [[]]), "calibrated holds"),
        (set_body("activations", []), "metadata's activations is not as Lutern writes it"),
        (set_body("activations", {}), "activations holds"),
        (set_body("activations", {"h": [1.0, 1.0]}), "activations holds"),
        *(
            (set_body("activations", dict.fromkeys(ACTIVATIONS, pair)), "activations holds")
            for pair in (1.0, [], [1.0], [1.0, 1], [1.0, True], [1.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0])
        ),
        (set_tensor("extra", np.zeros(3, np.int32)), "extra is in the file, but is no tensor of this model"),
        (lambda body, tensors: tensors.pop("lm_head.weight"), "lm_head.weight is missing"),
        (lambda body, tensors: tensors.pop("tokenizer.json"), "tokenizer.json is missing"),
    ],
)
def test_hostile_files_are_refused(path: Path, tmp_path: Path, change: Change, text: str) -> None:
    """Files are refused although their digests are correct, because an attacker can compute correct digests."""
    (tmp_path / "hostile").write_bytes(rewritten(path, change))
    with pytest.raises(LuternError, match=text):
        read_image(tmp_path / "hostile")


def rewritten(path: Path, change: Change) -> bytes:
    """Return the bytes of a changed file with correct digests."""
    with safe_open(str(path), framework="numpy") as file:
        body = json.loads(file.metadata()["lutern"])
        tensors = {name: file.get_tensor(name).copy() for name in file.keys()}
    body.pop("digest")
    change(body, tensors)
    if isinstance(body["digests"], dict):
        digests = {name: digest_of(tensor) for name, tensor in tensors.items() if name != TOKENIZER_NAME}
        body["digests"].update(digests | {TOKENIZER_NAME: body.pop("text", body["digests"][TOKENIZER_NAME])})
    return save(tensors, metadata={"lutern": seal(body)})


def test_images_of_version_3_are_read(path: Path, image: Image, tmp_path: Path) -> None:
    def older(body: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        body["version"] = 3
        del body["embedding_bits"]

    (tmp_path / "older").write_bytes(rewritten(path, older))
    assert_equal(read_image(tmp_path / "older").weights, image.weights, "weights")


@pytest.mark.parametrize("width", [32, 33])
def test_embeddings_of_12_bits(width: int, tmp_path: Path) -> None:
    """The table has three quarters of the bytes, reading returns the same weights, and each row is found at its
    place."""
    config = ModelConfig(vocab_size=21, hidden_size=width, num_hidden_layers=1, intermediate_size=48)
    weights = integer_weights(random_checkpoint(config, 8), embedding_bits=12)
    write_image(tmp_path / "narrow", weights, TOKENIZER, "x")
    opened = open_image(tmp_path / "narrow")
    assert opened.embedding_bits == 12
    assert_equal(opened.weights(), weights, "weights")
    assert opened.tensor("model.embeddings.weight").nbytes == 21 * -(-3 * width // 2)
    rows = opened.embedding_rows(np.array([20, 3]))
    assert np.array_equal(rows.codes, weights.embeddings.codes[[20, 3]])
    for value, place in ((0x80, 0), (0xF0, -1)):  # mantissa -128; the unused half of the last byte of an odd row
        if place < 0 and width % 2 == 0:
            continue
        change = set_tensor_byte("model.embeddings.weight", place, value)
        (tmp_path / "hostile").write_bytes(rewritten(tmp_path / "narrow", change))
        with pytest.raises(LuternError, match=r"model\.embeddings\.weight holds a number"):
            read_image(tmp_path / "hostile")


def set_tensor_byte(name: str, place: int, value: int) -> Change:
    return lambda body, tensors: tensors[name].reshape(-1).__setitem__(place, value)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    tensors = {"x": np.zeros(3, np.float32)}
    texts = ("", "[]", "[" * 100_000, "{" + " " * (1 << 22))
    for metadata in (None, {"format": "pt"}, *({"lutern": text} for text in texts)):
        (tmp_path / "foreign").write_bytes(save(tensors, metadata=metadata))
        with pytest.raises(LuternError, match="is no Lutern image"):
            read_image(tmp_path / "foreign")
    (tmp_path / "foreign").write_bytes(b"\xff" * 4096)
    with pytest.raises(LuternError, match="truncated or no image file"):
        read_image(tmp_path / "foreign")
