"""Scaffolds of the room's own networks, untrained: what is exact does not depend on what they have learned."""

import numpy as np
import pytest
import torch

from inkwash.systems.protein.contigs import find_motif, parse_contig
from inkwash.systems.protein.files import read_chains
from inkwash.systems.protein.model import BackboneModel
from inkwash.systems.protein.scaffold import METHODS, around_motif
from tests.systems.protein import made

CONFIG = {"shortest": 10, "max_length": 60, "steps": 4, "sampler": ["ancestral", {}], "noise_scale": 1.0}
NETWORKS = {
    "frames": {
        "atoms": 3,
        "errors": [[0.01, 0.8], [1.0, 0.2]],
        "network": {"width": 16, "pair": 8, "heads": 2, "layers": [1, 1]},
    },
    "protdiff": {"atoms": 1, "errors": [[1.0, 0.0]], "network": {"width": 8, "layers": 1}},
}


def untrained(engine):
    torch.manual_seed(0)
    model = BackboneModel.build({"engine": engine, **CONFIG, **NETWORKS[engine]})
    model.network.eval()
    return model


@pytest.fixture
def motif(tmp_path):
    path = made.save(tmp_path / "helix.pdb", made.lines(12))
    return find_motif(parse_contig("2-4/A8-10/3/A2-3/4"), read_chains(path), path.name)


@pytest.mark.parametrize("engine", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_the_motif_is_the_files_and_a_seed_is_a_scaffold(motif, engine, method):
    model = untrained(engine)
    built = [around_motif(model, motif, (15, 15), seed, method=method, count=4, steps=4) for seed in (1, 1, 2)]
    atoms = slice(None) if model.config["atoms"] == 3 else slice(1, 2)
    for one in built:
        assert one.coordinates.shape == (15, model.config["atoms"], 3)
        assert np.array_equal(one.coordinates[one.indices], motif.coordinates[:, atoms])
        assert one.contig == "3/A8-10/3/A2-3/4"
        assert np.isfinite(one.coordinates).all()
    assert np.array_equal(built[0].coordinates, built[1].coordinates)
    assert not np.allclose(built[0].coordinates, built[2].coordinates, atol=0.1)
