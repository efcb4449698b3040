"""Which rows are trained on, in which order, and which are held out."""

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder

from xpnet.data.batches import hold_out, make_slices, one_hot, shuffle
from xpnet.errors import InputError


@pytest.mark.parametrize(("n", "size"), [(10, 3), (9, 3), (1, 1), (2, 5)])
def test_slices_cover_each_row_once(n, size):
    parts = [np.arange(n)[part] for part in make_slices(n, size)]
    assert np.concatenate(parts).tolist() == list(range(n))
    assert all(len(part) == size for part in parts[:-1])
    assert 1 <= len(parts[-1]) <= size


def test_a_shuffle_is_a_permutation_that_seed_and_epoch_alone_decide():
    orders = {(seed, epoch): shuffle(50, epoch, seed=seed) for seed in range(3) for epoch in range(3)}
    for (seed, epoch), order in orders.items():
        assert sorted(order) == list(range(50))
        assert shuffle(50, epoch, seed=seed).tolist() == order.tolist()
    assert len({tuple(order) for order in orders.values()}) == 9


def test_a_seed_means_the_same_rows_for_good():
    # A resumed run draws its shuffles and its hold-out again: another stream would mix up its rows, silently.
    assert shuffle(12, 0, seed=0).tolist() == [0, 7, 1, 11, 3, 10, 4, 6, 9, 8, 2, 5]
    assert shuffle(12, 1, seed=0).tolist() == [10, 2, 1, 0, 5, 7, 6, 8, 4, 3, 9, 11]
    assert shuffle(12, 0, seed=7).tolist() == [7, 10, 6, 11, 0, 8, 9, 1, 3, 4, 2, 5]
    assert shuffle(12, 0).tolist() == shuffle(12, 0, seed=0).tolist()
    labels, numbers = np.repeat([0, 1, 2], [10, 6, 4]), np.zeros((20, 1))
    assert hold_out(labels, 0.25, seed=0)[1].tolist() == [1, 6, 9, 12, 19]
    assert hold_out(labels, 0.25, seed=7)[1].tolist() == [2, 4, 7, 14, 16]
    assert hold_out(numbers, 0.25, seed=0)[1].tolist() == [1, 9, 12, 17, 19]
    assert hold_out(numbers, 0.25, seed=7)[1].tolist() == [1, 2, 4, 7, 14]


CLASS_SIZES = [
    [178, 182, 177, 183, 181, 182, 181, 179, 174, 180],  # digits
    [100, 3, 2, 2, 1],
    [100] + [2] * 20,
    [1000, 10],
    [5] * 4,
    [7],
    [1] * 6,
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.77])
@pytest.mark.parametrize("sizes", CLASS_SIZES, ids=str)
def test_each_class_is_held_out_in_its_share(sizes, fraction, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept, held = hold_out(y, fraction, seed=seed)
    assert sorted([*kept, *held]) == list(range(len(y)))
    assert len(held) == max(1, round(fraction * len(y)))
    share = np.bincount(y[held], minlength=len(sizes)) - fraction * np.array(sizes)
    assert np.abs(share).max() < 1.0


def test_a_hold_out_depends_on_the_seed_alone_and_is_in_order():
    y = np.arange(60) % 3
    kept, held = hold_out(y, 0.25, seed=1)
    again = hold_out(y, 0.25, seed=1)
    assert [part.tolist() for part in again] == [kept.tolist(), held.tolist()]
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    assert hold_out(y, 0.25, seed=2)[1].tolist() != held.tolist()
    # Drawn at random, not cut from an end.
    assert held.min() < 15
    assert held.max() >= 45


def test_a_class_of_one_row_stays_where_it_can_be_learnt():
    y = np.array([0] * 24 + [1])
    for seed in range(5):
        assert 24 in hold_out(y, 0.3, seed=seed)[0]


def test_a_class_of_two_rows_gives_one_where_that_is_its_share():
    y = np.repeat([0, 1], [20, 2])  # of which 30 % are 6 and 0.6
    for seed in range(5):
        assert np.bincount(y[hold_out(y, 0.3, seed=seed)[1]]).tolist() == [6, 1]


def test_numbers_are_held_out_as_they_come():
    kept, held = hold_out(np.random.default_rng(0).standard_normal((40, 2)), 0.25, seed=0)
    assert (len(kept), len(held)) == (30, 10)
    assert sorted([*kept, *held]) == list(range(40))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_must_leave_rows_on_both_sides(fraction):
    with pytest.raises(InputError, match="validation: expected a fraction above 0 and below 1, got"):
        hold_out(np.zeros(10, dtype=int), fraction, seed=0)


def test_something_must_be_left_to_train_on():
    with pytest.raises(InputError, match=r"validation: a fraction of 0.9 leaves no row of 2"):
        hold_out(np.array([0, 1]), 0.9, seed=0)


def test_one_hot_is_that_of_scikit_learn():
    y = np.array([2, 0, 1, 2])
    expected = OneHotEncoder(categories=[range(4)], sparse_output=False).fit_transform(y[:, np.newaxis])
    assert one_hot(y, 4).tolist() == expected.tolist()
    assert one_hot(y, 4).dtype == np.float64


def test_one_output_keeps_the_label_as_a_number():
    assert one_hot(np.array([1, 0, 1]), 1).tolist() == [[1.0], [0.0], [1.0]]
