"""The sampler: its generator, its table, and the distribution of its tokens, calculated exactly and by drawing."""

import hashlib
from math import exp, expm1

import numpy as np
import pytest

from lutern.model_ref import head, sampling
from lutern.model_ref.fixed import S32_MAX
from lutern.model_ref.sampling import Gumbel

ONE = 1 << sampling.SCORE_FRAC_BITS
LARGEST_DISTANCE = 3e-4
CHI_SQUARE_SIGMAS = 4.0


# ---------------------------------------------------------------------------------- generator


def xorshift(word: int) -> int:
    word ^= word << 13 & 0xFFFFFFFF
    word ^= word >> 17
    return word ^ word << 5 & 0xFFFFFFFF


def test_the_generator_is_xorshift32() -> None:
    word, words = 0x12345678, []
    for _ in range(300):
        words.append(word)
        word = xorshift(word)
    assert sampling.draws(np.array([0x12345678], dtype=np.uint32), 300)[0].tolist() == words
    assert xorshift(1) == 270369  # the first value in Marsaglia's paper


def test_the_period_is_all_words_but_zero() -> None:
    """M^(2^32 - 1) is the identity, and no M^((2^32 - 1) / p) is the identity."""
    assert (sampling.power((1 << 32) - 1) == sampling.power(0)).all()
    for prime in (3, 5, 17, 257, 65537):
        assert (sampling.power(((1 << 32) - 1) // prime) != sampling.power(0)).any()


def test_a_jump_is_65536_draws() -> None:
    word = 77
    for _ in range(65536):
        word = xorshift(word)
    assert Gumbel(77).base.tolist() == [word]


def test_seed_zero_stands_for_another() -> None:
    assert Gumbel([0, 5]).base.tolist() == Gumbel([sampling.SEED_OF_ZERO, 5]).base.tolist()


# ---------------------------------------------------------------------------------- choice


def test_streams_do_not_touch_one_another_and_a_seed_repeats() -> None:
    draw = np.random.default_rng(1)
    sums, scores = draw.integers(-9, 9, (20, 3, 40)), draw.integers(-ONE, ONE, (20, 3, 40))
    together, alone = Gumbel([4, 5, 6]), [Gumbel(4), Gumbel(5), Gumbel(6)]
    for step in range(20):
        tokens = together.choose(sums[step], scores[step], ONE)
        for stream in range(3):
            one = alone[stream].choose(sums[step, stream : stream + 1], scores[step, stream : stream + 1], ONE)
            assert tokens[stream] == one[0]


def test_temperature_zero_is_argmax_of_the_sums_and_draws_nothing() -> None:
    draw = np.random.default_rng(2)
    sums, scores = draw.integers(-9, 9, (5, 40)), draw.integers(-ONE, ONE, (5, 40))
    generator, other = Gumbel(range(5)), Gumbel(range(5))
    assert (generator.choose(sums, scores, 0) == head.argmax(sums)).all()
    assert (generator.base == other.base).all()
    other.choose(sums, scores, 1)
    assert (generator.base != other.base).all()


def test_the_choice_is_the_first_largest_of_score_and_noise() -> None:
    """The choice agrees with the definition, which is calculated for one logit at a time."""
    draw = np.random.default_rng(3)
    for temperature in (1, 700, ONE, (1 << 16) - 1):
        scores = np.rint(draw.normal(size=30) * 3 * temperature / 4).astype(np.int64) // 64 * 64
        word, keys = int(Gumbel(temperature).base[0]), []
        for score in scores.tolist():
            zeros = 21 - (word >> 11).bit_length()
            variate = int(sampling.TABLE[32 * zeros + (word >> 6) % 32]) + word % 64
            keys.append(score + (variate * temperature + 2048 >> 12))
            word = xorshift(word)
        assert Gumbel(temperature).choose(scores[None], scores[None], temperature)[0] == keys.index(max(keys))


@pytest.mark.parametrize("temperature", [-1, 1 << 16])
def test_a_temperature_that_does_not_fit_is_refused(temperature: int) -> None:
    with pytest.raises(ValueError, match="temperature is"):
        Gumbel(1).choose(np.zeros((1, 2), dtype=np.int64), np.zeros((1, 2), dtype=np.int64), temperature)


def test_scores_are_logits_in_fixed_point() -> None:
    sums = np.array([[1000, -3, 0], [127 * 8192, -127 * 8192, 5]])
    scale = np.array([100_000, 131_071]), np.array([-26, -8])
    wanted = sums * np.ldexp(scale[0], scale[1])[:, None] * ONE
    got = sampling.scores(sums, 0, scale)
    assert np.abs(got[0] - wanted[0]).max() <= 0.5
    assert got[1, :2].tolist() == [S32_MAX, -S32_MAX]


# ---------------------------------------------------------------------------------- distribution


def probabilities() -> tuple[int, np.ndarray]:
    """Return the smallest variate, and the probabilities of this and all larger variates for uniform words."""
    widths = np.array([width for _, width in sampling.cells()])
    assert widths.sum() == 1.0
    dither = 1 << sampling.DITHER_BITS
    variates = (sampling.TABLE[:, None] + np.arange(dither)).reshape(-1)
    return int(variates.min()), np.bincount(variates - variates.min(), np.repeat(widths / dither, dither))


def token_probabilities(scores: np.ndarray, temperature: int) -> np.ndarray:
    """Return the exact probability of each token. If its key is x, earlier keys are below x and later keys at most
    x."""
    lowest, masses = probabilities()
    noise = sampling.rsh((lowest + np.arange(len(masses))) * temperature, sampling.NOISE_SHIFT)
    masses = np.bincount(noise - noise[0], masses)
    offsets = scores - scores.min()
    at = np.zeros((len(scores), len(masses) + int(offsets.max())))
    for row, offset in zip(at, offsets, strict=True):
        row[offset : offset + len(masses)] = masses
    not_above = np.cumsum(at, axis=1)
    before = np.cumprod(not_above - at, axis=0)
    behind = np.cumprod(not_above[::-1], axis=0)[::-1]
    at[1:] *= before[:-1]
    at[:-1] *= behind[1:]
    return at.sum(axis=1)


def softmax(scores: np.ndarray, temperature: int) -> np.ndarray:
    weights = np.exp((scores - scores.max()) / temperature)
    return weights / weights.sum()


def distributions() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(4)

    def normal(size: int, spread: float) -> np.ndarray:
        return np.rint(draw.normal(size=size) * spread * ONE).astype(np.int64)

    def logits(*values: float) -> np.ndarray:
        return np.rint(np.array(values) * ONE).astype(np.int64)

    return {
        "two equal": logits(0, 0),
        "two": logits(0, 0.3),
        "falling": logits(1, 0),
        "rare": logits(0, 6),
        "eight equal": logits(*[0] * 8),
        "all equal": logits(*[0] * 100),
        "one of many": logits(4, *[0] * 60),
        "flat": normal(60, 1),
        "sharp": normal(38, 3),
    }


@pytest.mark.parametrize("temperature", [ONE, ONE // 2, 2 * ONE])
@pytest.mark.parametrize("name", list(distributions()))
def test_total_variation_from_softmax(name: str, temperature: int) -> None:
    scores = distributions()[name]
    got = token_probabilities(scores, temperature)
    assert abs(got.sum() - 1) < 1e-9
    distance = np.abs(got - softmax(scores, temperature)).sum() / 2
    assert distance < LARGEST_DISTANCE, f"{name}: {distance:.6f}"


def chi_square(name: str, temperature: int, streams: int, steps: int) -> float:
    """Return by how many sigmas the chi-square of the drawn tokens exceeds its mean. Tokens that are expected fewer
    than 10 times form one class."""
    scores = distributions()[name]
    generator = Gumbel(np.random.default_rng(5).integers(0, 1 << 32, streams))
    rows = np.repeat(scores[None], streams, axis=0)
    tokens = np.concatenate([generator.choose(rows, rows, temperature) for _ in range(steps)])
    expected = softmax(scores, temperature) * len(tokens)
    counts = np.bincount(tokens, minlength=len(scores))
    rare = expected < 10
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5)


@pytest.mark.parametrize("temperature", [ONE, 2 * ONE])
@pytest.mark.parametrize("name", ["two equal", "two", "eight equal", "all equal", "flat", "sharp"])
@pytest.mark.parametrize(("streams", "steps"), [(500, 40), (2, 5000)])
def test_tokens_that_are_drawn(name: str, temperature: int, streams: int, steps: int) -> None:
    """Tokens are drawn in many short streams and in a few long ones. The limit is 4 sigmas, because the chi-square of a
    few classes has a long upper tail."""
    assert chi_square(name, temperature, streams, steps) < CHI_SQUARE_SIGMAS


@pytest.mark.parametrize("seeds", ["stream_seeds", "of neighbours"])
def test_pairs_of_tokens_are_independent(seeds: str) -> None:
    """With 8 classes, a token is independent of the next token in its stream and of the token in the same position of
    the next stream."""
    scores = np.zeros((2000, 8), dtype=np.int64)
    if seeds == "stream_seeds":
        generator = Gumbel(sampling.stream_seeds(7, 2000))
    else:
        generator = Gumbel([sampling.stream_seeds(seed, 1)[0] for seed in range(2000)])
    tokens = np.stack([generator.choose(scores, scores, ONE) for _ in range(20)])
    for first, second in ((tokens[:-1], tokens[1:]), (tokens[:, :-1], tokens[:, 1:])):
        counts = np.bincount((8 * first + second).reshape(-1), minlength=64)
        expected = counts.sum() / 64
        assert ((counts - expected) ** 2 / expected).sum() < 63 + CHI_SQUARE_SIGMAS * 126**0.5


def test_stream_seeds_differ() -> None:
    assert len(set(sampling.stream_seeds(0, 4096).tolist())) == 4096


# ---------------------------------------------------------------------------------- constants


def test_table_is_the_variate_of_its_cell() -> None:
    """Each entry belongs to a u inside its cell. Every bitstream must have the table of this digest, because the table
    decides which tokens a seed gives."""
    cells = sampling.cells()
    assert len(cells) == len(sampling.TABLE) == 704
    for (low, width), entry in zip(cells, sampling.TABLE.tolist(), strict=True):
        assert low < -expm1(-exp(-(entry + 31.5) / ONE)) < low + width
    assert hashlib.sha256(sampling.TABLE.astype("<i4").tobytes()).hexdigest()[:16] == "3b87ac5d93d4715b"


@pytest.mark.parametrize("first", [0, 32, 96])
def test_an_octave_that_is_wrong_shows_in_the_distance(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = sampling.TABLE.copy()
    table[first : first + 32] += ONE // 4
    monkeypatch.setattr(sampling, "TABLE", table)
    with pytest.raises(AssertionError, match=r"two: 0\.0"):
        test_total_variation_from_softmax("two", ONE)


@pytest.mark.parametrize("shifts", [(13, -17), (1, -1, 1)])
def test_a_weak_generator_shows_in_chi_square(shifts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SHIFTS", shifts)
    try:
        sampling.power.cache_clear()
        sampling._byte_tables.cache_clear()
        assert chi_square("all equal", ONE, 2, 5000) > CHI_SQUARE_SIGMAS
    finally:
        sampling.power.cache_clear()
        sampling._byte_tables.cache_clear()
