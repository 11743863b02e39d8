"""What a model answers: each sample by its own seed, the picture encoded once, windows, probabilities."""

import inspect

import numpy as np
import pytest
import torch

from inkwash.errors import UserError
from inkwash.systems.segmentation import model as module
from inkwash.systems.segmentation import sizes
from inkwash.systems.segmentation.calibration import calibrated
from inkwash.systems.segmentation.model import SegmentationModel
from inkwash.systems.segmentation.sizes import needed_memory
from tests.systems.segmentation.cells import cells
from tests.systems.segmentation.toy import facts, model

pytest.importorskip("skimage")
PICTURE = cells(0, 40)[0]


def calls(network, name):
    """How often a method of a network is called."""
    counted, method = [], getattr(network, name)

    def wrapper(*args, **options):
        counted.append(1)
        return method(*args, **options)

    setattr(network, name, wrapper)
    return counted


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (5, 4), (9, 7)])
def test_the_picture_is_encoded_once_whatever_the_steps_and_samples(samples, steps):
    made = model()
    network = made.network.networks[0]
    encoder, unet = calls(network.encoder, "forward"), calls(network.unet, "forward")
    made.segment(PICTURE, samples=samples, steps=steps)
    assert len(encoder) == 1 and len(unet) == steps  # all samples of a step in one call


def test_the_encoder_does_not_see_the_time():
    network = model().network.networks[0]
    assert list(inspect.signature(network.encode).parameters) == ["picture"]


def test_the_sum_comes_in_after_the_first_layer():
    """h = F(x_t) + G(picture): features that are added as a bias of the first convolution would be."""
    network = model().network.networks[0]
    x, features = torch.randn(1, 2, 16, 16), torch.randn(1, 8, 1, 1)
    with torch.no_grad():
        added = network(x, torch.tensor([500.0]), features.expand(-1, -1, 16, 16))
        network.unet.conv_in.bias += features.reshape(-1)
        expected = network.unet(x, torch.tensor([500.0]))
    torch.testing.assert_close(added, expected)


def test_a_sample_is_the_same_alone_and_among_others():
    made = model()
    many = made.draw(PICTURE, 4, seed=7)
    for j in range(4):
        np.testing.assert_allclose(made.draw(PICTURE, 1, seed=7 + j)[0], many[j], rtol=1e-4, atol=1e-5)
    assert np.abs(many[0] - many[1]).max() > 1e-3


def test_batches_of_samples_change_nothing(monkeypatch):
    made = model()
    whole = made.draw(PICTURE, 5)
    monkeypatch.setattr(module, "AT_ONCE", 2 * 40 * 40)
    np.testing.assert_allclose(made.draw(PICTURE, 5), whole, rtol=1e-4, atol=1e-5)


def test_a_large_picture_goes_by_windows_and_a_small_one_does_not():
    made = model()
    unet = calls(made.network.networks[0].unet, "forward")
    made.draw(cells(0, 64)[0], 1, steps=1)
    assert len(unet) == 1
    made.draw(cells(0, 100)[0], 1, steps=1)  # windows of 64, 16 of which are shared: 0 and 40 (100 is padded to 100)
    assert len(unet) == 1 + 4


@pytest.mark.parametrize("size", [(40, 40), (37, 53), (9, 70), (2, 3)])
@pytest.mark.parametrize("scale", [1.0, 0.5, 1.7])
def test_any_size_comes_back_as_it_was(size, scale):
    rng = np.random.default_rng(0)
    made = model(scale=scale)
    found = made.segment(rng.integers(0, 255, size, dtype=np.uint8), samples=2, steps=1)
    assert found.labels.shape == size and found.probability.shape == (1, *size) and found.samples.shape == (2, *size)
    assert found.probability.min() >= 0 and found.probability.max() <= 1


def test_the_mean_is_kept_and_the_probability_is_calibrated():
    made = model(temperature=2.0, distance=False)
    found = made.segment(PICTURE, samples=4)
    drawn = made.draw(PICTURE, 4)
    np.testing.assert_allclose(found.mean[0], drawn[:, 0].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.probability, calibrated(found.mean, 2.0), atol=1e-6)
    assert len(found.samples) == len(found.counts) == 4
    assert [int((one > 0).sum()) for one in found.samples] == found.areas[:, 0].tolist()


def test_classes_have_a_channel_each():
    made = model(classes=["a", "b", "c"], distance=False)
    found = made.segment(PICTURE, samples=2)
    assert found.probability.shape[0] == 3 and found.counts.shape == (2, 3) and made.channels == 3
    assert set(np.unique(found.kinds[found.labels])) <= {0, 1, 2, 3}


def test_a_fitted_interval_of_counts_is_around_the_count():
    found = model(counts=[1.5]).segment(PICTURE)
    count = len(found.kinds) - 1
    low, high = found.count_interval[0]
    assert low <= count <= high and high - count <= 1.5 * (count + 1) ** 0.5
    assert model().segment(PICTURE).count_interval is None


def test_a_plain_model_has_a_sample_of_each_member_and_needs_no_noise():
    made = model(engine="plain", members=3)
    drawn = made.draw(PICTURE)
    assert len(drawn) == 3 and np.array_equal(drawn, made.draw(PICTURE, seed=9))
    for member, one in zip(made.network.networks, drawn, strict=True):
        x, shape = made.prepare(PICTURE)
        x = torch.from_numpy(x)
        with torch.no_grad():
            logits = member(torch.zeros(1, 2, *x.shape[2:]), torch.zeros(1), member.encode(x))
        np.testing.assert_allclose(one, logits.sigmoid()[0, :, : shape[0], : shape[1]], atol=1e-5, rtol=1e-4)


def test_mirrored_pictures_get_mirrored_answers_with_flips():
    made = model(engine="plain")
    once = made.draw(PICTURE, flips=True)
    mirrored = PICTURE[:, ::-1]
    np.testing.assert_allclose(made.draw(mirrored, flips=True), once[..., ::-1], rtol=1e-4, atol=1e-5)
    assert np.abs(made.draw(mirrored) - made.draw(PICTURE)[..., ::-1]).max() > 1e-3


def test_it_is_saved_and_loaded_as_it_is(tmp_path):
    made = model(members=1, choices={"abc": "cell_1"}, counts=[1.2])
    made.save(tmp_path)
    again = SegmentationModel.load(tmp_path)
    assert again.config == made.config and again.hash is not None
    np.testing.assert_allclose(again.draw(PICTURE, 2), made.draw(PICTURE, 2), atol=5e-3)  # float16
    text = (tmp_path / "system.json").read_text()
    (tmp_path / "system.json").write_text(text.replace('"radius"', '"width"'))
    with pytest.raises(UserError, match=r"system.json is broken"):
        SegmentationModel.load(tmp_path)


def test_too_large_a_picture_is_said_before_it_is_begun(monkeypatch):
    monkeypatch.setattr(sizes, "free_memory", lambda: 2e9)
    made = model()
    with pytest.raises(UserError, match=r"a picture of 12000 x 12000 pixels needs about \d+.\d GB, 2.0 are free"):
        made.segment(np.broadcast_to(np.uint8(0), (12_000, 12_000)))
    assert needed_memory(1024, 1024, 0.5, 1, 5) < 0.5e9
    made.segment(PICTURE, samples=1, steps=1)


@pytest.mark.parametrize(
    ("parametrization", "schedule"), [("eps", "linear"), ("v", "linear"), ("x0", "cosine"), ("v", "shifted")]
)
def test_what_the_network_predicts_is_an_option(parametrization, schedule):
    made = model(parametrization=parametrization, schedule=schedule)
    found = made.draw(PICTURE, 2)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    schedule_of = made.denoiser.process.schedule
    assert (schedule_of.at(1.0).alpha > 1e-3) == (schedule == "linear")
    assert (schedule_of.at(0.5).edm_sigma > 9) == (schedule == "shifted")


def test_facts_name_all_that_is_needed():
    made = facts()
    del made["temperature"]
    with pytest.raises(KeyError, match=r"temperature"):
        SegmentationModel.build(made)


@pytest.mark.parametrize("engine", ["segdiff", "plain"])
def test_what_is_no_picture_is_refused(engine):
    made = model(engine=engine)
    for picture in (np.full((9, 9), np.nan), np.zeros((9, 9, 4)), np.zeros((0, 9))):
        with pytest.raises(UserError, match="the picture: "):
            made.segment(picture)


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("segdiff", {"flips": True}),
        ("segdiff", {"samples": 0}),
        ("segdiff", {"steps": 1.5}),
        ("plain", {"samples": 3}),
        ("plain", {"steps": 3}),
        ("plain", {"sampler": "heun"}),
    ],
)
def test_options_that_an_engine_has_none_of_are_refused(engine, options):
    with pytest.raises(UserError, match=f"^{next(iter(options))} "):
        model(engine=engine).segment(cells(0)[0], **options)


def test_a_seed_of_numpy_is_one():
    made = model()
    found = [made.segment(PICTURE, samples=2, seed=seed, steps=1).mean for seed in (3, np.int64(3), np.uint64(3))]
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()
