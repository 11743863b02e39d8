"""The same weights drawn by inkwash and by diffusers, side by side: docs/results/speed.json.

python benchmarks/diffusers_pipeline.py [--model emoji] [--steps 20] [--rounds 7]

diffusers opens the folder as it is: UNet2DConditionModel from unet/, AutoencoderKL from vae/, and its
FlowMatchEulerDiscreteScheduler; the words go in as our text encoder's states. Both walk Euler's steps from the same
noise with the same guidance, so both draw the same picture, which is checked. Then the three ways (inkwash on
torch, inkwash on ONNX, diffusers) take turns, on one thread each; told are the median of each and of the ratios of
the turns. A cold start is a process of its own, from its first line to the picture.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import inkwash
from inkwash import diffusion
from inkwash.weights.files import atomic

RESULT = Path(__file__).parents[1] / "docs" / "results" / "speed.json"
PROMPT, STYLE, SEED = "a red fox", "flat", 7


def pipeline(folder: Path, text: Any, steps: int, guidance: float) -> Callable[[], np.ndarray]:
    """One guided picture by diffusers alone, but for the words and the noise, which are ours."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    shape = (1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    start = torch.from_numpy(diffusion.Noise([SEED], shape[1:]).normal())

    @torch.no_grad()
    def draw() -> np.ndarray:
        told = text.condition([PROMPT, ""], [STYLE, None])
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        x = start
        for t in scheduler.timesteps:
            asked, null = unet(
                torch.cat([x, x]),
                t,
                encoder_hidden_states=told["context"],
                encoder_attention_mask=told["context_mask"],
                class_labels=told["label"],
            ).sample.chunk(2)
            x = scheduler.step(null + guidance * (asked - null), t, x).prev_sample
        picture = vae.decode(x / vae.config.scaling_factor).sample[0, :3]
        return ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()

    return draw


def cold(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(arguments, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold", action="store_true", help="do nothing but one picture by diffusers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ours = {runtime: inkwash.load(options.model, runtime=runtime) for runtime in ("torch", "onnx")}
    folder, guidance = ours["torch"].folder, ours["torch"].info.guidance
    assert folder is not None
    theirs = pipeline(folder, ours["torch"], options.steps, guidance)
    if options.cold:
        theirs()
        return

    def draw(runtime: str) -> np.ndarray:
        return ours[runtime].sample([PROMPT], [STYLE], [SEED], sampler="euler", steps=options.steps)[0]

    ways = {"inkwash on torch": lambda: draw("torch"), "inkwash on ONNX": lambda: draw("onnx"), "diffusers": theirs}
    pictures = {name: way().astype(int) for name, way in ways.items()}
    difference = {name: int(np.abs(p - pictures["diffusers"]).max()) for name, p in pictures.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    shell = [sys.executable, "-m", "inkwash", "generate", PROMPT, "--style", STYLE, "--seed", str(SEED), "-o", "out/"]
    shell += ["--model", options.model, "--sampler", "euler", "--steps", str(options.steps), "--runtime"]
    starts = {
        "inkwash on torch": [*shell, "torch"],
        "inkwash on ONNX": [*shell, "onnx"],
        "diffusers": [sys.executable, __file__, "--cold", "--model", options.model, "--steps", str(options.steps)],
    }
    report = {
        "prompt": PROMPT,
        "steps": options.steps,
        "guidance": guidance,
        "threads": 1,
        "largest difference to diffusers, grey levels": difference,
        "warm seconds": seconds,
        "median": {name: statistics.median(values) for name, values in seconds.items()},
        "diffusers takes so many times as long": {
            name: statistics.median(t / own for t, own in zip(seconds["diffusers"], values, strict=True))
            for name, values in seconds.items()
        },
        "cold seconds": {name: [cold(command) for _ in range(3)] for name, command in starts.items()},
    }
    with atomic(RESULT) as file:
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
