"""Where a training computes."""

import pytest
import torch
from torch import Tensor

from inkwash.training.placement import prefetch


@pytest.mark.parametrize("device, asynchronous", [("cuda", True), ("mps", False)])
def test_a_batch_is_copied_asynchronously_only_where_its_source_is_kept(monkeypatch, device, asynchronous):
    """Of mps it is not: the memory of a batch is another's before the copy is done (pytorch's issue 189690)."""
    asked = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(
        Tensor, "to", lambda tensor, device, non_blocking=False: asked.append((device.type, non_blocking))
    )
    list(prefetch(lambda k: {"rows": torch.arange(k)}, range(4), torch.device(device)))
    assert asked == [(device, asynchronous)] * 4
