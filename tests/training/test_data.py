import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inkwash.training import data
from inkwash.training.data import batches, whole_batches


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


def test_whole_batches_are_of_one_size():
    rows = np.arange(10, 17)
    assert [part.tolist() for part in whole_batches(rows, 3)] == [[10, 11, 12], [13, 14, 15]]
    assert [part.tolist() for part in whole_batches(rows, 9)] == [rows.tolist()]
    assert whole_batches(rows[:0], 3) == []


@pytest.mark.parametrize("fixed", [False, True])
def test_rows_of_different_lengths_are_found_in_their_table(fixed, monkeypatch):
    monkeypatch.setattr(data, "fixed_shapes", lambda device: fixed)
    rows = [[5, 6], [7], [8, 9, 10, 11], [12, 13, 14]]
    table = torch.tensor([number for row in rows for number in row])
    ragged = data.Ragged(np.array([len(row) for row in rows]), torch.device("cpu"))
    chosen = [3, 1, 3]
    index, mask = ragged(torch.tensor(chosen))
    assert index.shape == mask.shape == (3, 4 if fixed else 3)
    assert [table[i][m].tolist() for i, m in zip(index, mask, strict=True)] == [rows[i] for i in chosen]
    assert not index[~mask].any()
