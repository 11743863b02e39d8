"""The table of crystals: by a model whose crystals are known, metals, and a potential that knows them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inkwash import extras
from inkwash.errors import UserError
from inkwash.systems.crystals import optimise
from inkwash.systems.crystals.data import Crystal, split, to_structure
from inkwash.systems.crystals.evaluate import OURS, evaluate
from inkwash.systems.crystals.files import read_crystals
from inkwash.systems.crystals.measures import Work, beside_data, distributions, share, wasserstein
from inkwash.systems.crystals.prediction import optimisation, reconstructions, structure_predictions
from inkwash.systems.crystals.relaxation import ElementReference, Judge, Relaxed
from inkwash.systems.report import Report

pytest.importorskip("pymatgen")
SYMBOLS = ["Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"]
NUMBERS = [13, 28, 29, 46, 47, 78, 79]
MU = ElementReference(np.array(NUMBERS), np.array([1.0, 2.0, 3.0, -1.0, 0.5, 0.0, -2.0]))


def alloy(a: int, b: int, length: float = 2.95) -> Crystal:
    return Crystal(length * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([a, b]))


class Emt:
    """EMT, whose energy less `MU` is a crystal's property "heat"."""

    def __new__(cls) -> Any:
        from ase.calculators.emt import EMT

        return EMT()


def heat(crystal: Crystal) -> float:
    from inkwash.systems.crystals.relaxation import energies

    return float(MU.formation([crystal], energies([crystal], Judge(Emt())))[0])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """42 alloys of seven metals, one for each ordered pair, with their "heat"."""
    file = tmp_path_factory.mktemp("crystals") / "alloys.csv"
    with file.open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["material_id", "cif", "heat"])
        pairs = [(a, b) for a in NUMBERS for b in NUMBERS if a != b]
        for i, (a, b) in enumerate(pairs):
            crystal = alloy(a, b, 2.9 + 0.002 * i)
            rows.writerow([i, to_structure(crystal).to(fmt="cif"), heat(crystal)])
    return file


class Copies:
    """A model that has learned crystals by heart, and answers formulas on their sites."""

    config = {"engine": "copies"}  # noqa: RUF012
    elements = SYMBOLS
    counts = {2: 1}  # noqa: RUF012
    folder = None

    def __init__(self, crystals: list[Crystal]) -> None:
        self.crystals = crystals
        self.requests: list[dict[str, Any]] = []

    def generate(self, n: int, seed: int, **wanted: Any) -> list[Crystal]:
        self.requests.append(wanted)
        pool = self.crystals
        if name := wanted.get("minimise"):
            pool = sorted(pool, key=lambda crystal: crystal.properties[name])[:2]
        if formula := wanted.get("formula"):
            from pymatgen.core import Composition

            wanted_atoms = Composition(formula)
            pool = [each for each in pool if to_structure(each).composition == wanted_atoms] or pool
        return [pool[(seed + i) % len(pool)] for i in range(n)]


def values(report: Report, source: str) -> dict[str, float]:
    return {each["metric"]: each["value"] for each in report.rows if each.get("source") == source}


def test_copies_of_the_training_data(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("smact")
    training, _, held_out = split(read_crystals(table))
    model = Copies(training)
    calls: list[float] = []

    def progress(done: int, total: int) -> None:
        calls.append(done / total)

    report = evaluate(
        model, table, 6, relax=2, seed=5, steps=7, predict=3, minimise="heat", judge=Emt(), cache=tmp_path,
        progress=progress,
    )  # fmt: skip
    ours, real = values(report, OURS), values(report, "held-out crystals")
    assert ours["structure valid"] == ours["composition valid"] == real["structure valid"] == 1
    assert ours["novel"] == 0 and ours["unique"] > 0.4
    assert real["novel"] == pytest.approx(np.mean([not any(same_pair(c, t) for t in training) for c in held_out[:6]]))
    assert ours["space group above 25"] == 1
    assert ours["converged"] == 1 and ours["RMSD, A"] == pytest.approx(0, abs=1e-6)  # by symmetry
    assert all(wanted["steps"] == 7 for wanted in model.requests)
    assert {"generating", "relaxing", "structure prediction", "minimising"} <= report.cpu_seconds.keys()
    assert calls == sorted(calls) and calls[-1] <= 1
    assert Report.load(report.save(tmp_path / "report.json")).markdown() == report.markdown()


def same_pair(a: Crystal, b: Crystal) -> bool:
    return sorted(a.numbers) == sorted(b.numbers)


def test_relaxing_is_asked_for(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "matminer" else object())
    report = evaluate(Copies(split(read_crystals(table))[0]), table, 5)
    assert "converged" not in values(report, OURS) and "match" not in values(report, OURS)
    assert "nobody" in report.title


def test_what_is_not_installed_is_left_out_and_said(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in ("matminer", "chgnet") else object())
    report = evaluate(Copies(split(read_crystals(table))[0]), table, 5, relax=2)
    ours = values(report, OURS)
    assert "COV-R" not in ours and "converged" not in ours and "Wasserstein density" in ours
    assert "needs matminer" in report.title and "needs chgnet" in report.title


def test_a_file_of_its_own_can_be_held_out(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "matminer" else object())
    other = tmp_path / "cu.cif"
    to_structure(alloy(29, 29, 2.8)).to(filename=str(other))
    report = evaluate(Copies(split(read_crystals(table))[0]), table, 5, test=other)
    assert values(report, "held-out crystals")["novel"] == 1
    assert report.data["split"] == "cu.cif"


@pytest.mark.parametrize("how", [{"minimise": "gap"}, {"minimise": "heat "}])
def test_a_property_that_the_data_lack(table: Path, how: dict[str, str]) -> None:
    with pytest.raises(UserError, match="no 20 values"):
        evaluate(Copies([]), table, 5, judge=Emt(), **how)


def test_too_few_crystals(tmp_path: Path) -> None:
    file = tmp_path / "one.cif"
    to_structure(alloy(29, 79)).to(filename=str(file))
    with pytest.raises(UserError, match="1 crystals"):
        evaluate(Copies([]), file)


def work(judge: Judge | None = None) -> Work:
    return Work(None, judge, None, 1)


def nothing(*_: Any) -> None:
    pass


def test_wasserstein_of_a_shift() -> None:
    found = wasserstein("x", np.arange(50.0) + 3, np.arange(50.0), source="a")
    assert found["value"] == pytest.approx(3) and found["low"] < 3 < found["high"] and found["n"] == 50
    assert wasserstein("x", np.array([]), np.arange(3.0))["value"] is None


def test_a_share_of_nothing_is_no_number() -> None:
    assert share("x", [], source="a") == {
        "source": "a",
        "metric": "x",
        "value": None,
        "low": None,
        "high": None,
        "n": 0,
    }


def test_the_same_set_is_at_no_distance_and_covers_itself() -> None:
    pytest.importorskip("matminer")
    crystals = [alloy(a, b) for a, b in [(13, 28), (29, 46), (47, 79)]]
    collapsed = alloy(13, 28)._replace(coordinates=np.zeros((2, 3)))
    rows = distributions({"a": [*crystals[::-1], collapsed]}, crystals, crystals, work(), nothing)
    found = {each["metric"]: each["value"] for each in rows}
    assert found["Wasserstein density"] == found["Wasserstein elements"] == 0
    assert found["COV-R"] == found["COV-R of structures"] == found["COV-R of compositions"] == 1
    assert found["COV-P"] == found["COV-P of structures"] == found["COV-P of compositions"] == 0.75


def relaxed(crystal: Crystal, energy: float) -> Relaxed:
    return Relaxed(crystal, energy, 0.0, 0.0, 0.0, 0.0, 1, True)


def test_energies_are_set_beside_the_data_of_the_same_composition() -> None:
    """Of AlNi there are two in the data, and the lower counts; of CuAu there is none."""
    from inkwash.systems.crystals.relaxation import relax

    judge = Judge(Emt())
    training = [
        alloy(13, 28),
        alloy(13, 28, 3.1)._replace(coordinates=np.array([[0, 0, 0], [0.5, 0.5, 0]])),
        alloy(13, 46),
    ]
    known = [relax(crystal, judge) for crystal in training[:2]]
    lowest = min(each.energy for each in known if each is not None)
    some = [relaxed(alloy(28, 13), lowest + 0.3), relaxed(alloy(29, 79), -9.0)]
    rows = {each["metric"]: each for each in beside_data({"a": some}, training, 10, work(judge))}
    assert rows["above the data's lowest, eV/atom"]["value"] == pytest.approx(0.3)
    assert rows["above the data's lowest, eV/atom"]["n"] == 1


def test_predictions_are_matched_with_their_own_reference(table: Path) -> None:
    """A model that knows the first and the third reference by heart, and has another cell for the second."""
    references = [alloy(13, 28), alloy(29, 46), alloy(47, 79)]
    layered = Crystal(np.diag([2.5, 2.5, 9.0]), np.array([[0, 0, 0], [0, 0, 0.35]]), np.array([29, 46]))
    model = Copies([references[0], layered, references[2]])
    rows = structure_predictions(model, references, references, 3, 0, None, nothing)
    ours = {each["metric"]: each for each in rows if each["source"] == "this model"}
    assert ours["match"]["value"] == pytest.approx(2 / 3) and ours["match"]["n"] == 3
    assert ours["RMSE"]["value"] == pytest.approx(0, abs=1e-6) and ours["RMSE"]["n"] == 2
    assert ours["METRe"]["value"] == 1 and ours["METRe"]["n"] == 1  # of the first, a tenth of them
    assert [wanted["formula"] for wanted in model.requests] == ["Al1Ni1", "Cu1Pd1", "Ag1Au1"]
    assert all(wanted["atoms"] == 2 for wanted in model.requests)


def test_crystals_come_back_from_their_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a model of the engine cdvae has codes; of a crystal that it does not know it is not asked."""
    crystals = [alloy(13, 28), alloy(29, 2), alloy(29, 46), alloy(47, 79)]
    layered = Crystal(np.diag([2.5, 2.5, 9.0]), np.array([[0, 0, 0], [0, 0, 0.35]]), np.array([29, 46]))
    monkeypatch.setattr(optimise, "reconstruct", lambda _, some, seed: [some[0], layered, *some[2:]])
    model = Copies([])
    assert reconstructions(model, crystals, 3, 0) == []
    monkeypatch.setattr(Copies, "config", {"engine": "cdvae"})
    match, rmse = reconstructions(model, crystals, 3, 0)
    assert match["value"] == pytest.approx(2 / 3) and match["n"] == 3 and match["of"] == "reconstruction"
    assert rmse["value"] == pytest.approx(0, abs=1e-6)


def test_success_of_minimising_by_a_judge_that_knows_the_truth(table: Path) -> None:
    training = read_crystals(table)
    model = Copies(training)
    judge = Judge(Emt(), "emt")
    sets = {"all": training}
    rows = optimisation(model, "heat", sets, training, 10, 0, None, work(judge), nothing)
    found: dict[tuple[str, str], float] = {(each.get("source", ""), each["metric"]): each["value"] for each in rows}
    assert found["", "correlation"] > 0.999
    assert found["", "mean error, eV/atom"] < 0.02
    assert found["this model, heat minimised", "SR10"] == 1  # it has the two lowest
    assert found["all", "SR5"] <= found["all", "SR10"] == pytest.approx(0.1, abs=0.05)


def test_a_predictor_is_heard_beside_the_judge(table: Path) -> None:
    training = read_crystals(table)

    class Flatterer(Copies):
        def predict(self, crystals: list[Crystal]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
            return {"heat": (np.full(len(crystals), -99.0), np.zeros(len(crystals)))}

    collapsed = training[0]._replace(coordinates=np.zeros((2, 3)))
    unknown = training[0]._replace(numbers=np.array([29, 2]))
    judged = Work(None, Judge(Emt(), "emt"), None, 1, Flatterer([]))
    sets = {"all": [*training, collapsed, unknown]}
    rows = optimisation(Copies(training), "heat", sets, training, 5, 0, None, judged, nothing)
    own = {each["metric"]: each["value"] for each in rows if each.get("judge") == "the model's predictor"}
    assert own["SR5"] == pytest.approx(42 / 44)  # what is no crystal has not succeeded, nor what it does not know


def test_a_crystal_that_cannot_be_read_is_told(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in ("matminer", "smact") else object())
    broken = tmp_path / "broken.csv"
    broken.write_text(table.read_text() + "99,nonsense,0.5\n")
    report = evaluate(Copies(split(read_crystals(table))[0]), broken, 3)
    assert "left out: broken.csv, line" in report.title and str(tmp_path) not in report.title
    assert report.title.count("needs smact") == 1
