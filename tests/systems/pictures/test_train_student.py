"""A student learns where its teacher's walks end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import inkwash
from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.pictures import emoji_data, model, train_student
from inkwash.training.recipe import load_recipe
from inkwash.training.settings import Settings
from inkwash.training.tune import roll_out
from tests.models import tiny
from tests.systems.pictures.discs import red_discs
from tests.systems.pictures.fits import fits_of, loss_of, numbers_of


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A teacher, its student, and the recipe of that."""
    folder = tmp_path_factory.mktemp("student")
    tiny(latent=True, mean=True, parametrization="flow", guidance=2.0).save(folder / "teacher")
    settings = Settings(steps=400, batch_size=32, learning_rate=4e-3, warmup=5, lr_decay="cosine", ema_decay=0.9)
    recipe = train_student.Recipe("student", folder, str(folder / "teacher"), 256, settings, steps=6, student_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji_data, "load", lambda *_, **__: red_discs())
        patch.setattr(model, "FOLDER", folder)  # as if the teacher were a shipped model
        train_student.train(recipe, folder / "run")
        yield inkwash.load(folder / "teacher"), inkwash.load(folder / "run" / "model"), recipe


@pytest.mark.slow
def test_one_step_of_the_student_comes_nearer_to_the_ends_of_the_walks_it_learned_from(taught):
    teacher, student, recipe = taught
    prompts, styles = train_student.sample_prompts(recipe)
    seeds = range(len(prompts))

    def trajectory(pipeline, sampler, steps):
        grid = diffusion.uniform(pipeline.denoiser.process, steps)
        return pipeline.problem_of(prompts, styles, seeds).sample(sampler, grid)

    goal = trajectory(teacher, diffusion.dpmpp_2m, recipe.steps)
    for steps, share in ((1, 0.7), (2, 1.0)):  # the second sets out from new noise: it leads to another end
        error, rival = (
            (trajectory(one, diffusion.consistency, steps) - goal).square().mean().item()
            for one in (student, teacher)
        )
        print(steps, error, rival)
        assert error < share * rival
    assert student.config.sampler == "consistency"
    assert student.config.guidance == 1.0 and student.config.steps == 1


def test_a_student_shares_the_other_networks_of_its_teacher(taught):
    teacher, student, _ = taught
    assert {path.name for path in student.folder.iterdir()} == {
        "unet",
        "system.json",
        "model_index.json",
        "training.json",
    }
    for ours, theirs in ((student.vae, teacher.vae), (student.mean_predictor, teacher.mean_predictor)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert student.hash != teacher.hash
    picture = student.generate("an apple", style="flat", seed=1)
    assert picture.info and np.asarray(picture).shape == (16, 16, 3)


def test_a_teacher_of_icons_is_refused(tmp_path):
    tiny(mean=True, distance_field=True, parametrization="flow").save(tmp_path / "teacher")
    recipe = train_student.Recipe("student", tmp_path, tmp_path / "teacher", 4, Settings(steps=1))
    with pytest.raises(UserError, match="a model of icons; a student learns from one of emoji"):
        train_student.train(recipe, tmp_path / "run")


def test_a_teacher_without_words_is_refused(tmp_path, monkeypatch):
    wordless = tiny()
    del wordless.components["text_encoder"]
    monkeypatch.setattr(train_student.Pipeline, "load", lambda *_, **__: wordless)
    recipe = train_student.Recipe("student", tmp_path, "none", 4, Settings(steps=1))
    with pytest.raises(UserError, match="without words"):
        train_student.train(recipe, tmp_path)


NETWORK = {
    "block_out_channels": [8],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_data, "load", lambda *_, **__: red_discs())
    tiny(latent=True, mean=True, parametrization="flow", guidance=2.0).save(tmp_path / "teacher")
    settings = Settings(steps=4, batch_size=4)
    return train_student.Recipe("student", tmp_path, tmp_path / "teacher", 43, settings, steps=3, student_steps=1)


def test_the_loss_of_a_batch_is_the_distance_to_the_ends_of_its_walks(recipe, tmp_path):
    """The prompts of all walks are encoded once, and a batch is numbers: the loss is as if each were asked anew."""
    (call,) = fits_of(train_student, lambda: train_student.train(recipe, tmp_path / "run"))
    teacher, (prompts, styles) = inkwash.load(tmp_path / "teacher"), train_student.sample_prompts(recipe)
    grid = diffusion.uniform(teacher.denoiser.process, recipe.steps)
    for k in range(3):
        batch = call.batch(k)
        assert batch["step"] == k and batch["rows"].dtype.kind == "i"
        own, states = [prompts[i] for i in batch["rows"]], [styles[i] for i in batch["rows"]]
        walks = roll_out(teacher.problem_of(own, states, batch["rows"].tolist()), grid).states
        with torch.no_grad():
            x0 = teacher.denoiser(walks[k], grid[k], teacher.condition(own, states)).x0
        expected = (x0 - walks[-1]).square().mean() / grid[k].sigma
        torch.testing.assert_close(loss_of(call, batch), expected, atol=1e-3, rtol=2e-3)


def test_one_walk_in_twenty_is_held_out_and_measured_at_every_step(recipe, tmp_path):
    (call,) = fits_of(train_student, lambda: train_student.train(recipe, tmp_path / "run"))
    assert numbers_of(call.held_out) == {19, 39} and [batch["step"] for batch in call.held_out] == [0, 1, 2]
    assert numbers_of(call.batch(k) for k in range(50)) == {*range(43)} - {19, 39}


def test_a_student_may_be_a_smaller_network_that_learns_from_scratch(recipe, tmp_path):
    train_student.train(replace(recipe, network=NETWORK, sampler="ddim"), tmp_path / "run")
    student, teacher = inkwash.load(tmp_path / "run" / "model"), inkwash.load(tmp_path / "teacher")
    size, teacher_size = (sum(p.numel() for p in one.unet.parameters()) for one in (student, teacher))
    assert size < teacher_size and student.unet.config["block_out_channels"] == [8]
    assert np.asarray(student.generate("a cat", seed=1)).shape == (16, 16, 3)
    with pytest.raises(UserError, match=r"\[network\] cross_attention_dim, in_channels: it follows"):
        keys = {"in_channels": 3, "cross_attention_dim": 8}
        train_student.train(replace(recipe, network=NETWORK | keys), tmp_path / "other")


def test_a_sampler_that_a_student_cannot_use_is_refused_before_anything_is_computed(tmp_path):
    file = tmp_path / "r.toml"
    text = 'task = "student"\ndata = "none"\nteacher = "none"\ntrajectories = 4\nsampler = "{}"\n[fit]\nsteps = 1\n'
    file.write_text(text.format("eulers"))
    with pytest.raises(UserError, match=r"'eulers'.*euler"):
        load_recipe(file, train_student.Recipe)
    file.write_text(text.format("dpmpp_2m"))  # one for means
    with pytest.raises(UserError, match="'dpmpp_2m'"):
        load_recipe(file, train_student.Recipe)
    file.write_text(text.format("ddim"))
    assert load_recipe(file, train_student.Recipe).sampler == "ddim"


def test_an_accelerator_draws_many_walks_at_once(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(train_student, "BATCH_SIZE", 2)
    monkeypatch.setattr(train_student, "fixed_shapes", lambda device: True)
    fits_of(train_student, lambda: train_student.train(recipe, tmp_path / "run"))
    assert len([*(tmp_path / "run").glob("trajectories-*.safetensors")]) == 2  # of 43: 32, and 11
