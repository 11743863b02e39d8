"""What a model costs is said before it is loaded, and grows as the work does."""

import json

import pytest

from inkwash.systems.base import File, Limit
from inkwash.systems.protein.limits import GRADIENTS, limits, plan
from inkwash.systems.protein.request import Sample, Scaffold

MOTIF = File("0" * 64, "motif.pdb")


@pytest.fixture
def folder(tmp_path):
    facts = {"engine": "frames", "max_length": 100, "steps": 80, "network": {"width": 64}}
    (tmp_path / "system.json").write_text(json.dumps({"system": "protein"} | facts))
    return tmp_path


def seconds(folder, request, **options):
    return plan(request, folder, "cpu", options.get("threads", 1)).seconds


def scaffold(**options):
    return Scaffold(motif=MOTIF, contig="5/A1-9/5", **options)


def test_the_time_is_that_of_the_pairs_of_residues(folder, monkeypatch):
    monkeypatch.setattr("inkwash.systems.plans.speed", lambda: 1e11)
    one = seconds(folder, scaffold(length="64"))
    assert one == pytest.approx(64 * 100 * 55_000 * 64**2 / 0.4e11)
    assert seconds(folder, scaffold(length="60-68", n=20)) == pytest.approx(20 * one)
    assert seconds(folder, scaffold(length="64", steps=200, particles=128)) == pytest.approx(4 * one)
    assert seconds(folder, scaffold(length="64", method="tds")) == pytest.approx(GRADIENTS * one)
    assert seconds(folder, scaffold(length="64", method="fixed")) == pytest.approx(one / 64)
    assert seconds(folder, scaffold()) == pytest.approx(one * (100 / 64) ** 2)  # the longest there are
    assert seconds(folder, scaffold(length="64"), threads=2) == pytest.approx(one / 2)
    assert seconds(folder, Sample(length="64", n=10)) == pytest.approx(one * 10 * 80 / 6400)


def test_the_defaults_are_the_models(folder):
    assert limits(folder) == {"steps": Limit(default=80)}
