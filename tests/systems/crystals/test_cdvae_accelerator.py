"""CDVAE's loss on an accelerator is that of a CPU, and nothing of its own waits for the device."""

import torch

from inkwash.systems.crystals import cdvae
from inkwash.systems.crystals.lattice import matrix
from inkwash.systems.crystals.vae_networks import CrystalVAE
from tests.accelerator import counting

OWN = ("cdvae.py", "vae_networks.py", "categorical.py", "denoiser.py")


def test_a_loss_on_an_accelerator_is_that_of_a_cpu_and_waits_for_nothing_of_its_own():
    torch.manual_seed(0)
    network = CrystalVAE(4, 2, 16, 1, 5, latent=8)
    random, mask = torch.Generator().manual_seed(1), torch.arange(5) < torch.tensor([[5], [3]])
    batch = {
        "kinds": torch.randint(4, (2, 5), generator=random) * mask,
        "coordinates": torch.rand(2, 5, 3, generator=random) * mask[..., None],
        "lattice": matrix(torch.tensor([[4.0, 5, 6, 80, 85, 75], [3.1, 3.2, 4, 95, 100, 110]])),
        "mask": mask,
        "properties": torch.tensor([[0.5, -1.0], [0.2, torch.nan]]),
    }
    values = []
    for device in ("cpu", "chip"):
        placed = {key: value.to(device) for key, value in batch.items()}
        network.to(device)
        for _ in range(2):  # constants are sent to a device once
            with counting() as counts:
                loss = cdvae.vae_loss(network, placed, torch.Generator(device).manual_seed(3))
                torch.autograd.grad(loss, [*network.parameters()], allow_unused=True)
        assert not [place for _, place in counts.places if place.startswith(OWN)], counts
        values.append(loss.cpu())
    torch.testing.assert_close(*values)
