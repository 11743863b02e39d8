"""How long a picture takes, beside diffusers with the same weights: docs/results/speed.json.

python benchmarks/speed.py [--model emoji] [--steps 20] [--rounds 9]

diffusers opens the folder as it is: UNet2DConditionModel from unet/, AutoencoderKL from vae/, and its
FlowMatchEulerDiscreteScheduler. The words go in as our text encoder's states, and what the U-Net is shown beside the
state as our mean prediction. Both walk Euler's steps from the same noise, guided in every step, so both draw the
same picture, which is checked. Then all ways take turns, on one thread each; told are the medians, and the median of
the ratios of the turns. Cold starts are processes of their own, from the shell to the file, alone and with one core
kept busy.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import common
import inkwash
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.codecs import latents

RESULT = ROOT / "docs" / "results" / "speed.json"
PROMPT, STYLE, SEED = "a red fox", "flat", 7
STARTS = 1 if QUICK else 5


def pipeline(ours: Any, steps: int, guidance: float) -> Callable[[], np.ndarray]:
    """One guided picture by diffusers alone, but for the words, their mean and the noise, which are ours."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(ours.folder / "unet").eval()
    vae = AutoencoderKL.from_pretrained(ours.folder / "vae").eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    start = torch.from_numpy(diffusion.Noise([SEED], ours.shape).normal())

    @torch.no_grad()
    def draw() -> np.ndarray:
        condition = ours.condition([PROMPT, ""], [STYLE, None])
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        x = start
        for t in scheduler.timesteps:
            both = torch.cat([x, x])
            cond, uncond = unet(
                torch.cat([both, condition["concat"]], dim=1) if "concat" in condition else both,
                t,
                encoder_hidden_states=condition["context"],
                encoder_attention_mask=condition["context_mask"],
                class_labels=condition["label"],
            ).sample.chunk(2)
            x = scheduler.step(uncond + guidance * (cond - uncond), t, x).prev_sample
        return latents.from_output(vae.decode(x / vae.config.scaling_factor).sample.numpy())[0, ..., :3]

    return draw


def turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, in turns; a first turn that nobody counts warms them up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def cold(arguments: list[str]) -> dict[str, float]:
    """Seconds from the shell to the end, and the peak memory in MB if the command tells it."""
    start = time.perf_counter()
    run = subprocess.run(arguments, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    told = re.search(r"memory +(\d+) MB", run.stderr)
    return {"seconds": seconds} | ({"MB": float(told[1])} if told else {})


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=2 if QUICK else 20, help="of Euler, for all alike")
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 9)
    parser.add_argument("--cold", action="store_true", help="do nothing but one picture by diffusers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ours = {runtime: inkwash.load(options.model, runtime=runtime, threads=1) for runtime in ("torch", "onnx")}
    config = ours["torch"].config
    theirs = pipeline(ours["torch"], options.steps, config.guidance)
    if options.cold:
        theirs()
        return

    everywhere = {runtime: inkwash.load(options.model, runtime=runtime, threads=1) for runtime in ours}
    for model in everywhere.values():
        model.config = replace(config, guidance_interval=(0.0, 1.0))  # guided in every step

    def euler(runtime: str) -> np.ndarray:
        model = everywhere[runtime]
        return model.sample([PROMPT], [STYLE], [SEED], sampler="euler", steps=options.steps)[0, ..., :3]

    same = {"inkwash, torch": lambda: euler("torch"), "inkwash, ONNX": lambda: euler("onnx"), "diffusers": theirs}
    pictures = {name: way().astype(int) for name, way in same.items()}
    usual: dict[str, Callable[[], Any]] = {
        f"inkwash, {name}, {what}": lambda r=runtime, more=more: ours[r].generate(
            PROMPT, style=STYLE, seed=SEED, **more
        )
        for name, runtime in (("torch", "torch"), ("ONNX", "onnx"))
        for what, more in (
            ("64", {}),
            ("64 in 4 steps", {"steps": 4}),
            ("four at 64", {"n": 4}),
            ("256", {"size": 256}),
        )[: 1 if QUICK else None]
    }
    seconds = turns({**same, **usual}, options.rounds)
    ratio = {
        name: statistics.median(t / own for t, own in zip(seconds["diffusers"], seconds[name], strict=True))
        for name in seconds
        if "four" not in name and "256" not in name
    }
    with tempfile.TemporaryDirectory() as out:
        shell = [
            sys.executable,
            "-m",
            "inkwash",
            "generate",
            PROMPT,
            "--style",
            STYLE,
            "--seed",
            str(SEED),
            "-o",
            out,
        ]
        shell += ["--model", options.model, "--timings"]
        starts = {
            "inkwash, 64": shell,
            "inkwash, 256": [*shell, "--size", "256"],
            "inkwash on torch, 64": [*shell, "--runtime", "torch"],
        }
        if QUICK:
            del starts["inkwash, 256"], starts["inkwash on torch, 64"]
        peer = [sys.executable, __file__, "--cold", "--model", options.model, "--steps", str(options.steps)]
        alone = {
            name: [cold(command) for _ in range(STARTS)]
            for name, command in {**starts, "diffusers, 64": peer}.items()
        }
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        beside = {name: [cold(command) for _ in range(STARTS)] for name, command in starts.items()}
        busy.kill()
        busy.wait()
    report = {
        "prompt": PROMPT,
        "threads": 1,
        "same steps": f"Euler, {options.steps} steps, guidance {config.guidance} in each",
        "usual": f"{config.sampler}, {config.steps} steps, guidance {config.guidance} in {config.guidance_interval}",
        "largest difference to diffusers, grey levels": {
            name: int(np.abs(p - pictures["diffusers"]).max()) for name, p in pictures.items()
        },
        "warm seconds": seconds,
        "warm median": medians(seconds),
        "diffusers takes so many times as long": ratio,
        "cold": alone,
        "cold median": {name: statistics.median(r["seconds"] for r in runs) for name, runs in alone.items()},
        "cold with one core busy": beside,
        "cold with one core busy, median": {
            name: statistics.median(r["seconds"] for r in runs) for name, runs in beside.items()
        },
    }
    common.save(RESULT, report)
    print(
        json.dumps({key: value for key, value in report.items() if "median" in key or "diffusers" in key}, indent=1)
    )


if __name__ == "__main__":
    main()
