import numpy as np
from PIL import Image

from inkwash.codecs.png import write_png
from inkwash.diffusion import child_seed
from inkwash.systems import report
from inkwash.systems import train as training
from inkwash.systems.base import Limit, Result, recipe, seeded


def limits(folder):
    return {"sampler": Limit(("heun", "ddim", "tuned"), default="heun")}


def scatter(requests, context):
    for of, ask in enumerate(map(seeded, requests)):
        model, seeds = context.model(ask.model), [child_seed(ask.seed, i) for i in range(ask.count)]
        shift = 0 if ask.shift is None else np.loadtxt(context.open(ask.shift), delimiter=",")
        points = model.draw(seeds, ask.sampler, ask.steps) + shift
        files = {ending: context.folder / f"{of}{ending}" for ending in (".png", ".csv")}
        picture = np.where(np.histogram2d(*points.T, 64, [[-8, 8]] * 2)[0], 0, 255).astype(np.uint8)
        made_by = recipe("points", "scatter", ask, model, context)
        write_png(Image.fromarray(picture), files[".png"], made_by)
        np.savetxt(files[".csv"], points, delimiter=",")
        yield Result(of, 0, files, {"radius": float(np.linalg.norm(points, axis=1).mean())}, made_by)


def train(requests, context):
    return training.train(requests, context, {"points": training.Task("points.model")})


def evaluate(requests, context):
    return report.evaluate(requests, context, measure)


def measure(ask, model, context):
    drawn = np.concatenate([*context.map(lambda seed: model.draw([seed]), range(ask.count))])
    points = {"model": drawn, "noise": np.random.default_rng(0).normal(size=(ask.count, 2))}
    off = {name: abs(np.linalg.norm(x, axis=1) - model.radius) for name, x in points.items()}
    rows = [report.row("off", x.mean(), report.bootstrap(x), len(x), source=name) for name, x in off.items()]
    return report.Report(title="How far points lie from the circle.", system="points", seeds=[0], rows=rows)
