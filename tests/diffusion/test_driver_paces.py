"""Fields that are asked at their own paces, in one run with one joint denoiser."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from inkwash.diffusion import (
    SAMPLERS,
    Categorical,
    DiffusionError,
    Gaussian,
    ModelCall,
    Prediction,
    StepResult,
    ZeroCoM,
    ancestral,
    annealed_langevin,
    cosine,
    ddim,
    dpmpp_2m,
    dpmpp_sde,
    heun,
    predictor_corrector,
    rectified_flow,
    repaint,
    sample,
    uniform,
    unmask,
)
from tests.diffusion.oracle import denoise as gaussian

PLACE, KIND = Gaussian(cosine()), Categorical.masked(rectified_flow(), 3)
SHAPE = {"place": (4,), "kind": (5,)}
SHARES = np.array([0.5, 0.2, 0.3, 0.0])


def tokens(x, t):
    xp = torch if isinstance(x, torch.Tensor) else np
    logits = xp.asarray(np.log(SHARES + 1e-30).astype(np.float32))
    return Prediction(xp.broadcast_to(logits, (*x.shape, 4)))


def independent(x, t, condition=None):
    """Two fields that do not know of each other; any subset of them."""
    return {name: (gaussian if "float" in str(part.dtype) else tokens)(part, t[name]) for name, part in x.items()}


RUNS = {
    "corrections beside ancestral": (
        {"place": partial(predictor_corrector, corrections=3), "kind": ancestral},
        {"place": uniform(PLACE, 8, start=0.95), "kind": uniform(KIND, 8, start=0.95)},
    ),
    "langevin beside openings": (
        {"place": partial(annealed_langevin, corrections=2), "kind": unmask},
        {"place": uniform(PLACE, 6, start=0.9), "kind": uniform(KIND, 3)},
    ),
    "langevin beside ddim": (
        {"place": annealed_langevin, "kind": ddim},
        {"place": uniform(PLACE, 6, start=0.9), "kind": uniform(Gaussian(rectified_flow()), 6, start=0.9)},
    ),
    "10 steps beside 40": (
        {"place": ddim, "kind": ancestral},
        {"place": uniform(PLACE, 10, start=0.99), "kind": uniform(KIND, 40)},
    ),
    "40 steps beside 10": (
        {"place": dpmpp_2m, "kind": ancestral},
        {"place": uniform(PLACE, 40, start=0.99), "kind": uniform(KIND, 10)},
    ),
    "two calls a step beside jumps back": (
        {"place": heun, "kind": partial(repaint, jump_length=2, n_resample=3)},
        {"place": uniform(PLACE, 5, start=0.99), "kind": uniform(KIND, 6)},
    ),
    "a path beside churn": (
        {"place": dpmpp_sde, "kind": ancestral},
        {"place": uniform(PLACE, 7, start=0.9, end=0.1), "kind": uniform(KIND, 5, start=0.5)},
    ),
}


def run(denoise, name, fields=tuple(SHAPE), **options):
    samplers, grids = RUNS[name]
    shape, walk, grid = ({field: part[field] for field in fields} for part in (SHAPE, samplers, grids))
    return sample(denoise, shape, walk, grid, range(6), **options)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("name", RUNS)
def test_fields_that_do_not_know_of_each_other_are_drawn_as_if_each_were_alone(name, device):
    together = run(independent, name, device=device)
    for field in SHAPE:
        alone = run(independent, name, (field,), device=device)[field]
        np.testing.assert_array_equal(np.asarray(together[field]), np.asarray(alone))


@pytest.mark.parametrize("name", RUNS)
def test_what_stands_is_seen_at_its_own_state_and_level(name):
    """Each call shows of each field what its own sampler, run alone, asked last or has stepped to last."""
    samplers, grids = RUNS[name]
    alone = {field: [] for field in SHAPE}
    calls = []

    def recorded(f, field):
        def walk(x, grid, noise):
            own, reply = f(x, grid, noise), None
            alone[field].append((x, grid[0]))
            while True:
                try:
                    request = own.send(reply)
                except StopIteration as stop:
                    return stop.value
                place = (request.x, request.t) if isinstance(request, ModelCall) else (request.x, request.s)
                alone[field].append(place)
                reply = yield request

        return walk

    def denoise(x, t, condition=None):
        calls.append({field: (x[field], t[field]) for field in SHAPE})
        return independent(x, t)

    walks = {field: recorded(f, field) for field, f in samplers.items()}
    sample(denoise, SHAPE, walks, grids, range(3))
    for field, places in alone.items():
        at = 0
        for call in calls:
            x, t = call[field]
            while not (places[at][1].t == t.t and np.array_equal(places[at][0], x)):  # in order, none made up
                at += 1
            assert (places[at][1].alpha, places[at][1].sigma) == (t.alpha, t.sigma)


def test_the_field_that_is_behind_is_asked_first_and_the_other_waits():
    """10 steps beside 40, both even: the times of a call never differ by more than a step of the coarser grid."""
    seen = []

    def denoise(x, t, condition=None):
        seen.append((t["place"].t, t["kind"].t))
        return independent(x, t)

    grids = {"place": uniform(PLACE, 10, start=0.99), "kind": uniform(KIND, 40, start=0.99)}
    steps = []
    sample(
        denoise,
        SHAPE,
        {"place": ddim, "kind": ancestral},
        grids,
        [0],
        hooks=[lambda step, noise: steps.append(sorted(step))],
        progress=lambda done, total: None,
    )
    place, kind = zip(*seen, strict=True)
    assert max(abs(a - b) for a, b in seen) <= 0.99 / 10 + 1e-9
    assert sorted(set(kind), reverse=True) == pytest.approx(grids["kind"].times[:-1])
    assert set(place) <= set(grids["place"].times)
    assert sum("place" in names for names in steps) == 10 and sum("kind" in names for names in steps) == 40
    assert len(seen) <= 50  # never more than the two alone


def test_corrections_see_the_tokens_already_stepped():
    """The corrector works at the new time: beside it the token stands at its new state and time, within one step."""
    seen = []

    def denoise(x, t, condition=None):
        seen.append((t["place"].t, t["kind"].t, x["kind"].copy()))
        return independent(x, t)

    samplers, grids = RUNS["corrections beside ancestral"]
    sample(denoise, SHAPE, samplers, grids, range(3))
    times = grids["place"].times
    expected = [t for t, s in pairwise(times) for t in ([t] if not s else [t, s, s, s])]
    assert [place for place, _, _ in seen] == [kind for _, kind, _ in seen] == pytest.approx(expected)
    for i in range(0, len(seen) - 4, 4):
        now = [kind for _, _, kind in seen[i + 1 : i + 5]]
        assert all(np.array_equal(now[0], later) for later in now[1:])


def test_previous_answers_are_of_all_fields_at_any_pace():
    told = []

    def denoise(x, t, condition):
        told.append(condition["previous"])
        return independent(x, t)

    run(denoise, "10 steps beside 40", self_conditioning=True)
    assert told[0] is None and all(sorted(previous) == ["kind", "place"] for previous in told[1:])


def test_a_standing_point_set_is_seen_in_its_space():
    """While tokens are opened, and in the corrector's calls, points are centred and nothing stands in the padding."""
    points = ZeroCoM(cosine())
    mask = {"points": np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool), "kind": np.ones((2, 4), bool)}

    def denoise(x, t, condition=None):
        assert abs(x["points"].sum(1)).max() < 1e-5
        assert (x["points"][0, 3] == 0).all()
        return {"points": Prediction(0.9 * x["points"] + 1), "kind": tokens(x["kind"], t["kind"])}

    def asks_again(x, grid, noise):
        """A sampler of tokens that asks once more at the end of each step."""
        for t, s in pairwise(grid):
            prediction = yield ModelCall(x, t)
            x = grid.process.transition(x, t, s, prediction).sample(noise)
            if s.sigma:
                yield ModelCall(x, s)
            x = yield StepResult(x, t, s, prediction)
        return x

    grids = {"points": uniform(points, 4, start=0.9), "kind": uniform(KIND, 4, start=0.9)}
    shape, walks = {"points": (4, 2), "kind": (4,)}, {"points": ancestral, "kind": asks_again}
    sample(denoise, shape, walks, grids, [0, 1], mask=mask)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process", [KIND, Categorical.uniform(rectified_flow(), 4)])
def test_a_sampler_of_numbers_refuses_tokens_and_one_of_tokens_draws_them(name, process):
    def denoise(x, t, condition=None):
        return tokens(x, t)

    def draw():
        return sample(denoise, (5,), SAMPLERS[name], uniform(process, 4, start=0.9), range(3))

    if name in ("ancestral", "repaint") or (name == "unmask" and process.mask is not None):
        x = draw()
        assert x.dtype == np.int64 and x.min() >= 0 and x.max() < 3
    else:
        with pytest.raises(DiffusionError, match=name) as error:
            draw()
        assert "\n" not in str(error.value)


def test_unmask_refuses_numbers():
    with pytest.raises(DiffusionError, match="mask"):
        sample(gaussian, (5,), unmask, uniform(PLACE, 4), [0])
