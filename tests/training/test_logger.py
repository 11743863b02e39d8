"""What a training says of itself."""

import sys

from inkwash.training.logger import Logger
from tests.follower import Follower


def test_that_there_is_no_tensorboard_is_said_once_in_a_run_of_many_trainings(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for follower in (Follower(), Follower()):
        for number in range(3):
            (folder := tmp_path / str(number)).mkdir(exist_ok=True)
            with Logger(folder, 0, 1, 1, 0, follower):
                pass
        (note,) = follower.heard
        assert note.text.startswith("no TensorBoard log")
