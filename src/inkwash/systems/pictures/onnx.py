"""Pictures from words with the ONNX runtime: no torch, which alone takes longer to load than a picture to draw.

The graphs (export.py writes them) hold no weights. They are put in at load from the same safetensors files that torch
reads, so weights ship once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from inkwash.codecs import latents
from inkwash.codecs.tokens import fitted, load_tokenizer, tokenise
from inkwash.errors import UserError
from inkwash.systems.pictures.pipeline import FILES, Config, Pipeline, part, read_config, text_encoder
from inkwash.systems.pictures.upsampler import Upsampler
from inkwash.weights.files import read_arrays


def session(graph: Path, weights: Path, threads: int) -> Callable[..., Any]:
    """A function of named arrays that runs the graph on the weights; it answers with one array or a list of them.

    Raises UserError, in one line, for a graph or weights that are missing or do not fit each other.
    """
    if not graph.is_file():
        raise UserError(f"{graph}: no such file; write it with `inkwash export`, or give --runtime torch")
    data = graph.read_bytes()
    # an autoencoder's file has two halves; a graph is given what it names
    arrays = {name: a for key, a in read_arrays(weights).items() if (name := f"module.{key}").encode() in data}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    try:
        found = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds have no common base
        reason = str(error).splitlines()[0]
        raise UserError(f"{graph} does not fit {weights} ({reason:.160}): run `inkwash export` again") from None

    def run(**inputs: np.ndarray) -> Any:
        outputs = found.run(None, inputs)
        return outputs[0] if len(outputs) == 1 else outputs

    return run


def renamed(graph: Callable[..., Any], **names: str) -> Callable[..., Any]:
    """A network (x, time, **condition) of a graph that has other names for some of the condition."""
    return lambda x, time, **condition: graph(
        x=x, time=time, **{names.get(key, key): value for key, value in condition.items()}
    )


class OnnxPictures(Pipeline):
    """An exported model of pictures; it draws what `model.Pictures` draws, to rounding."""

    runtime = f"onnxruntime {onnxruntime.__version__}"
    has_words = in_latents = True

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> OnnxPictures:
        """UserError, in one line, for what is missing or broken in the folder."""
        return cls(folder, read_config(folder), threads)

    def __init__(self, folder: Path, info: Config, threads: int) -> None:
        self.info, self.folder, self._threads = info, folder, threads
        vae = part(folder, info, "vae")
        if vae is None:
            raise UserError(f"{folder}: no vae there; give --runtime torch")
        config = json.loads((vae / "config.json").read_text(encoding="utf-8"))
        self.has_opacity = config["out_channels"] % 4 == 0
        self._scale, self._channels = config["scaling_factor"], config["in_channels"]
        side = info.size // (2 ** (len(config["block_out_channels"]) - 1) * latents.patch(self._channels))
        self._shape = config["latent_channels"], side, side
        unet = self._session("unet/model.onnx")
        self.network = renamed(unet, concat="sketch")
        if part(folder, info, "sketch"):
            sketch = self._session("sketch/model.onnx")
            self.sketched = lambda label: sketch(label=label)
        self._decoder, self._encoder = self._session("vae/decoder.onnx"), None
        words = text_encoder(folder, info)
        length = json.loads((words / "config.json").read_text(encoding="utf-8"))["length"]
        self.tokenizer = fitted(load_tokenizer(words / "tokenizer.json"), length)
        self._text = session(words / "model.onnx", words / "model.safetensors", threads)

    def _session(self, graph: str) -> Callable[..., Any]:
        assert self.folder is not None
        name, file = graph.split("/")
        place = part(self.folder, self.info, name) or self.folder / name
        return session(place / file, place / FILES[name], self._threads)

    @property
    def upsampler(self) -> Upsampler | None:  # type: ignore[override]
        """Loaded when it is first asked for."""
        assert self.folder is not None
        if not part(self.folder, self.info, "upsampler"):
            return None
        if "_upsampler" not in self.__dict__:
            run = self._session("upsampler/model.onnx")
            self._upsampler = Upsampler(renamed(run, concat="small", noise_level="level"), self.array)
        return self._upsampler

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    def threads(self) -> int:
        return self._threads

    def words(self, prompts: list[str]) -> dict[str, np.ndarray]:
        ids, mask = tokenise(self.tokenizer, prompts)
        states, pooled = self._text(ids=ids, mask=mask)
        return {"context": states * mask[..., None], "context_mask": mask, "pooled": pooled}

    def array(self, x: np.ndarray) -> np.ndarray:
        return x

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        self._encoder = self._encoder or self._session("vae/encoder.onnx")
        x = latents.to_input(pictures, self._channels)
        return np.float32(self._scale) * np.concatenate(
            [self._encoder(x=x[i : i + 16]) for i in range(0, len(x), 16)]
        )

    def decode(self, state: np.ndarray) -> np.ndarray:
        z = state / np.float32(self._scale)
        return latents.from_output(np.concatenate([self._decoder(z=z[i : i + 16]) for i in range(0, len(z), 16)]))
