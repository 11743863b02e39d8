"""A small model, untrained or trained in seconds, and a context without a command line."""

import torch

from inkwash.cli.context import Local
from inkwash.systems.base import Note
from inkwash.systems.segmentation.model import SegmentationModel
from inkwash.systems.segmentation.networks import Members

NETWORK = {"channels": 2, "widths": [8, 8], "layers": 1, "blocks": 1, "growth": 4, "condition": "sum"}


def facts(**changes):
    found = {
        "engine": "segdiff", "classes": ["cell"], "distance": True, "parting": "distance",
        "parametrization": "v", "schedule": "cosine",
        "size": 32, "scale": 1.0, "radius": 4.5, "smallest": 5.0, "steps": 3, "samples": 3, "sampler": "ddim",
        "temperature": 1.0, "counts": None, "train": [], "choices": {}, "members": 1, "network": NETWORK,
    }  # fmt: skip
    return found | changes


def model(seed=0, **changes):
    """With random weights, also where training begins with zeros."""
    torch.manual_seed(seed)
    made = facts(**changes)
    channels = len(made["classes"]) + made["distance"]
    made |= {
        "network": made["network"] | {"channels": channels},
        "parting": "distance" if made["distance"] else "mask",
    }
    network = Members(made["network"], made["members"]).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return SegmentationModel(network, made)


class Notes(Local):
    """With a model by the name "toy"."""

    def __init__(self, folder, **models):
        super().__init__(folder)
        self.models, self.notes = models, []

    def tell(self, event):
        if isinstance(event, Note):
            self.notes.append(event.text)
