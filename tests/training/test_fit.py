import csv
import errno
import itertools
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import inkwash.training.checkpoint as checkpoint
from inkwash.errors import UserError
from inkwash.progress import CONSOLE, Console, Note, Preview, Progress
from inkwash.training import memory
from inkwash.training.data import batches
from inkwash.training.fit import Stopped, fit
from inkwash.training.settings import Settings
from tests.follower import Follower, in_parts

QUICK = Settings(steps=12, batch_size=8, learning_rate=1e-2, warmup=4, ema_decay=0.9, checkpoint_minutes=0)
DATA = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.2), nn.Conv2d(8, 3, 3, padding=1)
    )


def picture(module, step):
    return Image.new("RGB", (3, 2), (step, 0, 0))


def run(folder, settings=QUICK, trap=lambda step: None, preview=None, monitor=CONSOLE):
    """A training that draws on everything random: noise, dropout, shuffling; and has buffers."""
    module, order = network(), batches(len(DATA), settings.batch_size, settings.seed)

    def batch(step):
        trap(step)
        return DATA[order(step)]

    def loss(x, generator):
        noise = torch.randn(x.shape, generator=generator)
        return (module(x + noise) - noise).square().mean()

    return fit(module, loss, batch, folder, settings, preview, monitor=monitor)


def regression(folder, settings, data, trap=lambda value: value, **how):
    """Least squares without randomness, in a module with a matrix and a bias."""
    torch.manual_seed(0)
    module = nn.Linear(data[0].shape[1], 1)

    def loss(pair, _generator):
        return trap((module(pair[0]) - pair[1]).square().mean())

    def batch(step):
        rows = torch.arange(step * settings.batch_size, (step + 1) * settings.batch_size) % len(data[0])
        return data[0][rows], data[1][rows]

    return fit(module, loss, batch, folder, settings, **how)


def points(n=64):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 5, generator=generator), 5 * torch.randn(n, 1, generator=generator)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def log(folder):
    with open(Path(folder) / "log.csv") as file:
        return [(int(row["step"]), row["loss"], row["gradient_norm"]) for row in csv.DictReader(file)]


def newest(folder):
    return max((Path(folder) / "checkpoints").glob("*.safetensors"))


def test_weights_and_averages_follow_the_equations(tmp_path):
    """AdamW, warm-up, cosine, clipping by norm and EMA, written again in NumPy float64."""
    x, y = points()
    settings = replace(QUICK, steps=30, lr_decay="cosine", weight_decay=0.3, batch_size=16, ema_decay=0.7)
    result = regression(tmp_path, settings, (x, y))

    torch.manual_seed(0)
    start = nn.Linear(5, 1)
    w = {"weight": start.weight.detach().double().numpy()[0], "bias": start.bias.detach().double().numpy()}
    average, m, v = dict(w), dict.fromkeys(w, 0.0), dict.fromkeys(w, 0.0)
    for n in range(30):
        rows = np.arange(n * 16, (n + 1) * 16) % 64
        a, b = x.double().numpy()[rows], y.double().numpy()[rows, 0]
        error = a @ w["weight"] + w["bias"] - b
        g = {"weight": 2 * a.T @ error / 16, "bias": 2 * error.mean(keepdims=True)}
        norm = np.sqrt(sum((value**2).sum() for value in g.values()))
        assert norm > 1  # so that clipping is seen
        rate = 0.01 * (n + 1) / 4 if n < 4 else 0.01 * (1 + np.cos(np.pi * (n - 4) / 26)) / 2
        d = min(0.7, (1 + n) / (10 + n))
        for name, wd in (("weight", 0.3), ("bias", 0.0)):
            grad = g[name] / norm
            m[name] = 0.9 * m[name] + 0.1 * grad
            v[name] = 0.99 * v[name] + 0.01 * grad**2
            step = m[name] / (1 - 0.9 ** (n + 1)) / (np.sqrt(v[name] / (1 - 0.99 ** (n + 1))) + 1e-8)
            w[name] = w[name] - rate * (step + wd * w[name])
            average[name] = d * average[name] + (1 - d) * w[name]

    trained = checkpoint.load(newest(tmp_path))["weights"]
    for name in w:
        np.testing.assert_allclose(trained[name].numpy().ravel(), w[name], rtol=1e-4)
        np.testing.assert_allclose(getattr(result, name).detach().numpy().ravel(), average[name], rtol=1e-4)


def test_four_small_batches_are_one_large_one(tmp_path):
    data = points()
    large = regression(tmp_path / "large", replace(QUICK, batch_size=32), data)
    small = regression(tmp_path / "small", replace(QUICK, batch_size=8, grad_accumulation=4), data)
    torch.testing.assert_close(small.state_dict(), large.state_dict(), rtol=1e-4, atol=1e-6)
    large_log, small_log = (log(tmp_path / name) for name in ("large", "small"))
    assert [float(row[1]) for row in small_log] == pytest.approx([float(row[1]) for row in large_log], rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_micro_steps_computed_at_once_give_the_same_bits_resumed_or_not(tmp_path, precision):
    def train(folder, **changes):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 6))

        def loss(x, generator):
            first = torch.randn(x.shape, generator=generator)
            time.sleep(0.001)  # so that the threads take turns between two draws
            noise = first + torch.randn(x.shape, generator=generator)
            return (module(x + noise).float() - noise).square().mean()

        settings = replace(QUICK, grad_accumulation=4, precision=precision, **changes)
        return fit(module, loss, lambda k: DATA[k % 5 :: 5, 0], folder, settings)

    one = train(tmp_path / "one")
    train(tmp_path / "three", micro_batch_threads=3, steps=5)
    assert same(one, train(tmp_path / "three", micro_batch_threads=3))


@pytest.mark.parametrize("changes", [{}, {"channels_last": True, "grad_accumulation": 2}])
def test_a_run_resumed_halfway_ends_with_the_same_bits(tmp_path, changes):
    settings = replace(QUICK, **changes)
    whole = run(tmp_path / "whole", settings)
    run(tmp_path / "halves", replace(settings, steps=7))
    resumed = run(tmp_path / "halves", settings, preview=lambda module, step: np.zeros((2, 2, 3), np.uint8))
    assert same(whole, resumed)
    assert log(tmp_path / "halves") == log(tmp_path / "whole")
    assert [step for step, *_ in log(tmp_path / "whole")] == list(range(1, 13))
    # A finished run has nothing left to do.
    assert same(whole, run(tmp_path / "whole", settings, trap=lambda step: pytest.fail("asked for a batch")))


def slowly(step):
    time.sleep(0.02)  # so that the run outlives the first moments below


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path):
    settings = replace(QUICK, steps=60)
    whole = run(tmp_path / "whole", settings)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["inkwash.training.fit", "torch.utils.tensorboard", "torch._dynamo"])
    moments, killed = random.Random(0), 0
    while True:
        process = context.Process(target=run, args=(tmp_path / "killed", settings, slowly))
        process.start()
        process.join(moments.uniform(0.2, 1.2) if killed < 6 else None)
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed += 1
    assert killed and process.exitcode == 0
    assert same(whole, run(tmp_path / "killed", settings))
    assert log(tmp_path / "killed") == log(tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())
    assert names == [f"step-000000{n}.{kind}" for n in (59, 60) for kind in ("json", "safetensors")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, number):
    settings = replace(QUICK, checkpoint_minutes=60)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped after step 5 of 12"):
        run(tmp_path, settings, trap=lambda step: step == 4 and os.kill(os.getpid(), number))
    assert newest(tmp_path).name == "step-00000005.safetensors"
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert same(run(tmp_path, settings), run(tmp_path / "whole", settings))


def test_who_follows_a_training_hears_of_it_and_stops_it_anywhere(tmp_path):
    settings = replace(QUICK, checkpoint_minutes=60, preview_every=5)
    whole = run(tmp_path / "whole", settings)
    monitor = Follower(stop_after=3)
    parts = in_parts(lambda it: run(tmp_path / "parts", settings, preview=picture, monitor=it), monitor)
    assert list(parts) == [3, 6, 9]
    assert same(run(tmp_path / "parts", settings), whole)
    with pytest.raises(Stopped, match="stopped after step 0 of 12"):  # nothing is done
        run(tmp_path / "none", settings, monitor=Follower(stop_after=0))
    assert not (tmp_path / "none" / "checkpoints").exists()
    assert [(event.done, event.total) for event in monitor.of(Progress)] == [(step, 12) for step in range(1, 13)]
    assert all(event.text.startswith("loss ") for event in monitor.of(Progress))
    assert [event.image.getpixel((0, 0))[0] for event in monitor.of(Preview)] == [5, 10, 12]
    assert log(tmp_path / "parts") == log(tmp_path / "whole")


def test_a_training_up_to_a_step_counts_to_that_step(tmp_path, monkeypatch):
    """And says how long that takes, not how long all would."""
    monitor, ticks = Follower(), itertools.count()
    monkeypatch.setattr("inkwash.training.fit.time.monotonic", lambda: float(next(ticks)))
    with pytest.raises(Stopped):
        regression(tmp_path, replace(QUICK, steps=10_000), points(), monitor=monitor, until=5)
    assert {event.total for event in monitor.of(Progress)} == {5}
    assert any(re.match(r"about \d\d? s;", event.text) for event in monitor.of(Note))


def test_a_model_is_of_use_at_each_checkpoint(tmp_path):
    """It has the averaged weights of that step, and says how far it is trained."""
    module, found = network(), []

    def save(folder):
        folder.mkdir(exist_ok=True)
        assert not module.training and not torch.is_grad_enabled()
        found.append([p.clone() for p in module.parameters()])

    def batch(step):
        if step:
            assert json.loads((tmp_path / "model" / "training.json").read_text()) == {"step": step, "steps": 4}
        return DATA[:8]

    settings = replace(QUICK, steps=4)
    how = {"save": save, "model": tmp_path / "model"}
    fit(module, lambda x, _: module(x).square().mean(), batch, tmp_path, settings, **how)
    assert json.loads((tmp_path / "model" / "training.json").read_text()) == {"step": 4, "steps": 4}
    for step, weights in enumerate(found[2:], 3):
        average = checkpoint.load(tmp_path / "checkpoints" / f"step-{step:08d}.safetensors")["ema"]
        names = [name for name, _ in module.named_parameters()]
        assert all(torch.equal(average[name], p) for name, p in zip(names, weights, strict=True))


def test_losses_that_are_read_now_and_then_are_all_noted(tmp_path):
    """And of the first that is not finite the step is named, before a checkpoint holds what came of it."""
    seldom = replace(QUICK, log_every=5, checkpoint_minutes=5)
    assert same(run(tmp_path / "seldom", seldom), run(tmp_path / "whole"))
    assert log(tmp_path / "seldom") == log(tmp_path / "whole")
    monitor = Follower(stop_after=9)
    with pytest.raises(Stopped, match="after step 9 of 12"):
        run(tmp_path / "stopped", seldom, monitor=monitor)
    assert log(tmp_path / "stopped") == log(tmp_path / "whole")[:9]
    calls = iter(range(100))
    with pytest.raises(UserError, match="step 7: the loss is nan"):
        regression(
            tmp_path / "nan", seldom, points(), trap=lambda value: value * (torch.nan if next(calls) > 5 else 1)
        )
    assert not (tmp_path / "nan" / "checkpoints").exists()


def test_checkpoints_come_in_their_time_however_seldom_losses_are_read(tmp_path):
    class Killed(BaseException):
        pass

    def trap(step):
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, replace(QUICK, log_every=1000), trap)
    assert newest(tmp_path).name == "step-00000008.safetensors"
    assert len(log(tmp_path)) == 8


def test_the_held_out_loss_is_that_of_the_averaged_weights(tmp_path):
    data = points()
    held_out = [(data[0][:10], data[1][:10]), (data[0][10:20], data[1][10:20])]

    def rows():
        return [line.split(",") for line in (tmp_path / "held_out.csv").read_text().splitlines()[1:]]

    def save(folder):
        folder.mkdir(exist_ok=True)

    how = {"held_out": held_out, "save": save, "model": tmp_path / "model"}
    regression(tmp_path, replace(QUICK, steps=4), data, **how)
    before = rows()
    result = regression(tmp_path, replace(QUICK, steps=5), data, **how)
    assert [int(step) for step, _ in rows()] == [1, 2, 3, 4, 5] and rows()[:4] == before
    with torch.no_grad():
        loss = sum((result(x) - y).square().mean().item() for x, y in held_out) / 2
    assert float(rows()[-1][1]) == pytest.approx(loss, rel=1e-6)
    trained = {"step": 5, "steps": 5, "held_out_loss": pytest.approx(loss, rel=1e-6)}
    assert json.loads((tmp_path / "model" / "training.json").read_text()) == trained
    regression(tmp_path, replace(QUICK, steps=5), data, **how)  # nothing left to do
    assert json.loads((tmp_path / "model" / "training.json").read_text()) == trained


def test_held_out_batches_change_nothing(tmp_path):
    """Dropout and batch norm: they are seen in eval mode, and what they draw is drawn apart."""
    module = network()
    how = {"held_out": [DATA[:8]], "folder": tmp_path / "with", "settings": QUICK}
    loss, order = lambda x, g: (module(x + torch.randn(x.shape, generator=g)) - x).square().mean(), batches(40, 8)
    fit(module, loss, lambda k: DATA[order(k)], **how)
    with_them, module = module, network()
    fit(module, loss, lambda k: DATA[order(k)], **how | {"held_out": (), "folder": tmp_path / "without"})
    assert same(with_them, module)


def test_a_training_goes_on_while_its_checkpoint_is_written(tmp_path, monkeypatch):
    reached, save = threading.Event(), checkpoint.save

    def slow(folder, step, *how):
        assert step != 2 or reached.wait(60)
        save(folder, step, *how)

    monkeypatch.setattr(checkpoint, "save", slow)
    settings = replace(QUICK, steps=4)
    slowed = run(tmp_path / "slow", settings, trap=lambda step: step == 2 and reached.set())
    monkeypatch.undo()
    assert same(slowed, run(tmp_path / "whole", settings))
    for name, tensors in checkpoint.load(newest(tmp_path / "slow")).items():
        expected = checkpoint.load(newest(tmp_path / "whole"))[name]
        assert all(torch.equal(tensor, expected[key]) for key, tensor in tensors.items())


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return self.layer(x).sin()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_compiled_trains_the_same(tmp_path, monkeypatch, wrapped):
    from torch._dynamo.utils import counters

    inner_compile, modes = nn.Module.compile, []

    def compile_(module, mode):  # as far as it goes without a compiler of C++, which not every machine has
        modes.append(mode)
        inner_compile(module, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile_)

    def train(folder, **changes):
        torch.manual_seed(0)
        inner = Compiled()
        module = nn.ModuleDict({"inner": inner}) if wrapped else inner

        def preview(module, step):
            before = counters["frames"]["total"]
            inner(DATA[:, 0, 0])
            assert counters["frames"]["total"] == before  # for a few pictures nothing is compiled
            return "seen"

        def loss(x, _generator):
            return (inner(x) - x).square().mean()

        settings = replace(QUICK, preview_every=6, **changes)
        return fit(module, loss, lambda k: DATA[k % 5 :: 5, 0, 0], folder, settings, preview)

    torch._dynamo.reset()
    counters.clear()
    plain = train(tmp_path / "plain")
    assert not counters["frames"]["ok"]
    module = train(tmp_path / "compiled", compile="default")
    assert modes == ["default"] and counters["frames"]["ok"] and not counters["graph_break"]
    torch.testing.assert_close(module.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match='compile = "default": a Linear has no forward of its own'):
        regression(tmp_path / "none", replace(QUICK, compile="default"), points())


def test_lines_tell_of_a_long_work_where_no_terminal_is(monkeypatch, capsys):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("inkwash.progress.time.monotonic", lambda: next(clock))
    console = Console()
    for done in range(1, 6):
        console.tell(Progress(done, 5, f"loss {done}"))
    assert capsys.readouterr().err.splitlines() == [
        "inkwash: 3 of 5: loss 3, 40 s left", "inkwash: 5 of 5: loss 5, 0 s left"
    ]  # fmt: skip
    console.tell(Progress(1, 1))  # another work, which is short
    assert not capsys.readouterr().err
    console.tell(Note("a\x1b[2Jb\x9b"))  # which a stranger's file may say
    assert capsys.readouterr().err == "inkwash: a?[2Jb?\n"


@pytest.mark.parametrize(
    "spoil",
    [lambda value: value * torch.nan, lambda value: (value * 0).sqrt()],
    ids=["loss", "gradient of a finite loss"],
)
def test_the_first_value_that_is_not_finite_stops_the_run(tmp_path, spoil):
    calls = iter(range(100))
    with pytest.raises(UserError, match="step 7: the loss is"):
        regression(tmp_path, QUICK, points(), trap=lambda value: spoil(value) if next(calls) == 6 else value)
    assert newest(tmp_path).name == "step-00000006.safetensors"
    assert same(regression(tmp_path, QUICK, points()), regression(tmp_path / "sound", QUICK, points()))


@pytest.mark.parametrize(
    "key, value",
    [("seed", 1), ("batch_size", 4), ("betas", (0.9, 0.95)), ("precision", "bfloat16"), ("lr_decay", "cosine")],
)
def test_another_run_does_not_continue_in_the_same_folder(tmp_path, key, value):
    run(tmp_path, replace(QUICK, steps=2))
    with pytest.raises(UserError, match=f"holds a run with {key} = "):
        run(tmp_path, replace(QUICK, steps=2, **{key: value}))


def test_steps_may_grow_where_the_schedule_does_not_depend_on_them(tmp_path):
    cosine = replace(QUICK, steps=3, lr_decay="cosine")
    run(tmp_path / "cosine", cosine)
    with pytest.raises(UserError, match="steps cannot change from 3 to 12: the cosine decay"):
        run(tmp_path / "cosine", replace(cosine, steps=12))
    run(tmp_path / "none", QUICK)
    with pytest.raises(UserError, match=r"steps = 3, but the run in .* has done 12"):
        run(tmp_path / "none", replace(QUICK, steps=3))


def test_another_network_does_not_continue_in_the_same_folder(tmp_path):
    run(tmp_path, QUICK)
    with pytest.raises(UserError, match="weights of another network"):
        regression(tmp_path, replace(QUICK, steps=13), points())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, capfd):
    whole = run(tmp_path)
    damaged = newest(tmp_path)
    data = bytearray(damaged.read_bytes())
    data[-7] ^= 1
    damaged.write_bytes(data)
    first = []
    assert same(whole, run(tmp_path, trap=first.append))
    assert first == [11]
    assert f"{damaged.name} is damaged: falling back" in capfd.readouterr().err
    for path in (tmp_path / "checkpoints").glob("*.json"):
        path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match=r"every checkpoint in .* is damaged"):
        run(tmp_path)


def test_a_full_disk_leaves_the_old_checkpoints(tmp_path, monkeypatch):
    run(tmp_path, replace(QUICK, steps=5))
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}

    def full(tensors, path):
        Path(path).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"step 6 .*No space left.*make room"):
        patch.setattr(checkpoint, "save_file", full)
        run(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    assert same(run(tmp_path), run(tmp_path / "whole"))


def test_frozen_parameters_stay_and_are_not_saved(tmp_path):
    module = network()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    fit(module, lambda x, _: module(x).square().mean(), lambda step: DATA[:8], tmp_path, QUICK)
    assert torch.equal(module[0].weight, before)
    assert set(checkpoint.load(newest(tmp_path))["weights"]) == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_the_memory_format_does_not_change_the_training(tmp_path):
    def train(folder, settings):
        torch.manual_seed(0)  # no dropout: its mask is drawn in the order of the memory
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 3, 3))
        return fit(module, lambda x, _: (module(x) - 1).square().mean(), lambda k: DATA[k::12], folder, settings)

    plain, last = train(tmp_path / "a", QUICK), train(tmp_path / "b", replace(QUICK, channels_last=True))
    assert last[2].weight.is_contiguous(memory_format=torch.channels_last)
    assert not last[2].weight.is_contiguous()
    torch.testing.assert_close(plain.state_dict(), last.state_dict(), rtol=1e-4, atol=1e-5)


def test_bfloat16_computes_the_loss_and_keeps_float32_weights(tmp_path):
    module, kinds = nn.Linear(6, 1), set()

    def loss(x, _generator):
        y = module(x)
        kinds.add(y.dtype)
        return y.float().square().mean()

    fit(module, loss, lambda step: DATA[:8, 0, 0], tmp_path, replace(QUICK, precision="bfloat16"))
    assert kinds == {torch.bfloat16}
    assert {t.dtype for t in checkpoint.load(newest(tmp_path))["weights"].values()} == {torch.float32}


def test_previews_show_the_averaged_weights(tmp_path):
    seen = {}

    def preview(module, step):
        seen[step] = [p.clone() for p in module.parameters()]
        assert not module.training and not torch.is_grad_enabled()
        return Image.new("RGB", (3, 2), (step, 0, 0))

    result = run(tmp_path, replace(QUICK, preview_every=5), preview=preview)
    assert list(seen) == [5, 10, 12]
    assert all(torch.equal(a, b) for a, b in zip(seen[12], result.parameters(), strict=True))
    assert Image.open(tmp_path / "preview-00000010.png").getpixel((2, 1)) == (10, 0, 0)
    assert same(result, run(tmp_path / "without"))


@pytest.mark.parametrize(
    "free, says", [(100, "beside the weights"), (20_000, "halve batch_size and double grad_accumulation")]
)
def test_too_little_memory_is_refused_before_it_runs_out(tmp_path, monkeypatch, free, says):
    monkeypatch.setattr(memory, "available_memory", lambda device: free)
    with pytest.raises(UserError, match=says):
        run(tmp_path)


@pytest.mark.parametrize(
    "error, says",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "halve batch_size"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "halve batch_size"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered\nmore"), r"assert triggered\): look at"),
    ],
)
def test_what_a_device_says_is_told_in_one_line(tmp_path, monkeypatch, error, says):
    """Before the first step too, where weights get there."""

    def fails(*_):
        raise error

    monkeypatch.setattr("inkwash.training.fit.place_module", fails)
    with pytest.raises(UserError, match=says) as told:
        run(tmp_path)
    assert "\n" not in str(told.value)


def test_the_cache_of_files_counts_as_free_memory(tmp_path):
    for name, text in (("max", "1000"), ("current", "900"), ("stat", "anon 200\ninactive_file 650\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.available_memory(torch.device("cpu"), tmp_path) == 750


def test_an_estimate_is_printed_before_a_long_run(tmp_path, capfd):
    run(tmp_path)
    assert re.search(r"about \d+ s; peak memory about \d+\.\d GB", capfd.readouterr().err)


def test_tensorboard_shows_every_step_once_after_a_crash(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def crash(step):
        if step == 9:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run(tmp_path, replace(QUICK, checkpoint_minutes=60), trap=crash)
    run(tmp_path, replace(QUICK, checkpoint_minutes=60))
    board = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = [(event.step, pytest.approx(event.value, rel=1e-6)) for event in board.Scalars("loss")]
    assert rows == [(step, float(loss)) for step, loss, _ in log(tmp_path)]


def test_without_tensorboard_the_log_is_still_written(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(tmp_path)
    assert "pip install tensorboard" in capfd.readouterr().err
    assert len(log(tmp_path)) == 12


def test_checkpoints_are_plain_tensors_and_json(tmp_path):
    run(tmp_path)
    facts = json.loads(newest(tmp_path).with_suffix(".json").read_text())
    assert facts["step"] == 12
    assert facts["settings"]["batch_size"] == 8
    kinds = checkpoint.load(newest(tmp_path))
    assert set(kinds) == {"weights", "ema", "buffers", "exp_avg", "exp_avg_sq", "step"}


@pytest.mark.parametrize(
    "change, says",
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"ema_decay": 1.0}, "ema_decay must be below 1, not 1.0"),
        ({"betas": (0.9, 1.1)}, "betas must be below 1, not 1.1"),
        ({"warmup": -1}, "warmup must be at least 0, not -1"),
        ({"seed": 2**64}, "seed must be at most 18446744073709551615"),
        ({"micro_batch_threads": 100_000}, "micro_batch_threads must be at most 1024"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
        ({"precision": "bf16"}, "unknown precision 'bf16': did you mean bfloat16"),
    ],
)
def test_settings_out_of_range_are_refused(change, says):
    with pytest.raises(UserError, match=says):
        replace(QUICK, **change)


@pytest.mark.parametrize("device", ["warp", "cuda:99", "meta", "hpu"])
def test_a_device_that_is_not_there_is_named(tmp_path, device):
    with pytest.raises(UserError, match=f"device '{device}' is not available"):
        run(tmp_path, replace(QUICK, device=device))


def test_what_a_training_did_not_make_stays(tmp_path):
    run(tmp_path)
    mine = [tmp_path / "checkpoints" / name for name in ("notes.txt", "step-00000001-best.json", ".keep", "best.png")]
    for path in mine:
        path.write_text("mine")
    (tmp_path / "checkpoints" / "old").mkdir()
    half = tmp_path / "checkpoints" / ".step-00000013.123-4.safetensors"
    half.write_text("what a killed process left")
    run(tmp_path, replace(QUICK, steps=16))
    assert all(path.read_text() == "mine" for path in mine) and (tmp_path / "checkpoints" / "old").is_dir()
    assert not half.exists()
    steps = sorted(path.stem for path in (tmp_path / "checkpoints").glob("step-*.safetensors"))
    assert steps == ["step-00000015", "step-00000016"]


def test_a_network_that_cannot_be_compiled_is_said_in_a_line(tmp_path):
    def trap(value):
        raise torch._dynamo.exc.TorchDynamoException("no C++ compiler\nfrom user code: ...")

    with pytest.raises(UserError, match=r"^torch cannot compile the network \(no C\+\+ compiler\): take compile"):
        regression(tmp_path, QUICK, points(), trap)


def test_a_damaged_row_of_held_out_losses_is_left_out(tmp_path):
    run(tmp_path)
    (tmp_path / "held_out.csv").write_text("step,loss\n12,0.5\n,\n\0\n")
    run(tmp_path, replace(QUICK, steps=13))
    assert (tmp_path / "held_out.csv").read_text() == "step,loss\n12,0.5\n"


def test_a_log_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "log.csv").write_text("day,weight\n1,70\n")
    with pytest.raises(UserError, match=r"log\.csv: this file is not inkwash's"):
        run(tmp_path)
    assert (tmp_path / "log.csv").read_text() == "day,weight\n1,70\n"
