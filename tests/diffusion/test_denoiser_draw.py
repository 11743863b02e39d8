"""`draw`, and calls of a denoiser with a tensor of times: what every training of one's own is made of."""

import pytest
import torch

from inkwash.diffusion import (
    PARAMETRIZATIONS,
    Categorical,
    Denoiser,
    Gaussian,
    NoiseLevel,
    Torus,
    ZeroCoM,
    centred,
    cosine,
    cross_entropy,
    euler,
    flow_weight,
    rectified_flow,
    sample,
    uniform,
    variance_exploding,
)
from tests.diffusion.oracle import MEAN, VARIANCE

FLOW = Gaussian(rectified_flow())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Small(torch.nn.Module):
    """A network of a number and a time."""

    def __init__(self, width=48):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, width), torch.nn.SiLU(), torch.nn.Linear(width, width), torch.nn.SiLU(),
            torch.nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, x, t, **condition):
        return self.layers(torch.cat([x, t[:, None] / 1000], 1))


def trained(denoiser, loss, steps=500):
    optimizer = torch.optim.Adam(denoiser.network.parameters(), 1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        loss(generator(step)).backward()
        optimizer.step()
        decay.step()
    return denoiser


def test_draw_is_the_noise_that_it_returns():
    x0, times = torch.randn(4, 3), torch.tensor([0.1, 0.4, 0.6, 1.0], dtype=torch.float64)
    x, t, eps = Denoiser(None, FLOW).draw(x0, times, generator())
    assert isinstance(t, NoiseLevel) and t.t.shape == (4, 1) and x.dtype == eps.dtype == x0.dtype
    torch.testing.assert_close(x, (1 - times[:, None]).float() * x0 + times[:, None].float() * eps)
    torch.testing.assert_close(eps, torch.randn(4, 3, generator=generator()), rtol=0, atol=0)
    again = Denoiser(None, FLOW).draw(x0, times, eps=eps)[0]
    torch.testing.assert_close(again, x, rtol=0, atol=0)


def test_draw_of_a_dict_takes_one_time_or_one_a_field_and_some_of_the_noise():
    processes = {"place": FLOW, "kind": Categorical.masked(rectified_flow(), 3)}
    x0 = {"place": torch.randn(6, 2), "kind": torch.randint(3, (6, 4))}
    half, one = torch.full((6,), 0.5), torch.ones(6)
    denoiser, mine = Denoiser(None, processes), torch.randn(6, 2)
    x, t, eps = denoiser.draw(x0, half, generator(), eps={"place": mine})
    torch.testing.assert_close(x["place"], (x0["place"] + mine) / 2)
    assert float(t["kind"].t[0]) == 0.5 and eps["kind"].shape == (6, 4)
    kept = eps["kind"] < 0.5
    assert torch.equal(x["kind"], torch.where(kept, x0["kind"], 3)) and 0 < kept.float().mean() < 1
    x, t, _ = denoiser.draw(x0, {"place": half, "kind": one}, generator())
    assert bool((x["kind"] == 3).all()) and float(t["place"].t[0]) == 0.5


def test_masked_elements_are_nothing_in_a_draw_whatever_stands_there():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    sets = centred(torch.randn(2, 3, 2), mask)
    cases = [
        (FLOW, torch.randn(2, 3), float("nan")),
        (Categorical.masked(rectified_flow(), 3), torch.randint(3, (2, 3)), -1),
        (Torus(variance_exploding(0.01, 0.7)), torch.rand(2, 3), 7.0),
        (ZeroCoM(rectified_flow()), sets, 100.0),
    ]
    for process, x0, junk in cases:
        padded = x0.clone()
        padded[0, 2] = junk
        x, _, eps = Denoiser(None, process).draw(padded, torch.full((2,), 0.3), generator(), mask)
        assert bool((x[0, 2] == 0).all()), process
        clean = process.project(x0, mask)
        same = Denoiser(None, process).draw(clean, torch.full((2,), 0.3), mask=mask, eps=eps)[0]
        torch.testing.assert_close(x, same)


@pytest.mark.parametrize("form", PARAMETRIZATIONS)
@pytest.mark.parametrize("schedule", [cosine(), rectified_flow(), variance_exploding()])
def test_gradients_reach_state_times_and_weights_and_are_right(form, schedule):
    """Against differences, in float64; of the time through alpha, sigma, c_in and what the network is told."""
    weight = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    denoiser = Denoiser(lambda x, t: torch.sin(weight * x + t[:, None] / 1000), Gaussian(schedule), form)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64, requires_grad=True)

    def clean(x, t, w):
        return denoiser(x, t).x0

    assert torch.autograd.gradcheck(clean, (x, t, weight), rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        for i in range(3):
            alone = denoiser(x[i : i + 1], float(t[i])).x0
            torch.testing.assert_close(clean(x, t, weight)[i : i + 1], alone)


def test_gradients_pass_through_draw():
    x0 = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    eps = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x0, t, eps: Denoiser(None, FLOW).draw(x0, t, eps=eps)[0], (x0, t, eps))


@pytest.mark.parametrize("form", PARAMETRIZATIONS)
def test_the_loss_is_a_draw_a_call_and_the_objective(form):
    denoiser = Denoiser(Small(), Gaussian(cosine()), form)
    x0, times = torch.randn(16, 1), torch.rand(16, dtype=torch.float64) * 0.8 + 0.1
    loss = denoiser.loss(x0, times=lambda n, g: times, generator=generator(), weight=flow_weight)
    x, t, _ = denoiser.draw(x0, times, generator())
    velocity = ((t.alpha + t.sigma) / t.sigma) ** 2
    by_hand = (velocity * (denoiser(x, t).x0 - x0) ** 2).mean()
    torch.testing.assert_close(loss, by_hand, rtol=2e-4, atol=1e-6)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) and p.grad.abs().sum() > 0 for p in denoiser.network.parameters())


def test_the_loss_of_tokens_is_a_draw_a_call_and_the_objective():
    process = Categorical.masked(rectified_flow(), 3)
    table = torch.randn(4, 4)
    denoiser = Denoiser(lambda x, t: table[x], process)
    x0, times = torch.randint(3, (16, 5)), torch.rand(16, dtype=torch.float64)
    loss = denoiser.loss(x0, times=lambda n, g: times, generator=generator(), objective=cross_entropy)
    x, t, _ = denoiser.draw(x0, times, generator())
    log_p = denoiser(x, t).x0[..., :3].log_softmax(-1).gather(-1, x0[..., None])[..., 0]
    torch.testing.assert_close(loss, -(log_p * (x == 3)).mean())


def error_of_one_step(denoiser, z, end):
    return float(
        (sample(denoiser, (1,), euler, uniform(FLOW, 1), range(len(z)), x=z, device="cpu") - end).abs().mean()
    )


def test_reflow_straightens():
    """A flow of independent pairs needs many steps; trained again on its own pairs it needs one."""
    z = torch.randn(512, 1, generator=generator(1))
    first = Denoiser(lambda x, t: velocity(x, t[:, None] / 1000), FLOW, "flow")
    x0 = sample(first, (1,), euler, uniform(FLOW, 100), range(512), x=z, device="cpu")
    second = Denoiser(Small(), FLOW, "flow")

    def loss(g):
        x, t, _ = second.draw(x0, torch.rand(512, generator=g, dtype=torch.float64).clamp(min=0.02), eps=z)
        return (((second(x, t).x0 - x0) / t.sigma) ** 2).mean()

    before = error_of_one_step(first, z, x0)
    after = error_of_one_step(trained(second, loss, 300), z, x0)
    assert before == pytest.approx((2 / torch.pi * VARIANCE) ** 0.5, rel=0.2)  # all at the mean of the data
    assert after < before / 5


def velocity(x, t):
    """E[eps - x_0 | x_t] of N(MEAN, VARIANCE), independent of the noise."""
    return (t - (1 - t) * VARIANCE) / ((1 - t) ** 2 * VARIANCE + t**2) * (x - (1 - t) * MEAN) - MEAN


def unexplained(x, target):
    """E Var(target | x): half the mean squared difference of neighbours in x."""
    order = x[:, 0].argsort()
    return float((target[order].diff(dim=0) ** 2).mean() / 2)


def test_a_minibatch_coupling_lowers_the_variance_of_the_target():
    n, batch = 16_384, 64
    x0, eps = (
        MEAN + VARIANCE**0.5 * torch.randn(n, 1, generator=generator(2)),
        torch.randn(n, 1, generator=generator(3)),
    )
    half = torch.full((n,), 0.5)
    denoiser = Denoiser(None, FLOW, "flow")
    x, _, z = denoiser.draw(x0, half, eps=eps)
    alone = unexplained(x, z - x0)
    exact = 1 + VARIANCE - (0.5 - 0.5 * VARIANCE) ** 2 / (0.25 * VARIANCE + 0.25)
    assert alone == pytest.approx(exact, rel=6 * (3 / n) ** 0.5)
    order = x0.reshape(-1, batch).argsort(1).argsort(1)  # optimal transport on a line keeps the order
    paired = eps.reshape(-1, batch).sort(1).values.gather(1, order).reshape(n, 1)
    x, _, z = denoiser.draw(x0, half, eps=paired)
    assert unexplained(x, z - x0) < alone / 5


def test_a_bridge_leads_from_picture_to_picture():
    """The other end is a picture: what is learned between the two carries one into the other, without noise."""

    def pair(g, n=256):
        clean = torch.randn(n, 1, generator=g)
        return clean, 0.3 * clean + 1.5

    bridge = Denoiser(Small(), FLOW, "x0")

    def loss(g):
        clean, seen = pair(g)
        x, t, _ = bridge.draw(clean, torch.rand(256, generator=g, dtype=torch.float64), eps=seen)
        return ((bridge(x, t).x0 - clean) ** 2).mean()

    trained(bridge, loss)
    clean, seen = pair(generator(10**6), 500)
    got = sample(bridge, (1,), euler, uniform(FLOW, 8), range(500), x=seen, device="cpu")
    assert float((got - clean).abs().mean()) < 0.1 < 0.5 < float((seen - clean).abs().mean())
