import json

import numpy as np
import pytest
import torch

import inkwash
from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder
from inkwash.systems.pictures.model import Config, read_index
from inkwash.systems.pictures.networks import MeanPredictor
from inkwash.weights.shipped import FOLDER
from tests.models import tiny, tiny_autoencoder, tiny_upsampler


@pytest.fixture(scope="module")
def model():
    return tiny()


def test_broken_models_are_refused_in_one_line(model, tmp_path):
    def broken(name, change):
        model.save(tmp_path / name)
        change(tmp_path / name)
        with pytest.raises(UserError) as error:
            inkwash.load(tmp_path / name)
        assert "\n" not in str(error.value)
        return str(error.value)

    def edit(**changes):
        def change(folder):
            facts = json.loads((folder / "system.json").read_text())
            (folder / "system.json").write_text(json.dumps({**facts, **changes}))

        return change

    weights = "unet/diffusion_pytorch_model.safetensors"
    assert "system.json" in broken("a", lambda f: (f / "system.json").write_text("{"))
    assert "does not know" in broken("b", edit(system="weather"))
    assert "unknown schedule" in broken("c", edit(schedule="cosin"))
    assert "unknown parametrization" in broken("h", edit(parametrization="epsilon"))
    assert "no multiple of patch" in broken("i", edit(size=17))
    for file in ("config.json", "tokenizer.json.gz"):
        assert "text encoder" in broken(file, lambda f, file=file: (f / "text_encoder" / file).write_text("{"))
    assert "can read" in broken("d", edit(flavour="sweet"))
    assert weights in broken("e", lambda f: (f / weights).write_bytes((f / weights).read_bytes()[:1000]))
    assert "pickle" in broken("f", lambda f: torch.save({"x": torch.ones(1)}, f / weights))
    assert "no such file" in broken("g", lambda f: (f / weights).unlink())
    with pytest.raises(UserError, match=r"no model there, system\.json is missing"):
        inkwash.load(tmp_path)


def test_noise_prediction_needs_a_schedule_that_keeps_some_signal():
    with pytest.raises(UserError, match="parametrization = eps"):
        Config(parametrization="eps", schedule="cosine")
    with pytest.raises(UserError, match="parametrization = score"):
        Config(parametrization="score")
    assert Config(parametrization="eps", schedule="linear_beta").parametrization == "eps"


def test_a_model_whose_style_list_does_not_fit_its_network(tmp_path):
    with pytest.raises(UserError, match="styles"):
        model = tiny(styles=["flat", "noto"])
        model.save(tmp_path / "m")
        facts = json.loads((tmp_path / "m" / "system.json").read_text())
        (tmp_path / "m" / "system.json").write_text(json.dumps({**facts, "styles": ["flat"]}))
        inkwash.load(tmp_path / "m")


def index(folder):
    return json.loads((folder / "model_index.json").read_text())


def test_the_index_names_the_components_and_where_they_lie(tmp_path):
    model = tiny(latent=True, mean=True, upsampler=True)
    model.save(tmp_path / "m")
    named = index(tmp_path / "m")
    assert named.pop("_class_name") == "Pipeline" and named == {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "upsampler": ["diffusers", "UNet2DConditionModel"],
        "mean_predictor": ["inkwash", "MeanPredictor"],
        "text_encoder": ["inkwash", "TextCodec"],
    }
    for name in named:
        assert any((tmp_path / "m" / name).glob("*.safetensors"))
    for name, other in (("emoji", ["text_encoder"]), ("emoji-fast", [name for name in named if name != "unet"])):
        places = read_index(FOLDER / name)
        assert places.keys() == named.keys()
        assert sorted(key for key, one in places.items() if one.folder != FOLDER / name / key) == sorted(other)


def test_another_component_is_put_in_its_place(tmp_path):
    """The picture changes as the component does, and stays so when saved; no hash says that it is the model's."""
    tiny(latent=True, parametrization="flow").save(tmp_path / "m")
    model = inkwash.load(tmp_path / "m")

    def picture(model):
        return np.asarray(model.generate("a fox", style="flat", seed=3)).astype(int)

    before, vae = picture(model), tiny_autoencoder()
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.5
    model.components["vae"] = vae
    after = picture(model)
    assert (after >= before).all() and (after > before).any() and model.hash is None
    np.testing.assert_array_equal(after, picture(inkwash.load(tmp_path / "m", vae=vae)))
    model.save(tmp_path / "other")
    assert np.abs(picture(inkwash.load(tmp_path / "other")) - after).max() <= 2  # weights of float16
    np.testing.assert_array_equal(picture(inkwash.load(tmp_path / "m")), before)  # which is as it was


def test_components_that_do_not_fit_are_refused_in_one_line(tmp_path):
    tiny(latent=True, mean=True).save(tmp_path / "m")
    model = inkwash.load(tmp_path / "m")
    torch.manual_seed(0)
    wide = Autoencoder(in_channels=4, out_channels=4, block_out_channels=(8,), latent_channels=7, norm_num_groups=4)
    for name, other, words in (
        ("vae", wide, "the autoencoder does not fit the U-Net: its states have 7 channels, the U-Net's 6"),
        ("mean_predictor", MeanPredictor(386, 6, 2), "the mean predictor does not fit"),
        ("unet", tiny_upsampler(), "does not fit the U-Net"),
        ("text_encoder", None, "a U-Net of words, and no text encoder"),
    ):
        with pytest.raises(UserError, match=words) as error:
            inkwash.load(tmp_path / "m", **{name: other})
        assert "\n" not in str(error.value)
        original = model.components[name]
        model.components[name] = other
        with pytest.raises(UserError, match=words):
            model.generate("a fox")
        model.components[name] = original
    with pytest.raises(UserError, match="unknown component 'vea': did you mean vae"):
        inkwash.load(tmp_path / "m", vea="nowhere")
    with pytest.raises(UserError, match="no such file"):
        inkwash.load(tmp_path / "m", vae="nowhere")


def test_a_component_is_added(tmp_path):
    tiny(latent=True).save(tmp_path / "m")
    tiny(latent=True, upsampler=True).save(tmp_path / "whole")
    with_it = inkwash.load(tmp_path / "m", upsampler=tmp_path / "whole" / "upsampler")
    with_it.save(tmp_path / "m")
    assert index(tmp_path / "m") == index(tmp_path / "whole")
    large = [np.asarray(inkwash.load(tmp_path / name).generate("a fox", seed=1, size=64)) for name in ("m", "whole")]
    np.testing.assert_array_equal(*large)


def test_an_index_that_cannot_be_read_is_said_in_one_line(tmp_path):
    tiny().save(tmp_path)
    file = tmp_path / "model_index.json"
    named = index(tmp_path)
    for content, words in (
        (json.dumps({**named, "unet": ["diffusers", "UNetMotionModel"]}), "unet: unknown class 'UNetMotionModel'"),
        (json.dumps({**named, "unet": "UNet"}), "broken or missing"),
        ("{", "broken or missing"),
        (None, "broken or missing"),
    ):
        file.unlink()
        if content is not None:
            file.write_text(content)
        with pytest.raises(UserError, match=rf"model_index\.json: .*{words}") as error:
            inkwash.load(tmp_path)
        assert "\n" not in str(error.value)
        if content is None:
            break
