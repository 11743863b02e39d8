import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkwash.training.data import batches


@given(n=st.integers(1, 50), size=st.integers(1, 120), seed=st.integers(0, 9))
def test_the_stream_of_batches_is_one_permutation_after_another(n, size, seed):
    batch = batches(n, size, seed)
    stream = np.concatenate([batch(step) for step in range(-(-3 * n // size))])[: 3 * n]
    epochs = stream.reshape(3, n)
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()


@given(step=st.integers(0, 10**6), size=st.integers(1, 40), parts=st.sampled_from([2, 4]))
def test_a_batch_depends_on_its_step_alone_and_splits_into_smaller_ones(step, size, parts):
    whole = batches(23, size * parts, 5)(step)
    small = batches(23, size, 5)  # never asked for the steps before
    assert (np.concatenate([small(step * parts + i) for i in range(parts)]) == whole).all()


def test_epochs_and_seeds_differ():
    first = [batches(100, 100, seed)(step).tolist() for seed in (0, 1) for step in (0, 1)]
    assert len(set(map(tuple, first))) == 4


@pytest.mark.parametrize("n, size", [(0, 4), (4, 0)])
def test_nothing_to_choose_from_is_an_error(n, size):
    with pytest.raises(ValueError, match="n >= 1 and batch_size >= 1"):
        batches(n, size)
