"""Graphs of networks, and with how many threads they are run."""

import pytest

from inkwash.errors import UserError
from inkwash.weights.graph import default_threads


@pytest.mark.parametrize(("said", "threads"), [(None, 1), ("", 1), ("4", 4), ("4,2", 4)])
def test_the_environment_says_how_many_threads_where_nothing_else_does(said, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert default_threads() == threads


@pytest.mark.parametrize("said", ["abc", "0", "-1", "1.5", ",2"])
def test_an_environment_that_says_no_number_is_a_mistake_of_the_users(said, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    with pytest.raises(UserError, match=r"OMP_NUM_THREADS=.*: a whole number from 1 is needed"):
        default_threads()
