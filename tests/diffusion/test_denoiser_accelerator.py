"""A loss on an accelerator copies nothing from or to the host and waits for nothing, and is that of a CPU."""

import math

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    PARAMETRIZATIONS,
    Categorical,
    Denoiser,
    Torus,
    ZeroCoM,
    betas,
    centred,
    cosine,
    cross_entropy,
    d3pm_bound,
    edm_weight,
    flow_weight,
    log_normal,
    logit_normal,
    min_snr,
    p2,
    rectified_flow,
    symbols_cross_entropy,
    uniform_times,
    unit,
    variance_exploding,
    vlb,
)
from inkwash.training.loss_aware import LossAware
from tests.accelerator import counting
from tests.diffusion.oracle import PROCESSES

DEVICES = ("cpu", "chip")
COSINE = PROCESSES["cosine"]


class Network(torch.nn.Module):
    """Answers with `width` times the channels (axis 1), or with logits of `symbols` if there are."""

    def __init__(self, width=1, symbols=0):
        super().__init__()
        self.width, self.scale = width, torch.nn.Parameter(torch.ones(()))
        self.table = (
            torch.nn.Parameter(torch.sin(torch.arange(symbols**2).reshape(symbols, symbols))) if symbols else None
        )

    def forward(self, x, *times, mask=None, previous=None):
        if self.table is not None:
            return self.table[x] * (1 + times[0].reshape(-1, *[1] * x.ndim) / 1000)
        out = self.scale * torch.sin(x + sum(times).reshape(-1, *[1] * (x.ndim - 1)) / 1000)
        return torch.cat([out if previous is None else out + previous] * self.width, 1)


class Fields(torch.nn.Module):
    """A network for each field of a state."""

    def __init__(self, **networks):
        super().__init__()
        self.networks = torch.nn.ModuleDict(networks)

    def forward(self, x, times, mask=None, previous=None):
        return {name: network(x[name], times[name]) for name, network in self.networks.items()}


def move(value, device):
    return {k: v.to(device) for k, v in value.items()} if isinstance(value, dict) else value.to(device)


def losses(device, network, process, x0, form=None, mask=None, times=None, denoiser=None, **options):
    """Three losses with their gradients, and what the host and the device had to do with each other in the last two:
    the first may send tables."""
    network = Denoiser(network.to(device), process, form, **(denoiser or {}))
    x0, generator = move(x0, device), torch.Generator(device)
    options |= {"generator": generator, "times": times() if times else uniform_times}
    options |= {} if mask is None else {"mask": move(mask, device)}

    def step(seed):
        generator.manual_seed(seed)
        loss = network.loss(x0, **options)
        return loss.detach(), torch.autograd.grad(loss, [*network.network.parameters()], materialize_grads=True)

    found = [step(0)]
    with counting() as counts:
        found += [step(1), step(2)]
    return found, counts


def check(make, **options):
    """`make()` gives the network, process and data: a network moves where it is trained."""
    (expected, _), (found, counts) = (losses(device, *make(), **options) for device in DEVICES)
    assert (counts.copies, counts.async_copies, counts.syncs) == (0, 0, 0), counts
    for (loss, gradients), (expected_loss, expected_gradients) in zip(found, expected, strict=True):
        assert loss.device.type == "chip"
        torch.testing.assert_close(loss.cpu(), expected_loss)
        for gradient, one in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient.cpu(), one)


def numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def tokens(symbols, *shape):
    return torch.randint(symbols, shape, generator=torch.Generator().manual_seed(2))


def some(*shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7
    mask[:, 0] = True
    return mask


FORMS, SCHEDULES = sorted(PARAMETRIZATIONS), sorted(PROCESSES)


@pytest.mark.parametrize("form", range(len(FORMS)))
@pytest.mark.parametrize("schedule", range(len(SCHEDULES)))
def test_parametrizations_schedules_weights_and_times(schedule, form):
    """Each parametrization on each schedule, with each weight on the way."""
    process, turn = PROCESSES[SCHEDULES[schedule]], schedule + form
    weight = [unit, min_snr(), p2(), edm_weight(), flow_weight, vlb(process, 10)][turn % 6]
    law = [uniform_times, logit_normal(), log_normal(process)][(turn + schedule // 6) % 3]
    check(lambda: (Network(), process, numbers(4, 3)), form=FORMS[form], weight=weight, times=lambda: law)


STATES = {
    "masked": lambda: (Network(symbols=5), Categorical.masked(rectified_flow(), 4), tokens(4, 6, 7)),
    "uniform": lambda: (Network(symbols=5), Categorical.uniform(cosine(), 5), tokens(5, 6, 7)),
    "own limits": lambda: (
        Network(symbols=2),
        Categorical(cosine(), ((0.5, 0.5), (0.25, 0.75)) * 3),
        tokens(2, 6, 7),
    ),
    "table": lambda: (Network(symbols=5), Categorical.masked(betas([0.1] * 9), 4), tokens(4, 6, 7)),
    "torus": lambda: (Network(), Torus(variance_exploding()), numbers(6, 7) % 1),
    "centred": lambda: (Network(), ZeroCoM(cosine()), centred(numbers(6, 7, 3), some(6, 7))),
    "fields": lambda: (
        Fields(place=Network(), kind=Network(symbols=4)),
        {"place": COSINE, "kind": Categorical.masked(rectified_flow(), 3)},
        {"place": numbers(6, 7, 2), "kind": tokens(3, 6, 7)},
    ),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_every_kind_of_state(state, masked):
    if state == "centred" and not masked:
        check(lambda: (Network(), ZeroCoM(cosine()), centred(numbers(6, 7, 3))))
        return
    check(STATES[state], mask=some(6, 7) if masked else None)


def test_objectives_and_masks_of_fields():
    for objective in (cross_entropy, d3pm_bound(10)):
        for kind in ("masked", "uniform"):
            check(STATES[kind], objective=objective)
    own_times = {"place": logit_normal(), "kind": uniform_times}
    check(STATES["fields"], mask={"place": some(6, 7), "kind": some(6, 7)}, times=lambda: own_times)


def test_logits_beside_the_answer():
    class Worded(Network):
        def forward(self, x, time):
            return super().forward(x, time), {"logits": self.scale * x[..., :2]}

    symbols = tokens(2, 6, 7)
    for device in DEVICES:
        objective = symbols_cross_entropy(symbols.to(device))
        found, counts = losses(device, Worded(), COSINE, numbers(6, 7, 3), objective=objective)
        assert not counts.places
    assert found[0][0] > 0


def two_levels(count, generator):
    t, share = (uniform_times(count, generator)[:, None] for _ in range(2))
    return COSINE.at(t)._replace(s=COSINE.at(t * share))


def test_learned_variances_and_two_times_and_times_that_follow_the_loss():
    check(lambda: (Network(2), COSINE, numbers(6, 3)), denoiser={"variance_steps": 10})
    check(lambda: (Network(), COSINE, numbers(6, 3)), times=lambda: two_levels, denoiser={"two_times": True})
    check(lambda: (Network(), COSINE, numbers(64, 3)), times=lambda: LossAware(4, history=3))


def test_the_coin_of_self_conditioning_is_thrown_without_a_wait_and_anew_each_time():
    seen = []

    class Told(Network):
        def forward(self, x, time, previous=None):
            seen.append(previous is not None)
            return super().forward(x, time, previous=previous)

    denoiser, x0 = Denoiser(Told().to("chip"), COSINE), numbers(2, 3).to("chip")

    def coins(seed):
        seen.clear()
        generator = torch.Generator("chip").manual_seed(seed)
        for _ in range(40):
            denoiser.loss(x0, self_conditioning=0.3, generator=generator)
        return [*seen]

    first = coins(1)
    with counting() as counts:
        again, other = coins(1), coins(2)
    assert not counts.places and first == again != other
    assert math.isclose(sum(first) / 40, 0.3, abs_tol=0.2)
    check(lambda: (Network(), COSINE, numbers(6, 3)), self_conditioning=1.0)


def outside(count, generator):
    return 2 * uniform_times(count, generator)


WRONG = {
    "a value is not finite": lambda: (Network(), COSINE, torch.tensor([[0.0], [math.nan]]), {}),
    "outside the vocabulary": lambda: (Network(symbols=3), Categorical.uniform(cosine(), 3), torch.tensor([[3]]), {}),
    "outside the cell": lambda: (Network(), Torus(variance_exploding()), torch.tensor([[1.5]]), {}),
    "the centre of mass": lambda: (Network(), ZeroCoM(cosine()), torch.ones(1, 2, 3), {}),
    "mask: true and false": lambda: (Network(), COSINE, torch.ones(1, 2), {"mask": torch.tensor([[1, 2]])}),
    "t.*: from 0": lambda: (Network(), COSINE, torch.ones(9, 2), {"times": lambda: outside}),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_data_end_the_run_without_a_look_at_each_batch(message):
    with pytest.raises(ValueError, match=message):
        losses("cpu", *(case := WRONG[message]())[:3], **case[3])
    with counting() as counts, pytest.raises(RuntimeError, match=message):
        losses("chip", *(case := WRONG[message]())[:3], **case[3])
    assert counts.syncs == 0


@pytest.mark.parametrize("schedule", sorted(PROCESSES))
def test_a_noise_level_has_the_same_time_on_each_device(schedule):
    sigmas = np.geomspace(1e-3, 1e3, 20)
    to_time = PROCESSES[schedule].schedule.sigma_to_t
    found = to_time(torch.from_numpy(sigmas).to("chip"))
    assert found.device.type == "chip"
    np.testing.assert_allclose(found.cpu(), to_time(sigmas), rtol=1e-9, atol=1e-15)
