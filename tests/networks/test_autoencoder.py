import pytest
import torch

from inkwash.errors import UserError
from inkwash.networks.autoencoder import Autoencoder, load_autoencoder, save_autoencoder

PLAIN = {"use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": False}


def small(**changes) -> Autoencoder:
    torch.manual_seed(0)
    config = {"block_out_channels": (8, 16, 16), "latent_channels": 3, "norm_num_groups": 4, "layers_per_block": 2}
    network = Autoencoder(**config | changes).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("changes", [{}, PLAIN, {"in_channels": 4, "out_channels": 4, "layers_per_block": 1}])
def test_diffusers_opens_what_is_saved_and_computes_the_same(changes, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    save_autoencoder(small(**changes), tmp_path)
    ours, theirs = load_autoencoder(tmp_path), diffusers.AutoencoderKL.from_pretrained(tmp_path)
    x = torch.randn(2, ours.config["in_channels"], 32, 24)
    with torch.no_grad():
        mean, log_variance = ours.encode(x)
        law = theirs.encode(x).latent_dist
        torch.testing.assert_close(mean, law.mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(log_variance, law.logvar, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.decode(mean), theirs.decode(mean).sample, rtol=0, atol=1e-5)
    assert mean.shape == (2, 3, 8, 6) and ours.factor == 4


def test_what_diffusers_saves_is_opened(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=4,
    )
    theirs.save_pretrained(tmp_path)
    ours, z = load_autoencoder(tmp_path), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, rtol=0, atol=1e-5)


def test_errors_name_the_key_and_the_file(tmp_path):
    with pytest.raises(UserError, match=r"latents_mean = \[0\.1\]"):
        Autoencoder(latents_mean=[0.1])
    with pytest.raises(UserError, match=r"up_block_types = \['AttnUpDecoderBlock2D'\]"):
        Autoencoder(up_block_types=["AttnUpDecoderBlock2D"])
    with pytest.raises(UserError, match="norm_num_groups 5 does not divide"):
        Autoencoder(block_out_channels=(8,), norm_num_groups=5)
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        load_autoencoder(tmp_path)
    save_autoencoder(small(), tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load_autoencoder(tmp_path)
