"""The nearest training picture: against the definition, and as the pipeline and the command line say it."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import inkwash
from inkwash.cli import main
from inkwash.codecs.png import read_recipe
from inkwash.errors import UserError
from inkwash.networks.unet import UNet
from inkwash.systems.pictures import distance_fields, training_pictures
from inkwash.systems.pictures.icons_data import Icons
from inkwash.systems.pictures.model import Config
from inkwash.systems.pictures.pipeline import Pipeline
from inkwash.systems.pictures.training_pictures import FILE, index, nearest_across
from tests.models import random
from tests.systems.pictures import shapes

SEEDS = st.integers(0, 2**32 - 1)


def icons_of(fields, names, licence="MIT", author="nobody", split="train") -> Icons:
    """Icons called "set:name"; the set is their style, too."""
    count, names = len(fields), np.array(names)
    words = [[] for _ in range(count)]
    columns = {"aliases": words, "tags": words, "tags_zh": words, "name_zh": np.array([""] * count)}
    styles, own = (np.array([name.partition(":")[i] for name in names]) for i in (0, 2))
    credits = {"licence": np.array([licence] * count), "author": np.array([author] * count)}
    return Icons(
        fields=fields, icon=names, style=styles, name=own, split=np.array([split] * count), **columns, **credits
    )


def rectangles() -> Icons:
    """Rectangles of three sets, which differ by the length of their sides."""
    y, x = np.mgrid[:64, :64] - 31.5
    fields, names = [], []
    for of_set, more in (("angular", 0), ("boxy", 1), ("cubic", 2)):
        for width in (8, 13, 18, 23):
            for height in (8, 13, 18, 23):
                fields.append(np.minimum(width + more - abs(x), height - more - abs(y)).clip(-6, 6))
                names.append(f"{of_set}:{width}-by-{height}")
    return icons_of(np.array(fields, np.float32), names)


def cosines(field, fields):
    """The definition: of fields of 16 pixels, cut off at 1, less their mean."""
    small = [(f.reshape(16, 4, 16, 4).mean((1, 3)) / 4).clip(-1, 1) for f in (field, *fields)]
    vectors = [f.ravel() - f.mean() for f in small]
    return np.array([v @ vectors[0] / np.linalg.norm(v) / np.linalg.norm(vectors[0]) for v in vectors[1:]])


@given(SEEDS, st.floats(0, 3))
def test_the_nearest_is_that_of_the_whole_fields(seed, noise):
    """Fewer pictures than components, so that nothing is lost but by rounding."""
    rng = np.random.default_rng(seed)
    fields = rng.normal(0, 3, (20, 64, 64)).astype(np.float32)
    pictures = index(icons_of(fields, [f"a:{i}" for i in range(20)]), side=16)
    query = fields[rng.integers(20)] + rng.normal(0, noise, (64, 64)).astype(np.float32)
    true, nearest = cosines(query, fields), pictures.nearest(query)
    assert true[int(nearest.icon.partition(":")[2])] >= true.max() - 0.02
    assert nearest.similarity >= true.max() - 0.02  # what lies beside all of them is left out


@given(SEEDS)
def test_a_byte_holds_a_code_to_half_of_its_unit(seed):
    fields = np.random.default_rng(seed).normal(0, 3, (12, 16, 16)).astype(np.float32)
    pictures = index(icons_of(fields, [f"a:{i:02}" for i in range(12)]), side=16)
    exact = training_pictures.unit(training_pictures.centred(fields, 16)) @ pictures.basis
    units = abs(exact).max(1) / 127
    error = np.linalg.norm(pictures.directions - exact / np.linalg.norm(exact, axis=1, keepdims=True), axis=1)
    assert (error <= np.sqrt(exact.shape[1]) * units).all()  # half by rounding, at most that again by the length


@given(SEEDS, st.integers(1, 3), st.integers(2, 9))
def test_the_nearest_of_another_set_is_searched_there_alone(seed, sets, count):
    rng = np.random.default_rng(seed)
    directions = training_pictures.unit(rng.normal(size=(count, 4)))
    of_set = rng.integers(sets, size=count)
    expected = [max((a @ b for b, t in zip(directions, of_set, strict=True) if s != t), default=1.0)
                for a, s in zip(directions, of_set, strict=True)]  # fmt: skip
    np.testing.assert_allclose(nearest_across(directions, of_set), expected, atol=1e-6)


def test_a_copy_is_said_to_be_one_and_a_disc_is_not():
    icons = rectangles()
    pictures = index(icons)
    for row in range(len(icons.icon)):
        found = pictures.nearest(icons.fields[row])
        assert found.copy and found.similarity > 0.999 and found.icon == icons.icon[row]
        wobbly = pictures.nearest(icons.fields[row] + np.random.default_rng(row).normal(0, 0.2, (64, 64)))
        assert wobbly.copy and wobbly.icon == icons.icon[row]
    disc = pictures.nearest(shapes.solid("disc"))
    assert (
        not disc.copy
        and 0.5 < disc.similarity < min(pictures.thresholds.values())
        and max(pictures.thresholds.values()) < 0.999
    )
    assert pictures.nearest(np.full((64, 64), -4.0)) is None  # nothing is drawn


def test_only_what_is_trained_on_is_named():
    icons = rectangles()
    held_out = replace(icons, split=np.where(np.arange(len(icons.icon)) == 5, "test", "train"))
    named = {one.icon for one in index(held_out).credits}
    assert named == {*icons.icon.tolist()} - {icons.icon[5]}


def test_the_pictures_of_a_single_set_are_no_copies_of_each_other():
    one = [i for i, icon in enumerate(rectangles().icon) if icon.startswith("boxy")]
    fields = rectangles().fields[one]
    assert not index(icons_of(fields, [f"boxy:{i}" for i in one])).nearest(fields[0]).copy


def test_what_is_saved_is_loaded(tmp_path):
    icons = replace(rectangles(), author=np.array(["常留留", "Paweł Kuna", "nobody"] * 16))
    assert training_pictures.load(tmp_path) is None
    pictures = index(icons)
    training_pictures.save(pictures, tmp_path)
    again = training_pictures.load(tmp_path)
    assert again.credits == pictures.credits and again.thresholds == pictures.thresholds
    for row, field in enumerate(icons.fields):
        assert again.nearest(field) == pictures.nearest(field)
        assert again.nearest(field).author == icons.author[row]


def broken(file, **changes):
    from safetensors.numpy import load_file, save_file

    arrays = load_file(file)
    facts = json.loads(gzip.decompress(arrays["facts"].tobytes()))
    facts |= changes.pop("facts", {})
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    save_file(arrays | changes, file)


def test_older_folders_hold_the_same_unpacked(tmp_path):
    pictures = index(rectangles())
    training_pictures.save(pictures, tmp_path)
    broken(tmp_path / FILE, codes=pictures.codes)
    again = training_pictures.load(tmp_path)
    assert (again.codes == pictures.codes).all() and again.credits == pictures.credits


@pytest.mark.parametrize(
    "change",
    [
        lambda file: broken(file, facts={"pictures": []}),
        lambda file: broken(file, facts={"thresholds": {"angular": 0.9}}),
        lambda file: broken(file, facts={"pictures": [{"set": "a"}]}),
        lambda file: broken(file, codes=np.zeros((3, 80), np.int8)),
        lambda file: broken(file, basis=np.zeros((1023, 80), np.float16)),
        lambda file: broken(file, codes=np.zeros(3, np.int8)),
        lambda file: file.write_bytes(file.read_bytes()[:1000]),
    ],
)
def test_a_broken_list_is_said_in_one_line(change, tmp_path):
    training_pictures.save(index(rectangles()), tmp_path)
    change(tmp_path / FILE)
    with pytest.raises(UserError, match=FILE) as error:
        training_pictures.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.fixture
def folder(tmp_path):
    """A model without words of distance fields, with random weights."""
    unet = UNet(
        in_channels=16,
        out_channels=16,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        mid_block_type=None,
        up_block_types=("UpBlock2D",),
        cross_attention_dim=None,
        norm_num_groups=4,
    )
    config = Config(size=32, distance_field=True, parametrization="flow", steps=2)
    Pipeline(config, {"unet": random(unet)}, training_pictures=index(rectangles())).save(tmp_path / "m")
    return tmp_path / "m"


def test_each_picture_names_its_nearest(folder, tmp_path):
    model = inkwash.load(folder)
    states = []
    model.sample([""], [None], [3], on_end=states.append)
    (field,) = distance_fields.from_state(states[0].numpy(), 4)
    nearest = model.nearest(field)
    assert model.generate(seed=3).info["inkwash"]["nearest"] == nearest._asdict()
    drawing = Image.fromarray(distance_fields.draw(rectangles().fields[7:8], 256)[0])
    assert model.nearest(drawing).icon == rectangles().icon[7]
    model.save(tmp_path / "copy")
    assert inkwash.load(tmp_path / "copy").nearest(field) == nearest


def test_the_command_line_says_the_nearest(folder, tmp_path, capsys):
    arguments = ["generate", "--model", str(folder), "--seed", "3", "-n", "2", "-o", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()][:2]
    for seed, row in zip((3, 4), rows, strict=True):
        nearest = row["row"]["nearest"]
        assert row["recipe"]["nearest"] == nearest == read_recipe(row["files"][0])["nearest"]
        said = f"seed {seed}: nearest training picture: {nearest['icon']} ({nearest['similarity']:.2f}; MIT, nobody)"
        assert said in captured.err
    assert main(["again", rows[0]["files"][0], "--inputs", str(tmp_path)]) == 0
    assert "\nthe same pixels" in capsys.readouterr().out


def test_a_copy_is_said_with_its_licence_and_author():
    text = str(index(rectangles()).nearest(rectangles().fields[0]))
    assert text == "this is nearly angular:8-by-8 (1.00): its licence (MIT) and author (nobody) apply"


def test_a_model_without_the_list_draws_and_names_none(folder):
    (folder / FILE).unlink()
    model = inkwash.load(folder)
    picture = model.generate(seed=3)
    assert "nearest" not in picture.info["inkwash"]
    with pytest.raises(UserError, match="no list of its training pictures"):
        model.nearest(picture)


def test_a_broken_list_is_said_before_anything_is_drawn(folder, capsys):
    (folder / FILE).write_bytes(b"nothing")
    assert main(["generate", "--model", str(folder)]) == 2
    assert FILE in capsys.readouterr().err
