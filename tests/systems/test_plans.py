"""Plans: the work of a network against torch's own count, what goes with what is asked, and no torch to say it."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from inkwash.cli import main
from inkwash.systems import plans, systems
from inkwash.systems.base import File, Limit, Plan, add_up, limits, narrow, plan
from inkwash.systems.language.request import Write
from inkwash.systems.pictures.limits import operations
from inkwash.systems.pictures.request import Generate
from inkwash.systems.train import Train
from inkwash.weights.shipped import locate

VERBS = {name: system.verbs for name, system in systems().items()}


def test_the_work_of_a_network_is_what_torch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    import inkwash

    folder = locate("emoji")
    model = inkwash.load("emoji", runtime="torch")
    condition = model.condition(["a fox"], ["flat"])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.unet(torch.zeros(1, *model.shape), torch.zeros(1), **condition)
    assert operations(folder / "unet", 8) == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_a_plan_grows_with_what_is_asked(monkeypatch):
    monkeypatch.setattr(plans, "speed", lambda: 1e10)

    def seconds(system, verb, request, model, device=None, threads=None):
        return plan(VERBS[system][verb], request, locate(model), device, threads).seconds

    one, many, few, two = (
        seconds("pictures", "generate", Generate(prompt="a fox", n=n, steps=steps), "emoji", None, threads)
        for n, steps, threads in ((10, 20, 1), (100, 20, 1), (10, 10, 1), (10, 20, 2))
    )
    start = 0.5  # to load
    assert many - start == pytest.approx(10 * (one - start)) == pytest.approx(20 * (few - start))
    assert one - start == pytest.approx(2 * (two - start))
    assert seconds("pictures", "generate", Generate(prompt="a fox"), "emoji", "cuda") is None
    free, steered = (
        seconds("language", "write", Write(n=10, control=control), "e2e") for control in ((), ("food=Italian",))
    )
    assert steered > 2 * free
    assert add_up([Plan(1.0, 10), Plan(2.0, None)])[:2] == (3.0, 10) and add_up([Plan(1.0), Plan()])[0] is None


def test_a_training_that_goes_on_is_planned_by_its_log(tmp_path):
    verb = VERBS["pictures"]["train"]
    (tmp_path / "run.json").write_text(json.dumps({"finished": False, "recipe": {"fit.steps": 1000}}))
    rows = [f"{step},0.1,1,0.001,{9 if step < 100 else 2}" for step in range(1, 401)]
    (tmp_path / "log.csv").write_text("\n".join(["step,loss,gradient_norm,learning_rate,seconds", *rows]))
    train = Train(recipe=File("0" * 64, "recipe.toml"))
    assert plan(verb, train, tmp_path, None, None) == Plan(1200.0, 0, "about 20 min")
    assert plan(verb, replace(train, steps=500), tmp_path, None, None).seconds == 200
    assert plan(verb, train, None, None, None).seconds is None


def test_plans_and_limits_bring_no_torch():
    """The studio's server asks for them."""
    code = """
import sys
from inkwash.systems import systems
from inkwash.systems.base import limits, plan
from inkwash.weights.shipped import locate
for system, model in (("pictures", "emoji-fast"), ("series", "exchange"), ("language", "e2e")):
    for name, verb in systems()[system].verbs.items():
        limits(verb, locate(model))
        if name in ("generate", "write"):
            assert plan(verb, verb.request(**({"prompt": "x"} if name == "generate" else {})), locate(model), None, 1)
assert "torch" not in sys.modules and "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_student_s_card_says_what_it_was_not_taught(capsys):
    verb, folder = VERBS["pictures"]["generate"], locate("emoji-fast")
    found = limits(verb, folder)
    assert found["guidance"] == Limit(default=1.0, absent=True) and found["negative"].absent
    assert found["sampler"].default == "ancestral" and "dpmpp_2m" not in found["sampler"].choices
    narrow(verb, Generate(prompt="a fox", guidance=1.0), folder)
    for option, value in (("guidance", "2"), ("negative", "snow"), ("sampler", "dpmpp_2m")):
        assert main(["generate", "a fox", "--model", "emoji-fast", f"--{option}", value]) == 2
        assert option in capsys.readouterr().err


def test_the_command_line_says_the_plan_and_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plans, "speed", lambda: 1e10)
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a fox", "-n", "100", "--plan", "-o", "new/folder"]) == 0
    one = capsys.readouterr().out
    assert one.startswith("about ") and one.endswith("0.6 MB\n") and not list(tmp_path.iterdir())
    assert main(["generate", "a fox", "-n", "100", "--plan", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["text"] == one.strip() and told["seconds"] > 1 and told["bytes"] == 614400
    assert main(["generate", "a fox", "--plan", "--timings"]) == 2
    assert "--timings means nothing with --plan" in capsys.readouterr().err
    (tmp_path / "rows.csv").write_text("prompt,size\n" + "a fox,64\n" * 100)
    assert main(["generate", "--csv", "rows.csv", "--plan"]) == 0
    assert capsys.readouterr().out.endswith("0.6 MB\n")
    (tmp_path / "rows.csv").write_text("prompt,size\na fox,many\n")
    assert main(["generate", "--csv", "rows.csv", "--plan"]) == 2
    assert "column size" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_what_takes_long_is_said_when_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plans, "speed", lambda: 1e7)
    assert main(["generate", "a fox", "--seed", "1", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "inkwash: about 29 min\n"  # 20 steps of 2 calls of 0.3 billion operations
