"""The largest logits and their order."""

import numpy as np

from lutern.model_ref import head


def test_top_k_is_in_order_of_value_then_index() -> None:
    sums = np.array([[3, 9, 3, -1, 9, 3, 0], [0, 0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]])
    tokens, best = head.top_k(sums, 4)
    assert tokens.tolist() == [[1, 4, 0, 2], [0, 1, 2, 3], [6, 5, 4, 3]]
    assert best.tolist() == [[9, 9, 3, 3], [0, 0, 0, 0], [7, 6, 5, 4]]


def test_top_k_beyond_the_vocabulary_is_all() -> None:
    tokens, best = head.top_k(np.array([4, 7, 4]), 8)
    assert tokens.tolist() == [1, 0, 2]
    assert best.tolist() == [7, 4, 4]


def test_the_first_of_top_k_is_argmax() -> None:
    sums = np.random.default_rng(3).integers(-5, 6, (200, 30))
    assert (head.top_k(sums, 1)[0][:, 0] == head.argmax(sums)).all()
