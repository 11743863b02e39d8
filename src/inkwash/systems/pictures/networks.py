"""The picture as the words alone suggest it, before any noise is looked at: a regressor of x_0."""

from pathlib import Path

from torch import Tensor, nn

from inkwash.networks.unet import load_network, save_network
from inkwash.weights.files import WEIGHTS


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
    save_network(predictor, folder, predictor.config, WEIGHTS)


def load_mean_predictor(folder: str | Path) -> MeanPredictor:
    return load_network(MeanPredictor, folder, WEIGHTS)
