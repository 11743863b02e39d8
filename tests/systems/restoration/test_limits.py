"""What a model narrows, and what a plan says, without being loaded."""

import pytest

from inkwash.errors import UserError
from inkwash.systems import makes
from inkwash.systems.base import File
from inkwash.systems.restoration.limits import cascade_limits, limits, plan
from inkwash.systems.restoration.request import Edit, Upscale
from tests.systems.restoration.toy import cascade, editor, upscaler

FILES = tuple(File(str(i) * 64, f"{i}.png") for i in range(3))


def test_defaults_are_the_models_own_and_a_plain_one_has_none(tmp_path):
    upscaler(samples=5).save(tmp_path / "up")
    upscaler(engine="plain").save(tmp_path / "plain")
    editor(tasks=["inpaint", "restore"]).save(tmp_path / "ed")
    found = limits(tmp_path / "up")
    assert (found["samples"].default, found["steps"].default, found["factor"].default) == (5, 3, 2)
    assert all(limits(tmp_path / "plain")[name].absent for name in ("samples", "steps", "noise_level"))
    assert limits(tmp_path / "ed")["task"].choices == ("inpaint", "restore")
    assert makes(tmp_path / "up") == "pictures 2 times larger, by diffusion"
    assert makes(tmp_path / "plain") == "pictures 2 times larger, without diffusion"
    assert makes(tmp_path / "ed") == "edited photographs (inpaint, restore), by diffusion"


def test_a_cascade_has_its_kinds_and_without_augmentation_no_noise(tmp_path):
    model = cascade()
    model.save(tmp_path / "on")
    cascade(augmentation=False, noise_level=0.0).save(tmp_path / "off")
    model.stages[0].save(tmp_path / "stage")
    found = cascade_limits(tmp_path / "on")
    assert found["kind"].choices == ("disc", "square") and found["steps"].default == 2
    assert found["noise_level"].default == 0.1 and "truncated" not in found
    assert all(cascade_limits(tmp_path / "off")[name].absent for name in ("noise_level", "truncated"))
    with pytest.raises(UserError, match="one stage of a cascade draws nothing alone"):
        cascade_limits(tmp_path / "stage")
    assert makes(tmp_path / "on") == "pictures of disc, square, 32 pixels wide"
    assert makes(tmp_path / "stage") == "one stage of a cascade, which draws nothing alone"


def test_a_plan_grows_with_pictures_samples_steps_and_the_factor(tmp_path):
    upscaler(factor=2).save(tmp_path / "two")
    upscaler(factor=4).save(tmp_path / "four")
    upscaler(engine="plain").save(tmp_path / "plain")
    editor().save(tmp_path / "ed")

    def seconds(name, files=FILES[:1], **options):
        return plan(Upscale(pictures=files, model="m", **options), tmp_path / name, "cpu", 1)

    one = seconds("two", samples=1, steps=2)
    for other, times in (
        (seconds("two", FILES, samples=1, steps=2), 3),
        (seconds("two", samples=4, steps=2), 4),
        (seconds("two", samples=1, steps=10), 5),
        (seconds("four", samples=1, steps=2), 4),
        (seconds("plain"), 0.5),
    ):
        assert abs(other.seconds / one.seconds / times - 1) < 0.02
    assert seconds("two", samples=4).bytes == 4 * one.bytes
    edited = plan(Edit(picture=FILES[0], model="m", task="restore", samples=1, steps=2), tmp_path / "ed", "cpu", 1)
    assert edited.seconds < one.seconds / 3 and plan(None, None, "cpu", 1).seconds is None
