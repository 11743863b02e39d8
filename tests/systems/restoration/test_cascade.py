"""A cascade: what each stage is told and hands over, each picture alone, exact where the answer is known."""

import numpy as np
import pytest
import torch
from torch import nn

from inkwash import diffusion
from inkwash.errors import UserError
from inkwash.systems.restoration.cascade import Cascade, cosines, of_stage
from inkwash.systems.restoration.upscaler import enlarged
from tests.systems.restoration.toy import cascade

SCHEDULE = diffusion.cosine()


class Knows(nn.Module):
    """Answers with the v of a state that it knows: v = alpha eps - sigma x_0."""

    def __init__(self, state):
        super().__init__()
        self.state, self.told = nn.Parameter(torch.tensor(state)), []

    def forward(self, x, time, **told):
        self.told.append(told)
        at = SCHEDULE.at((time / 1000).reshape(-1, 1, 1, 1))
        return at.alpha * (x - at.alpha * self.state) / at.sigma.clamp(min=1e-6) - at.sigma * self.state


def test_a_picture_is_the_same_alone_and_among_others():
    model = cascade()
    three = model.generate("disc", 3, seed=5)
    assert (model.generate("disc", 1, seed=7)[0] == three[2]).all() and (three[0] != three[1]).any()
    assert (model.generate("disc", 1, seed=2**64 - 1) == model.generate("disc", 2, seed=2**64 - 2)[1:]).all()
    together = model.draw([0, 1, 0], [5, 5, 7])[-1]
    alone = [model.draw([kind], [seed])[-1] for kind, seed in ((0, 5), (1, 5), (0, 7))]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_the_kind_the_steps_and_the_noise_have_a_say():
    model = cascade()
    first = model.generate("disc", seed=1)
    for other in (
        model.generate("square", seed=1),
        model.generate("disc", seed=1, steps=3),
        model.generate("disc", seed=1, noise_level=0.2),
        model.generate("disc", seed=1, truncated=True),
    ):
        assert other.shape == first.shape == (1, 32, 32, 3) and (other != first).any()
    assert (model.generate("disc", seed=1, noise_level=0.1) == first).all()  # its own


def test_every_stage_is_told_the_kind_and_later_ones_the_noise():
    model = cascade()
    knows = [Knows(0.0) for _ in model.stages]
    for stage, network in zip(model.stages, knows, strict=True):
        stage.network = network
    made = model.draw([1], [3], steps=4, noise_level=0.2)
    assert [x.shape[-1] for x in made] == model.sides == [8, 16, 32]
    for k, network in enumerate(knows):
        assert len(network.told) == 4
        for told in network.told:
            assert told["label"].tolist() == [[0.0, 1.0]] and ("concat" in told) == ("noise_level" in told) == (k > 0)
            assert k == 0 or told["noise_level"].item() == pytest.approx(0.2)


@pytest.mark.parametrize("until", [0.1, 0.4])
def test_a_stage_that_is_stopped_hands_over_its_picture_in_noise_of_that_time(until):
    """As the forward process has it: of a known picture alpha times that, and noise of deviation sigma; whatever the
    size of the state, which is counted in other units."""
    model, (alpha, sigma) = cascade(), (SCHEDULE.at(until).alpha, SCHEDULE.at(until).sigma)
    base, stage = model.stages[:2]
    base.network, base.config["residual"] = Knows(0.8), 0.25
    z = base.make(model.labels([0] * 40), range(40), steps=6, until=until)
    noise = (z - alpha * 0.25 * 0.8) / sigma
    assert float(noise.mean()) == pytest.approx(0, abs=0.05) and float(noise.std()) == pytest.approx(1, abs=0.05)
    stage.network, stage.config["residual"] = Knows(0.0), 0.25
    low = torch.linspace(-0.5, 0.5, 64).reshape(1, 1, 8, 8).expand(30, 3, 8, 8) * alpha
    z = stage.enlarge(low, range(30), 6, noise_level=until, noised=True, label=model.labels([0] * 30), until=until)
    noise = (z / alpha - stage.seen(low / alpha, sigma / alpha)[0]) * alpha / sigma
    assert float(noise.mean()) == pytest.approx(0, abs=0.05) and float(noise.std()) == pytest.approx(1, abs=0.05)


def test_noise_is_taken_from_small_pictures_as_far_as_a_linear_filter_can():
    """Of pictures with just that spectrum: the error is as large as it says, and has nothing to do with what was
    seen, so no other linear filter does better."""
    stage, basis = cascade().stages[1], torch.from_numpy(cosines(8))
    assert torch.allclose(basis @ basis.T, torch.eye(8).double(), atol=1e-12)
    power = torch.tensor(stage.config["spectrum"]).double()
    g = torch.Generator().manual_seed(0)
    white, noise = (torch.randn(4000, 3, 8, 8, generator=g, dtype=torch.float64) for _ in range(2))
    clean = basis.T @ (power**0.5 * white) @ basis
    noisy = clean + 0.3 * noise
    smooth = basis.T @ (power / (power + 0.09) * (basis @ noisy @ basis.T)) @ basis
    stage.config["residual"] = 0.0
    found, scale = stage.seen(noisy, 0.3)
    assert torch.allclose(found, enlarged(smooth, 2))
    assert float(((smooth - clean) ** 2).mean()) == pytest.approx(float(scale) ** 2, rel=0.02)
    assert float(scale) ** 2 < 0.09 and abs(float(((smooth - clean) * noisy).mean())) < 0.002
    whole, nothing = stage.seen(clean, 0.0)
    assert torch.allclose(whole, enlarged(clean, 2), atol=1e-6) and float(nothing) == 0


def test_without_noise_stopped_stages_are_whole_ones():
    model = cascade(noise_level=0.0)
    for level in (None, 0.0):
        with pytest.raises(UserError, match="truncated means nothing without noise between stages"):
            model.generate("disc", noise_level=level, truncated=True)
    one, other = (model.draw([0], [4], noise_level=0.0, truncated=truncated) for truncated in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_real_small_pictures_go_through_the_later_stages():
    model = cascade()
    low = torch.rand(2, 3, 8, 8) * 2 - 1
    first, second = model.enlarge(low, [0, 1], [5, 6])
    (alone,) = model.enlarge(first, [0, 1], [5, 6], first=2)
    assert torch.equal(second, alone) and second.shape == (2, 3, 32, 32)
    base, *rest = model.draw([0, 1], [5, 6])
    assert torch.equal(rest[0], model.enlarge(base, [0, 1], [5, 6])[0])


def test_no_stage_has_the_noise_of_another():
    seeds = [seed for stage in range(3) for seed in of_stage(range(20), stage)]
    assert len({*seeds}) == 60 and all(0 <= seed < 2**64 for seed in seeds)


def test_a_model_comes_back_from_its_folder(tmp_path):
    model = cascade()
    model.save(tmp_path)
    again, other = Cascade.load(tmp_path), Cascade.load(tmp_path)
    assert again.config == model.config and again.hash == other.hash
    assert (again.generate("disc", 2) == other.generate("disc", 2)).all()
    assert np.abs(again.generate("disc", 1).astype(int) - model.generate("disc", 1)).mean() < 2  # weights of 16 bits
    model.stages[1].save(tmp_path / "stage")
    with pytest.raises(UserError, match="one stage of a cascade draws nothing alone"):
        Cascade.load(tmp_path / "stage")


def test_what_it_does_not_know_is_one_line():
    model = cascade()
    for options, says in (
        ({"kind": "dics"}, "unknown kind 'dics': did you mean disc"),
        ({"kind": "disc", "noise_level": 0.6}, "noise_level = 0.6: choose a number from 0 to 0.2"),
        ({"kind": "disc", "noise_level": -0.1}, "noise_level = -0.1: choose a number"),
        ({"kind": "disc", "seed": -1}, "a whole number from 0"),
        ({"kind": "disc", "samples": 0}, "samples = 0: choose a whole number from 1"),
        ({"kind": None}, "unknown kind 'None'"),
    ):
        with pytest.raises(UserError, match=says):
            model.generate(**options)
    plain = cascade(augmentation=False, noise_level=0.0)
    with pytest.raises(UserError, match="the model has learned no noise: leave it out"):
        plain.generate("disc", noise_level=0.1)
    assert plain.generate("disc", noise_level=0.0).shape == (1, 32, 32, 3)
