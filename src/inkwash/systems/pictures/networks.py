"""The picture as the words alone suggest it, before any noise is looked at: a regressor of x_0."""

import json
from pathlib import Path

from torch import Tensor, nn

from inkwash.errors import UserError
from inkwash.weights.files import atomic, load_into, save_tensors

WEIGHTS = "model.safetensors"


class MeanPredictor(nn.Module):
    """Label (B, label) -> E[x_0 | label], (B, channels, size, size): a perceptron, then one convolution.

    That is what the best denoiser answers at t = 1, where the state is noise alone. A dense layer knows many pictures
    for few multiplications, so a small U-Net that is shown the mean (as `concat`) need not know them too. Regression
    before diffusion is the idea of CARD (Han et al. 2022, 2206.07275).
    """

    def __init__(self, label: int, channels: int, size: int, hidden: int = 1024, features: int = 16) -> None:
        super().__init__()
        self.config = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        self.perceptron = nn.Sequential(
            nn.Linear(label, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, features * size**2),
        )
        self.conv = nn.Conv2d(features, channels, 3, padding=1)

    def forward(self, label: Tensor) -> Tensor:
        size: int = self.config["size"]
        picture: Tensor = self.conv(self.perceptron(label).unflatten(1, (-1, size, size)))
        return picture


def save_mean_predictor(predictor: MeanPredictor, folder: str | Path) -> None:
    """Writes config.json and model.safetensors (float16)."""
    folder = Path(folder)
    with atomic(folder / "config.json") as path:
        path.write_text(json.dumps(predictor.config, indent=2) + "\n", encoding="utf-8")
    save_tensors(folder / WEIGHTS, predictor.state_dict(), {"format": "pt"})


def load_mean_predictor(folder: str | Path) -> MeanPredictor:
    """From what `save_mean_predictor` wrote. Raises UserError for what is missing or broken."""
    folder = Path(folder)
    try:
        predictor = MeanPredictor(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'}: not the configuration of a mean predictor ({error})") from None
    load_into(predictor, folder / WEIGHTS)
    return predictor.eval()
