"""The decoder of TAESD, beside diffusers' AutoencoderTiny."""

import pytest
import torch
from safetensors.torch import save_file

from inkwash.errors import UserError
from inkwash.networks.taesd import load_tiny_decoder


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return pytest.importorskip("diffusers").AutoencoderTiny().eval()


def original(theirs):
    """The names of taesd_decoder.safetensors, whose layer 0 bounds the states."""
    names = {name: name.removeprefix("layers.").split(".", 1) for name in theirs.decoder.state_dict()}
    state = theirs.decoder.state_dict()
    return {f"{int(number) + 1}.{rest}": state[name] for name, (number, rest) in names.items()}


def test_names_of_the_original_file(theirs):
    """As its author's files have them: one bound, a convolution, three times three blocks, and so on."""
    names = original(theirs)
    assert names["1.weight"].shape == (64, 4, 3, 3) and names["19.weight"].shape == (3, 64, 3, 3)
    assert {"3.conv.0.weight", "5.conv.4.bias", "7.weight", "12.weight", "17.weight", "18.conv.2.weight"} <= {*names}
    assert not {"7.bias", "12.bias", "17.bias"} & {*names}


@pytest.mark.parametrize("spelling", ["original", "diffusers"])
@torch.no_grad()
def test_it_decodes_as_diffusers_does(theirs, spelling, tmp_path):
    file = tmp_path / "taesd_decoder.safetensors"
    save_file(original(theirs) if spelling == "original" else theirs.state_dict(), file)
    z = 4 * torch.randn(2, 4, 6, 9)
    expected = ((theirs.decode(z).sample + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(load_tiny_decoder(file)(z), expected, rtol=0, atol=1e-5)


def test_another_file_is_refused(theirs, tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"a.weight": torch.zeros(3)}, file)
    with pytest.raises(UserError, match=r"other\.safetensors: no decoder of TAESD"):
        load_tiny_decoder(file)
    save_file({name: tensor for name, tensor in original(theirs).items() if name != "7.weight"}, file)
    with pytest.raises(UserError, match=r"other\.safetensors lacks layers\.6\.weight"):
        load_tiny_decoder(file)
    save_file(original(theirs), file)
    with pytest.raises(UserError, match=r"has wrong shapes for layers\.0\.weight"):
        load_tiny_decoder(file, channels=16)
