"""A student learns where its teacher's walks end."""

import numpy as np
import pytest
import torch

import inkwash
from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.pictures import emoji_data, model, train_student
from inkwash.training.settings import Settings
from tests.models import tiny
from tests.systems.pictures.test_train import red_discs


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


def test_a_teacher_without_words_is_refused(tmp_path, monkeypatch):
    wordless = tiny()
    del wordless.components["text_encoder"]
    monkeypatch.setattr(train_student.Pipeline, "load", lambda *_, **__: wordless)
    recipe = train_student.Recipe("student", tmp_path, "none", 4, Settings(steps=1))
    with pytest.raises(UserError, match="without words"):
        train_student.train(recipe, tmp_path)
