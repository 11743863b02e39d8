"""Each training is stopped on its way and goes on: the same bits, and a model of use at each stop, and of pictures
after the first checkpoint too, if they are killed."""

import json
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

import inkwash
from inkwash.cli import context as local
from inkwash.cli import main
from inkwash.codecs import latents
from inkwash.codecs.text import TextCodec
from inkwash.errors import UserError
from inkwash.networks.autoencoder import load_autoencoder, save_autoencoder
from inkwash.networks.unet import load_unet
from inkwash.progress import Note, Preview, Progress
from inkwash.systems import train as common
from inkwash.systems.base import File
from inkwash.systems.language import train as language
from inkwash.systems.pictures import (
    emoji_data,
    train_autoencoder,
    train_student,
    train_text_encoder,
    train_upsampler,
)
from inkwash.systems.pictures import train as pictures
from inkwash.systems.pictures.folder import Folder
from inkwash.systems.pictures.model import Config
from inkwash.systems.pictures.runtimes import Torch
from inkwash.systems.pictures.upsampler import Upsampler
from inkwash.systems.series import train as series
from inkwash.training import run
from inkwash.training.fit import Stopped
from inkwash.training.settings import Settings
from tests.follower import Follower, in_parts
from tests.models import tiny, tiny_autoencoder
from tests.systems.pictures.discs import discs, red_discs

FIT = Settings(steps=5, batch_size=4, warmup=1, preview_every=2, checkpoint_minutes=0)
NETWORK = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
SMALL = np.zeros((2, 16, 16, 4), np.uint8)


@pytest.fixture
def emoji(monkeypatch):
    """The data set, in small: red discs, or for two sizes discs of many colours."""
    data = red_discs()
    data = replace(data, split=np.where(data.split == "test", "validation", data.split))
    monkeypatch.setattr(emoji_data, "load", lambda *_, **__: data)


class Killer(Follower):
    """Ends the training, without a word, in the second of five steps."""

    def tell(self, event):
        if isinstance(event, Progress) and (event.done, event.total) == (2, 5):
            raise KeyboardInterrupt


@pytest.fixture
def stages(monkeypatch, tmp_path):
    monkeypatch.setattr(emoji_data, "load", lambda _, size=64: discs({64: 16, 256: 64}[size]))
    for module in (train_autoencoder, train_upsampler):
        monkeypatch.setattr(module, "features", lambda p: p[:, ::8, ::8, :3].reshape(len(p), -1) / 255.0)
    save_autoencoder(tiny_autoencoder(), tmp_path / "vae")


def check_killed(train, tmp_path, made, use):
    """`train(folder, monitor)`, killed in its second step, leaves a model of use, with its held-out loss."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", Killer())
    use(tmp_path / "killed" / made)
    trained = json.loads((tmp_path / "killed" / made / "training.json").read_text())
    assert trained["step"] == 1 and trained["held_out_loss"] > 0


def check(train, tmp_path, made, use, stop_after, stops):
    """`train(folder, monitor)` leaves the same in `made` if it is stopped every few steps; after each of `stops`
    there is a model, which can be used. What was heard of it."""
    train(tmp_path / "whole", follower := Follower())
    found = []
    for step in in_parts(partial(train, tmp_path / "parts"), Follower(stop_after)):
        model = tmp_path / "parts" / made
        if model.exists():
            use(model)
            found.append(step)
            assert json.loads((model / "training.json").read_text())["step"] == step
    assert found == stops
    whole, parts = (contents(tmp_path / name / made) for name in ("whole", "parts"))
    assert whole == parts and len(whole) > 2
    use(tmp_path / "parts" / made)
    assert follower.of(Progress)
    return follower


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_pictures_with_words_and_their_mean(emoji, tmp_path):
    mean = pictures.MeanPrediction(Settings(steps=3, batch_size=4, warmup=1), hidden=8)
    recipe = pictures.Recipe(
        "pictures", tmp_path, FIT, NETWORK, mean_predictor=mean, recolour=0.5, model=Config(size=16, steps=2)
    )
    run = (
        partial(pictures.train, recipe),
        tmp_path,
        "model",
        lambda model: inkwash.load(model).generate("a cat", seed=1),
    )
    check_killed(*run)
    follower = check(
        *run,
        stop_after=2,
        stops=[2, 4],  # before these, twice in a mean predictor
    )
    assert [event.image.size for event in follower.of(Preview)] == [(2 * 18, 8 * 18)] * (1 + 1 + 3)  # of means, too
    steps = follower.of(Progress)
    assert [event.total for event in steps] == [3] * 3 + [2] * 2 + [5] * 5


def test_an_autoencoder(stages, tmp_path):
    network = {"in_channels": 16, "out_channels": 16, "block_out_channels": [8], "layers_per_block": 1}
    network |= {"latent_channels": 8, "norm_num_groups": 4, "mid_block_add_attention": False}
    recipe = train_autoencoder.Recipe("autoencoder", tmp_path, network, FIT)
    run = (
        partial(train_autoencoder.train, recipe),
        tmp_path,
        "vae",
        lambda vae: latents.encode(load_autoencoder(vae), SMALL, torch.from_numpy),
    )
    check_killed(*run)
    follower = check(
        *run,
        stop_after=2,
        stops=[2, 4],
    )
    assert len(follower.of(Preview)) == 3


def test_an_upsampler(stages, tmp_path):
    recipe = train_upsampler.Recipe("upsampler", tmp_path, tmp_path / "vae", NETWORK, FIT, crop=8)
    run = (
        partial(train_upsampler.train, recipe),
        tmp_path,
        "upsampler",
        lambda place: Upsampler(load_unet(place), Torch()).sample(SMALL, range(2)),
    )
    check_killed(*run)
    follower = check(
        *run,
        stop_after=2,
        stops=[2, 4],
    )
    assert len(follower.of(Preview)) == 3


def test_a_student_and_the_walks_of_its_teacher(emoji, tmp_path, monkeypatch):
    monkeypatch.setattr(train_student, "BATCH_SIZE", 8)
    tiny(latent=True, mean=True, parametrization="flow", guidance=2.0).save(tmp_path / "teacher")
    recipe = train_student.Recipe("student", tmp_path, tmp_path / "teacher", 20, FIT, steps=3, student_steps=1)
    run = (
        partial(train_student.train, recipe),
        tmp_path,
        "model",
        lambda model: inkwash.load(model).generate("a cat", seed=1),
    )
    check_killed(*run)
    follower = check(
        *run,
        stop_after=4,
        stops=[1, 2, 3, 4],  # whether to stop is asked before each of the three batches of walks, too
    )
    assert [(event.done, event.total) for event in follower.of(Progress)][:3] == [(8, 20), (16, 20), (20, 20)]


def test_a_text_encoder(tmp_path, monkeypatch):
    """Taught by a table of vectors for letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "fox", "hat", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    vectors = torch.randn(len(pieces), 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(train_text_encoder, "load_teacher", lambda *_: (tokenizer, lambda ids: vectors[ids], vectors))
    emoji = [train_text_encoder.Emoji(name, [name[:3]], "狐狸", ["狐"]) for name in ("red fox", "big hat")]
    monkeypatch.setattr(train_text_encoder, "captions", lambda _: (emoji, []))
    counts = train_text_encoder.Corpus(60, 20, 5, held_out=10, pairs=1000, chinese=0.4)
    small = train_text_encoder.Network(4, 8, 1, 2)
    recipe = train_text_encoder.Recipe("text-encoder", "none", tmp_path, counts, small, FIT)
    run = (
        partial(train_text_encoder.train, recipe),
        tmp_path,
        "text-encoder",
        lambda place: TextCodec.load(place).encode(["a fox"], torch.from_numpy),
    )
    check_killed(*run)
    check(
        *run,
        stop_after=2,
        stops=[2, 4],
    )


def test_a_forecaster_and_the_search_for_how_long_is_enough(tmp_path):
    values = np.random.default_rng(0).normal(size=(120, 2)).cumsum(0)
    table = pd.DataFrame(values, pd.date_range("2024-01-01", periods=120), ["tea", "coffee"])
    table.rename_axis("day").reset_index().to_csv(tmp_path / "t.csv", index=False)
    settings = Settings(steps=110, batch_size=4, warmup=1, ema_decay=0.9)
    recipe = series.Recipe("series", tmp_path / "t.csv", 3, settings, context=6, lags=[1])
    follower = check(
        partial(series.train, recipe),
        tmp_path,
        "model",
        lambda model: inkwash.load(model).forecast(table, samples=2, steps=2),
        stop_after=40,
        stops=[37, 76, 15],  # the last one after the search
    )
    assert [event.text.split(":")[0] for event in follower.of(Note) if "validation loss" in event.text] == 2 * [
        "50 steps", "100 steps"
    ]  # fmt: skip  # the backtest's search, then the training's


def test_a_writer_and_its_reader(tmp_path):
    sentences = {"The cat sat on the mat.": "calm", "A dog ran in the park!": "wild", "Run!": "wild"}
    file = tmp_path / "toy.csv"
    file.write_text("text,mood\n" + "".join(f"{text},{mood}\n" for text, mood in 12 * [*sentences.items()]))
    recipe = language.Recipe(
        "language", file, FIT, "continuous", True, 10, 0, min_count=1, width=16, layers=1, heads=2, classifier_steps=4
    )
    follower = check(
        partial(language.train, recipe),
        tmp_path,
        "model",
        lambda model: inkwash.load(model).write(1, seed=1, steps=2),
        stop_after=4,
        stops=[4, 2],  # of the writer, then of its classifier
    )
    assert [event.total for event in follower.of(Progress)] == [5] * 5 + [4] * 4
    samples = [event.text for event in follower.of(Note) if event.text.startswith("step ")]
    assert [text.split(":")[0] for text in samples] == ["step 2", "step 4", "step 5"]
    assert all(text.count(" / ") == 2 for text in samples)
    assert inkwash.load(tmp_path / "parts" / "model").classifier.fields == {"mood": ["", "calm", "wild"]}


def test_minutes_end_a_training_which_then_goes_on_to_the_same_bits(tmp_path, monkeypatch, capsys):
    """Whatever is preparation counts; the time is told by a clock that goes on by a second when it is read."""
    clock = count()
    monkeypatch.setattr(common, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    (tmp_path / "lines.txt").write_text("the cat sat\na dog ran\n" * 9)
    (tmp_path / "r.toml").write_text(f"""
task = "language"
data = "{tmp_path}/lines.txt"
source = 0
length = 6
min_count = 1
width = 16
layers = 1
heads = 2
[fit]
steps = 20
batch_size = 4
warmup = 1
""")
    command = ["train", str(tmp_path / "r.toml"), "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    steps = []
    for minutes in (["--minutes", "0.2"], ["--minutes", "0.1"], []):
        assert main([*command, str(tmp_path / "parts"), *minutes]) == 0
        facts = json.loads((tmp_path / "parts" / "model" / "training.json").read_text())
        inkwash.load(tmp_path / "parts" / "model").write(1, seed=1)
        steps.append(facts["step"])
        said = capsys.readouterr().err
        if minutes:
            why = f"{60 * float(minutes[1]):.0f} s are over); the same command goes on; the model so far can be used"
            assert f"stopped after step {steps[-1]} of 20 ({why}\n" in said
    assert 0 < steps[0] < steps[1] < steps[2] == 20
    for name in ("model.safetensors", "training.json"):
        assert contents(tmp_path / "parts" / "model")[name] == contents(tmp_path / "whole" / "model")[name]


@dataclass(frozen=True)
class Preparing:
    """The recipe of a training that prepares data for three hours, an hour at a time, and trains for one."""

    task: str
    fit: Settings


def prepare(recipe, folder, monitor):
    for hour in range(3):
        monitor.tell(Progress(hour, 3, "preparing"))
    folder.joinpath("prepared").touch()
    if monitor.stopped():
        raise Stopped(0, 1)
    monitor.tell(Progress(1, 1, "training"))


@pytest.fixture
def preparing(tmp_path, monkeypatch):
    """How long such a training is let go on, in hours: what it says, and what is in its folder."""
    module = SimpleNamespace(Recipe=Preparing, train=prepare)
    monkeypatch.setattr(common, "import_module", lambda _: module)
    monkeypatch.setattr(common, "time", SimpleNamespace(monotonic=lambda: 3600.0 * len(context.heard)))
    (tmp_path / "r.toml").write_text("task = 'preparing'\n[fit]\nsteps = 1\n")
    context = Follower()
    more = {"device": None, "precision": None, "threads": None, "started": 0.0, "local": True}
    more |= {"folder": tmp_path / "run", "open": lambda file: tmp_path / file.name}
    vars(context).update(more)
    context.folder.mkdir()

    def run(hours):
        context.heard.clear()
        request = common.Train(recipe=File("0" * 64, "r.toml"), minutes=hours and 60 * hours)
        assert not list(common.train([request], context, {"preparing": common.Task("")}))
        return [event.text for event in context.heard], {file.name for file in context.folder.iterdir()}

    return run


def test_minutes_end_what_comes_before_a_training_as_cleanly(preparing):
    why = "stopped before the first step (2.0 h are over); the same command goes on"
    assert preparing(2) == (["preparing", "preparing", why], set())
    assert preparing(4) == ([*["preparing"] * 3, "training"], {"prepared", "run.json"})  # over in its last step
    assert preparing(None)[0] == [*["preparing"] * 3, "training"]


def test_of_processes_that_train_together_the_first_one_writes_and_tells(preparing, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert preparing(9) == ([], {"prepared"})
    monkeypatch.setenv("RANK", "0")
    assert preparing(9) == ([*["preparing"] * 3, "training"], {"prepared", "run.json"})
    why = "stopped after step 0 of 1 (2.0 h are over); the same command goes on"
    assert preparing(2) == ([*["preparing"] * 3, why], {"prepared"})  # they end together, where all ask


def test_tables_too_large_for_the_device_are_a_line_before_the_training_too(preparing, monkeypatch):
    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 200 GiB")

    monkeypatch.setattr(common.import_module(""), "train", too_large)
    with pytest.raises(UserError, match="halve batch_size"):
        preparing(None)


def test_what_is_said_of_the_machine_reaches_every_fit_of_a_recipe():
    mean = pictures.MeanPrediction(Settings(3, precision="bfloat16"), hidden=8)
    recipe = pictures.Recipe("pictures", Path("d"), FIT, NETWORK, mean_predictor=mean, model=Config(size=16))
    machine = SimpleNamespace(device="cuda:1", precision=None, threads=3)
    placed = common.on_machine(recipe, machine)
    assert placed.fit == replace(FIT, device="cuda:1", threads=3)
    assert placed.mean_predictor == replace(mean, fit=replace(mean.fit, device="cuda:1", threads=3))
    assert placed.mean_predictor.fit.precision == "bfloat16"
    machine.precision = "float32"
    assert common.on_machine(recipe, machine).mean_predictor.fit.precision == "float32"
    assert replace(placed, fit=FIT, mean_predictor=mean) == recipe


def test_options_are_keys_of_a_recipe_and_are_refused_where_it_has_none(tmp_path, monkeypatch, capsys):
    recipes = []
    monkeypatch.setattr(common, "import_module", lambda name: SimpleNamespace(train=lambda r, *_: recipes.append(r)))
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "1.png")
    given = ["--size", "32", "--batch-size", "3", "--lr", "0.01", "--steps", "7", "--flip", "--resize", "pad"]
    out = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert main(["train", "pictures", *out, *given]) == 0
    (recipe,) = recipes
    assert (recipe.model.size, recipe.words, recipe.folder) == (32, True, Folder(flip=True, resize="pad"))
    assert (recipe.fit.batch_size, recipe.fit.learning_rate, recipe.fit.steps) == (3, 0.01, 7)
    monkeypatch.undo()
    for command, words in {
        "autoencoder --size 32": "size means nothing with this recipe, which has no model",
        "emoji --flip": "flip means nothing with this recipe, which has no flip",
        "pictures --data data --size 7": "size = 7: choose a whole number from 8 to 4096",
        "pictures --data data --lr 0": "lr = 0.0: choose a number above 0",
        "pictures --data data --batch-size 0": "batch_size = 0: choose a whole number from 1",
        "pictures --data data --resize stretch": "unknown resize 'stretch'",
        "exchange --size 32": "No such option: --size",
    }.items():
        assert main(["train", *command.replace("data data", f"data {tmp_path / 'data'}").split()]) == 2
        assert words in capsys.readouterr().err


def test_a_folder_that_was_looked_at_is_the_same_data(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    before = run._content(tmp_path)
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"windows")
    assert run._content(tmp_path) == before
    (tmp_path / "b.txt").write_text("more")
    assert run._content(tmp_path) != before
