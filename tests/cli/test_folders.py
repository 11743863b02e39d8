import json
import os
import sys
from pathlib import Path

import pytest

from inkwash.cli import folders, main
from inkwash.errors import UserError
from tests.weights.test_scan import FLUX, LORA, SD1, marks, write

pytestmark = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="where their folders lie is not ours to set"
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(capsys, *arguments) -> list[str]:
    assert main(["models", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys, *arguments) -> str:
    assert main(["models", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_each_file_is_one_line_with_what_it_is_and_needs(tmp_path, capsys):
    models = tmp_path / "models"
    write(models / "a.safetensors", FLUX)
    write(models / "ae.safetensors", marks("VAE", "SD 3 or Flux 1"))
    write(models / "l.safetensors", LORA, {"modelspec.trigger_phrase": "red\x1b[2J\nfox"})
    (models / "old.pt").write_bytes(b"\x80\x02")
    first, *rest = run(capsys, "--scan", models)
    assert first == f"{models}: 4 files"
    assert rest[0].startswith(
        "  a.safetensors: diffusion model, Flux 1 schnell; 0.01 GB; float16; needs VAE SD 3 or Flux 1 "
    )
    assert "(ae.safetensors); needs text encoder CLIP-L (not found here)" in rest[0]
    assert "drawn: no; memory: fits (0.0 of " in rest[0]
    assert rest[1] == "  ae.safetensors: VAE, SD 3 or Flux 1; 0.00 GB; float16"
    assert rest[2] == "  l.safetensors: LoRA, SD 1; 0.00 GB; rank 8; 2 modules; words: red?[2J?fox"
    assert rest[3].startswith("  old.pt: a pickle, which can run code: not opened")
    assert len(rest) == 4


def test_what_is_drawn_is_the_checkpoints_of_stable_diffusion(tmp_path, capsys):
    whole = {f"model.diffusion_model.{name}": value for name, value in SD1.items()}
    encoder = {"cond_stage_model.transformer.text_model.final_layer_norm.weight": ("F16", (768,))}
    vae = {"first_stage_model.decoder.conv_in.weight": ("F16", (512, 4, 3, 3))}
    write(tmp_path / "whole.safetensors", whole | encoder | vae)
    write(tmp_path / "part.safetensors", whole)
    _, part, full = run(capsys, "--scan", tmp_path)
    assert "diffusion model, SD 1" in part and "drawn: no" in part
    assert "checkpoint, SD 1" in full and "drawn: yes" in full


def test_a_checkpoint_is_found_by_its_name_in_folders_that_were_added(tmp_path, capsys):
    models = tmp_path / "models"
    file = write(models / "a" / "one.v2.safetensors", SD1)
    write(models / "two.safetensors", SD1)
    write(models / "b" / "two.safetensors", SD1)
    write(models / "sd-1.5" / "unet" / "x.safetensors", SD1)
    (models / "sd-1.5" / "model_index.json").write_text("{}")
    run(capsys, "--add", models)
    assert folders.find("sd-1.5") == models / "sd-1.5" and folders.find("sd-1") is None  # a folder has no ending
    assert folders.find("one.v2.safetensors") == folders.find("one.v2") == file and folders.find("one") is None
    with pytest.raises(UserError, match="two: there are 2 of this name"):
        folders.find("two")
    assert main(["generate", "a fox", "--model", "one.v2"]) == 2
    assert f"{file}: the diffusion model of SD 1 alone" in capsys.readouterr().err


def test_folders_are_remembered_listed_and_forgotten(tmp_path, capsys):
    models = tmp_path / "models"
    write(models / "a.safetensors", SD1)
    assert run(capsys, "--add", models)[0] == f"{models}: 1 file"
    run(capsys, "--add", models)
    assert folders.remembered() == [models]
    assert any("a.safetensors: diffusion model, SD 1" in line for line in run(capsys))
    (models / "a.safetensors").unlink()
    models.rmdir()
    assert f"{models}: no such folder" in run(capsys)
    run(capsys, "--forget", models)
    assert folders.remembered() == []
    assert "not among those that were added: none" in refused(capsys, "--forget", models)


def test_what_cannot_be_done_is_refused_before_anything_is_remembered(tmp_path, capsys):
    models = tmp_path / "models"
    models.mkdir()
    assert "no such folder" in refused(capsys, "--add", tmp_path / "none")
    assert "no such folder" in refused(capsys, "--scan", tmp_path / "none", "--add", models)
    assert "give a folder with --scan" in refused(capsys, "--hashes")
    assert "leave it out" in refused(capsys, models, "--scan", models)
    assert folders.remembered() == []


def test_a_broken_list_is_not_overwritten(tmp_path):
    file = tmp_path / "config/inkwash/folders.json"
    file.parent.mkdir(parents=True)
    for broken in ("{", '{"folders": 5}', '{"folders": [5]}'):
        file.write_text(broken)
        with pytest.raises(UserError, match="broken"):
            folders.remember(tmp_path)
        assert file.read_text() == broken


def test_a_list_that_is_a_link_stays_one(tmp_path):
    file, elsewhere = tmp_path / "config/inkwash/folders.json", tmp_path / "dotfiles.json"
    file.parent.mkdir(parents=True)
    file.symlink_to(elsewhere)
    folders.remember(tmp_path)
    assert file.is_symlink() and json.loads(elsewhere.read_text()) == {"folders": [str(tmp_path)]}


def test_where_a_person_has_a_folder_for_such_things_it_is_used(tmp_path, monkeypatch):
    assert folders.user_folder("config") == tmp_path / "config/inkwash"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # which the standard says to pass over
    assert folders.user_folder("config") == Path(os.path.expanduser("~/.config/inkwash"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert folders.user_folder("cache") == Path(os.path.expanduser("~/Library/Caches/inkwash"))


def test_memory_is_judged_with_a_quarter_left_to_the_computation():
    assert [folders._fit(size, 100).split()[1] for size in (74, 75, 99, 100)] == ["fits", "tight", "tight", "too"]
