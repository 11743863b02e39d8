import json
import secrets

import numpy as np

from inkwash.codecs.png import write_png
from inkwash.diffusion import child_seed
from inkwash.systems.base import Limit, Progress, Result
from inkwash.systems.train import Task
from inkwash.systems.train import train as train_by

from .model import picture


def limits(folder):
    return {"sampler": Limit(tuple(json.loads((folder / "system.json").read_text())["samplers"]))}


def makes(facts):
    return f"points on a circle of {facts['radius']}"


def scatter(requests, context):
    for of, ask in enumerate(requests):
        model, seed = context.model(ask.model), secrets.randbelow(2**32) if ask.seed is None else ask.seed
        points = model.draw([child_seed(seed, i) for i in range(ask.count)], ask.sampler)
        if ask.shift is not None:
            points = points + np.loadtxt(context.open(ask.shift), delimiter=",")
        context.tell(Progress(1, 1))
        files = {".png": context.folder / f"{of}.png", ".csv": context.folder / f"{of}.csv"}
        recipe = ask.facts() | {"seed": seed, "hash": model.hash, "system": "points", "verb": "scatter"}
        recipe |= {"device": "cpu", "precision": "float32", "runtime": "torch", "threads": 1}
        np.savetxt(files[".csv"], points, delimiter=",")
        write_png(picture(points), files[".png"], recipe)
        yield Result(of, 0, files, {"radius": float(np.linalg.norm(points, axis=1).mean())}, recipe)


def train(requests, context):
    return train_by(requests, context, {"points": Task("points.model")})


def evaluate(requests, context):
    for of, ask in enumerate(requests):
        model = context.model(ask.model)
        noise = np.random.default_rng(0).normal(size=(ask.count, 2))
        off = {
            name: float(abs(np.linalg.norm(x, axis=1) - model.facts["radius"]).mean())
            for name, x in (("model", model.draw(range(ask.count))), ("noise", noise))
        }
        file = context.folder / "report.json"
        file.write_text(json.dumps(off))
        text = "\n".join(f"| {name} | {value:.2f} |" for name, value in off.items())
        yield Result(of, None, {"report.json": file}, {"text": text})
