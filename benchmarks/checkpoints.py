"""Checkpoints of the real sizes, with random weights: how much memory a picture takes, and how long a step, beside
diffusers with the same weights: docs/results/checkpoints.json.

python benchmarks/checkpoints.py [--only memory | speed] [--folder FOLDER]

A picture of 512 x 512 pixels by Stable Diffusion 1 and one of 1024 x 1024 by XL, in 2 steps, each in a process of
its own, of which Linux tells the largest resident memory, beside what the plan promised before: with all weights in
memory (SD 1 alone), those of a network at a time, those of a layer at a time. Then, in one process and on one
thread, SD 1 in turns with diffusers, from the same noise along the same steps of Euler, and with diffusers' result:
in seconds of processor time, which other work on the machine hardly changes. The weights, 9 GB, are made anew and
taken away again, unless a folder is given, where they stay.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import common
from common import QUICK, ROOT
from inkwash import diffusion
from inkwash.codecs.clip import LENGTH, ROLES, CLIPTokenizer
from inkwash.networks.autoencoder import save_autoencoder
from inkwash.networks.clip import save_clip
from inkwash.networks.stable_diffusion import CLASSES, CONFIGS
from inkwash.networks.unet import save_unet
from inkwash.systems.checkpoints.facts import read_facts
from inkwash.systems.checkpoints.memory import OFFLOADS, of_size, read_networks
from inkwash.systems.checkpoints.noise_table import STABLE
from inkwash.systems.checkpoints.stable_diffusion import StableDiffusion
from inkwash.weights.files import save_json
from inkwash.weights.scan import memory

RESULT = ROOT / "docs" / "results" / "checkpoints.json"
SAVE: dict[str, Callable[..., None]] = {"unet": save_unet, "vae": save_autoencoder}
CASES = [("sd1", offload) for offload in OFFLOADS] + [("sdxl", "network"), ("sdxl", "layer")]
LIMITS = {"sd1": 8, "sdxl": 14}  # GB
PROMPT, STEPS, ROUNDS, GUIDANCE = "a red fox in the snow", 2, 1 if QUICK else 2, 7.0
SMALL = {  # with --quick
    "unet": {"sample_size": 8, "norm_num_groups": 4, "block_out_channels": [8, 8, 16, 16], "cross_attention_dim": 16},
    "vae": {"sample_size": 64, "norm_num_groups": 4, "block_out_channels": [4, 8, 8, 8]},
    "text_encoder": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
}


def make(family: str, folder: Path) -> None:
    """A checkpoint with random weights in float16, as diffusers saves it."""
    torch.manual_seed(0)
    index = {}
    for name, config in CONFIGS[family].items():
        with torch.device("meta"):
            network = CLASSES[name](**config | (SMALL.get(name, {}) if QUICK else {})).half()
        network.to_empty(device="cpu")
        for key, parameter in network.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5 * parameter[0].numel() ** -0.5)
            else:
                nn.init.constant_(parameter, float("norm" in key and key.endswith("weight")))
        SAVE.get(name, save_clip)(network, folder / name)
        index[name] = ["inkwash", type(network).__name__]
        if name in SAVE:
            continue
        tokenizer = folder / name.replace("text_encoder", "tokenizer")
        save_json(tokenizer / "tokenizer_config.json", ROLES | {"model_max_length": LENGTH})
        CLIPTokenizer.shipped().tokenizer.save(str(tokenizer / "tokenizer.json"))
    save_json(folder / "scheduler" / "scheduler_config.json", STABLE)
    save_json(folder / "model_index.json", index)


def peer(folder: Path) -> Callable[..., Any]:
    """diffusers' pipeline on the weights of SD 1, all in memory, as a function of the first noise."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import logging
    from transformers import CLIPTextModel, CLIPTokenizerFast

    logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline(
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        tokenizer=CLIPTokenizerFast.from_pretrained(folder / "tokenizer"),
        scheduler=EulerDiscreteScheduler(**STABLE, steps_offset=1, timestep_spacing="leading"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)

    def draw(noise: torch.Tensor, output: str) -> Any:
        height, width = (8 * side for side in noise.shape[2:])
        size = {"height": height, "width": width, "latents": noise, "output_type": output}
        return pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, **size).images

    return draw


def start(model: StableDiffusion) -> torch.Tensor:
    width, height = model.size
    return torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(1))


def draw(model: StableDiffusion, noise: torch.Tensor) -> torch.Tensor:
    """Latents by the steps of `peer`."""
    grid = diffusion.leading(model.process, steps=STEPS, table=1000, steps_offset=1)
    return model.sample_states([PROMPT], [0], sampler="euler", grid=grid, guidance=GUIDANCE, x=noise)


def one_picture(folder: Path, offload: str) -> None:
    """Prints the largest resident memory of this process, in bytes, after a picture; and of each stage of it."""
    torch.set_num_threads(os.cpu_count() or 1)
    peaks = {}
    if offload == "diffusers":
        peer(folder)(torch.randn(1, 4, *[8 if QUICK else 64] * 2), "pil")
    else:
        model = StableDiffusion.load(folder, offload=offload)
        peaks["loaded"] = resident()
        state = draw(model, start(model))
        peaks["latents drawn"] = resident()
        model.decode(state)
    print(json.dumps(peaks | {"decoded": resident()}))


def resident() -> int:
    """The largest resident memory of this process so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def measure_memory(folders: dict[str, Path]) -> list[dict[str, Any]]:
    rows = []
    for family, offload in [case for case in [*CASES, ("sd1", "diffusers")] if case[0] in folders]:
        command = [sys.executable, __file__, "--picture", offload, "--folder", str(folders[family])]
        run = subprocess.run(command + ["--quick"] * QUICK, check=True, capture_output=True, text=True)
        peaks = json.loads(run.stdout)
        row = {"family": family, "in memory": offload, "peak, bytes": peaks["decoded"], "by stage": peaks}
        if offload != "diffusers":
            facts, networks = read_facts(folders[family]), read_networks(folders[family])
            promised = of_size(facts.family, networks, facts.side, facts.side, 1, "float32", offload, memory())
            row |= {"promised, bytes": promised.peak, "plan": promised.text}
            row["within the promise, and the limit"] = peaks["decoded"] <= min(LIMITS[family] * 1e9, promised.peak)
        rows.append(row)
    return rows


def measure_speed(folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    theirs, models = peer(folder), {way: StableDiffusion.load(folder, offload=way) for way in ("none", "layer")}
    noise = start(models["none"])
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "diffusers": lambda: theirs(noise, "latent"),
        "inkwash": lambda: draw(models["none"], noise),
        "inkwash, a layer at a time": lambda: draw(models["layer"], noise),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    states = {}
    for turn in range(ROUNDS):
        for name, way in list(ways.items())[:: 1 if turn % 2 else -1]:
            begun = time.process_time()
            states[name] = way()
            seconds[name].append((time.process_time() - begun) / STEPS)
    largest = states["diffusers"].abs().max()
    return {
        "threads": 1,
        "seconds a step, each turn": seconds,
        "seconds a step, median": {name: statistics.median(values) for name, values in seconds.items()},
        "of diffusers' time, median of the turns": {
            name: statistics.median(a / b for a, b in zip(values, seconds["diffusers"], strict=True))
            for name, values in seconds.items()
        },
        "largest difference to diffusers, of its largest latent": {
            name: float((state - states["diffusers"]).abs().max() / largest) for name, state in states.items()
        },
    }


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--only", choices=["memory", "speed"])
    options.add_argument("--folder", type=Path, help="where the weights are, or are to be left")
    options.add_argument("--picture", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.picture:
        one_picture(chosen.folder, chosen.picture)
        return
    common.needs("diffusers", "transformers")
    report = common.load(RESULT)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        root = chosen.folder or Path(temporary)
        families = ["sd1"] if chosen.only == "speed" or QUICK else ["sd1", "sdxl"]
        folders = {family: root / family for family in families}
        for family, folder in folders.items():
            if not folder.exists():
                make(family, folder)
        report |= {"command": "python benchmarks/checkpoints.py", "steps": STEPS, "precision": "float32 of float16"}
        if chosen.only != "speed":
            report["memory"] = measure_memory(folders)
        if chosen.only != "memory":
            report["speed"] = measure_speed(folders["sd1"])
    common.save(RESULT, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
