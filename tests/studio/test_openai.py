"""OpenAI's door, by OpenAI's own client."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from PIL import Image
from sqlalchemy import select

import inkwash
from inkwash.studio import accounts
from inkwash.studio.tables import uploads
from tests.studio.conftest import Running


@pytest.fixture(scope="module")
def client(studio):
    return openai.OpenAI(base_url=f"{studio.url}/v1", api_key=studio.key(), max_retries=0)


def pixels(datum):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(datum.b64_json))))


def png(picture):
    file = io.BytesIO()
    picture.save(file, format="PNG")
    file.seek(0)
    file.name = "picture.png"
    return file


@pytest.fixture(scope="module")
def fox():
    return inkwash.load("emoji").generate("a red fox", style="flat", seed=7)


def test_models_are_listed_and_found(client):
    assert {"emoji", "emoji-fast"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("emoji").owned_by == "inkwash"
    with pytest.raises(openai.NotFoundError, match="unknown model 'emoj'"):
        client.models.retrieve("emoj")
    with pytest.raises(openai.NotFoundError, match="unknown model 'exchange'"):  # it forecasts
        client.models.retrieve("exchange")


def test_a_picture_is_the_one_that_the_model_draws(client, fox):
    answer = client.images.generate(prompt="a red fox", model="emoji", style="flat", extra_body={"seed": 7})
    assert np.array_equal(pixels(answer.data[0]), np.asarray(fox))
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert answer.usage.total_tokens == 0 and answer.created > 1.7e9


def test_several_and_their_size(client):
    answer = client.images.generate(prompt="a red fox", n=3, size="128x128", extra_body={"seed": 1, "steps": 4})
    shapes = [pixels(datum).shape for datum in answer.data]
    assert shapes == [(128, 128, 3)] * 3 and [datum.seed for datum in answer.data] == [1, 2, 3]
    assert not np.array_equal(pixels(answer.data[0]), pixels(answer.data[1]))


@pytest.mark.parametrize(
    ("size", "given", "note"),
    [
        ("auto", 64, None),
        ("96x96", 96, None),
        ("128x96", 96, "size: 96x96, the largest square in 128x96; the models draw squares"),
        ("1024x1792", 1024, "size: 1024x1024, the largest square in 1024x1792; the models draw squares"),
    ],
)
def test_a_size_that_is_no_square_gives_the_largest_square_in_it_and_says_so(client, size, given, note):
    options = {"prompt": "a fox", "model": "emoji-fast", "size": size, "extra_body": {"seed": 1}}
    answer = client.images.generate(**options)
    assert pixels(answer.data[0]).shape == (given, given, 3)
    assert (answer.size, answer.note) == (f"{given}x{given}", note)
    events = list(client.images.generate(stream=True, partial_images=1, **options))
    assert (events[-1].size, getattr(events[-1], "note", None)) == (f"{given}x{given}", note)


@pytest.mark.parametrize(("format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats(client, fox, format, kind):
    options = {"output_format": format, "extra_body": {"seed": 7}}
    options |= {} if format == "png" else {"output_compression": 90}
    answer = client.images.generate(prompt="a red fox", style="flat", **options)
    picture = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))
    assert picture.format == kind and answer.output_format == format
    far = np.abs(np.asarray(picture.convert("RGB"), float) - np.asarray(fox, float)).mean()
    assert (far == 0) == (format == "png") and far < 6


def test_transparency(client):
    answer = client.images.generate(prompt="a red fox", background="transparent", extra_body={"seed": 7})
    picture = pixels(answer.data[0])
    assert picture.shape == (64, 64, 4) and picture[0, 0, 3] < 20 and answer.background == "transparent"


def test_a_url_leads_to_the_picture_without_a_key_and_without_the_words(client, fox):
    options = {"style": "flat", "response_format": "url", "extra_body": {"seed": 7}}
    answer = client.images.generate(prompt="a red fox", **options)
    found = httpx.get(answer.data[0].url)
    picture = Image.open(io.BytesIO(found.content))
    assert np.array_equal(np.asarray(picture), np.asarray(fox)) and b"fox" not in found.content
    assert httpx.get(answer.data[0].url[:-1]).status_code == 404


def test_a_stream_shows_the_picture_as_it_forms(client, fox):
    options = {"style": "flat", "stream": True, "partial_images": 3, "extra_body": {"seed": 7}}
    events = list(client.images.generate(prompt="a red fox", **options))
    assert [event.type for event in events] == [*["image_generation.partial_image"] * 3, "image_generation.completed"]
    assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]
    far = [np.abs(pixels(event).astype(float) - np.asarray(fox, float)).mean() for event in events]
    assert far[0] > far[1] > far[2] > far[3] == 0
    assert events[3].usage.total_tokens == 0 and events[3].size == "64x64"


def test_a_stream_of_several_pictures(client):
    options = {"n": 2, "stream": True, "partial_images": 1, "extra_body": {"seed": 7, "steps": 6}}
    events = list(client.images.generate(prompt="a red fox", **options))
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "completed"] * 2


def test_an_edit_changes_what_is_transparent_in_the_mask_and_nothing_else(client, fox):
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 64, 32))
    answer = client.images.edit(image=png(fox), mask=png(mask), prompt="a blue fox", extra_body={"seed": 3})
    picture, before = pixels(answer.data[0]), np.asarray(fox)
    assert np.array_equal(picture[32:], before[32:])
    assert np.abs(picture[:32].astype(float) - before[:32]).mean() > 3


def test_an_edit_without_a_mask_and_its_stream(client, fox):
    mild, wild = (
        client.images.edit(image=png(fox), prompt="a red fox", extra_body={"seed": 3, "strength": strength}).data[0]
        for strength in (0.2, 1.0)
    )
    far = [np.abs(pixels(datum).astype(float) - np.asarray(fox, float)).mean() for datum in (mild, wild)]
    assert far[0] < far[1]
    events = list(client.images.edit(image=[png(fox)], prompt="a fox", stream=True, partial_images=2))
    assert {event.type for event in events} == {"image_edit.partial_image", "image_edit.completed"}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's client marks the call so
def test_variations_are_like_it_and_differ(client, fox):
    answer = client.images.create_variation(image=png(fox), n=2)
    one, two = (pixels(datum).astype(float) for datum in answer.data)
    far = [np.abs(one - two).mean(), np.abs(one - np.asarray(fox, float)).mean()]
    assert all(1 < each < 80 for each in far)


def test_an_edit_by_json_takes_data_urls_and_uploads_and_fetches_nothing(studio, fox):
    with studio.client() as client:
        upload = client.post("/api/uploads", files={"files": png(fox)}).json()[0]["sha256"]
        data = f"data:image/png;base64,{base64.b64encode(png(fox).read()).decode()}"
        first, second = (
            client.post("/v1/images/edits", json={"prompt": "a fox", "images": [image], "seed": 3}).json()
            for image in ({"image_url": data}, {"file_id": upload})
        )
        assert first["data"][0]["b64_json"] == second["data"][0]["b64_json"]
        answer = client.post("/v1/images/edits", json={"prompt": "a", "images": [{"image_url": "http://127.0.0.1/"}]})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "url_not_fetched"


@pytest.mark.parametrize(
    ("path", "files", "fields", "message"),
    [
        ("edits", [("mask[]", "png")], {}, "mask[]: the files of an edit are image and mask"),
        ("edits", [("n", "png")], {}, "n: the files of an edit"),
        ("edits", [("mask", "png"), ("mask", "png")], {}, "mask: given 2 times"),
        ("edits", [], {"seed": ["1", "2"]}, "seed: given 2 times"),
        ("edits", [], {"mask": "x"}, "mask: a file is needed"),
        ("variations", [("mask", "png")], {}, "mask: a variation is of the whole picture"),
    ],
)
def test_no_part_of_a_form_is_passed_over(studio, fox, path, files, fields, message):
    with studio.client() as client:
        sent = [("image", png(fox)), *((name, png(fox.convert("RGBA"))) for name, _ in files)]
        answer = client.post(f"/v1/images/{path}", files=sent, data={"prompt": "a fox", "steps": "1"} | fields)
        assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_a_reference_is_one_picture(studio):
    with studio.client() as client:
        images = [{"image_url": "data:image/png;base64,AAAA", "file_id": "x"}]
        answer = client.post("/v1/images/edits", json={"prompt": "a fox", "images": images})
        assert answer.status_code == 400 and "not both" in answer.json()["error"]["message"]


def test_a_key_of_idempotency_counts_to_its_last_character(studio):
    with studio.client() as client:
        ids = {
            client.post(
                "/v1/images/generations",
                json={"prompt": "a fox", "model": "emoji-fast", "seed": 1},
                headers={"idempotency-key": 200 * "k" + end},
            ).json()["data"][0]["id"]
            for end in "ab"
        }
        assert len(ids) == 2


WRONG = [
    ({"prompt": ""}, "the prompt is empty", "prompt"),
    ({"prompt": "x", "size": "64*128"}, "size = 64*128", "size"),
    ({"prompt": "x", "size": "4x128"}, "size = 4x128", "size"),
    ({"prompt": "x", "size": "99999x99999"}, "size", "size"),
    ({"prompt": "x", "n": 11}, "n:", "n"),
    ({"prompt": "x", "style": "flta"}, "did you mean flat", "style"),
    (
        {"prompt": "x", "background": "transparent", "output_format": "jpeg"},
        "jpeg knows no transparency",
        "background",
    ),
    ({"prompt": "x", "extra_body": {"sede": 3}}, "unknown parameter 'sede'", "sede"),
    ({"prompt": "x", "extra_body": {"steps": 0}}, "steps:", "steps"),
    ({"prompt": "x", "extra_body": {"steps": 2, "num_inference_steps": 3}}, "give one", "num_inference_steps"),
    ({"prompt": "x", "extra_body": {"guidance": 2, "guidance_scale": 3}}, "give one", "guidance_scale"),
    ({"prompt": "x", "partial_images": 2}, "only a stream", "partial_images"),
    ({"prompt": "x", "output_compression": 50}, "for png", "output_compression"),
    ({"prompt": "x", "extra_body": {"sampler": "eular"}}, "did you mean euler", "sampler"),
]


@pytest.mark.parametrize(("options", "message", "param"), WRONG)
def test_what_is_wrong_is_said_in_the_clients_own_way(client, options, message, param):
    with pytest.raises(openai.APIStatusError) as error:
        client.images.generate(**options)
    assert error.value.status_code in (400, 422) and message in error.value.body["message"]
    assert error.value.param == param and "\n" not in error.value.body["message"]


def test_an_unknown_model_is_not_passed_over(client):
    for model in ("dall-e-2", "dall-e-3", "gpt-image-1"):
        with pytest.raises(openai.NotFoundError, match=f"--alias {model}=MODEL") as error:
            client.images.generate(prompt="a fox", model=model)
        assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match=r"unknown model 'sd15': [^`]*$"):
        client.images.generate(prompt="a fox", model="sd15")


@pytest.fixture(scope="module")
def aliased(tmp_path_factory):
    running = Running(tmp_path_factory.mktemp("aliased") / "home", "--alias", "dall-e-3=emoji-fast")
    yield running
    running.stop()


def test_an_alias_is_a_name_of_the_model_in_all_apis(aliased):
    client = openai.OpenAI(base_url=f"{aliased.url}/v1", api_key=aliased.key(), max_retries=0)
    assert "dall-e-3" in {model.id for model in client.models.list()}
    assert client.models.retrieve("dall-e-3").id == "dall-e-3"
    answer = client.images.generate(model="dall-e-3", prompt="a fox", extra_body={"seed": 1})
    wanted = inkwash.load("emoji-fast").generate("a fox", seed=1)
    assert np.array_equal(pixels(answer.data[0]), np.asarray(wanted))
    with aliased.client() as web:
        assert web.get(f"/api/results/{answer.data[0].id}").json()["recipe"]["model"] == "emoji-fast"
        request = {"prompt": "a fox", "model": "dall-e-3"}
        assert web.post("/api/jobs/pictures/generate", json=request).json()["model"] == "emoji-fast"
        order = {"prompt": "a fox", "steps": 2, "override_settings": {"sd_model_checkpoint": "dall-e-3"}}
        info = json.loads(web.post("/sdapi/v1/txt2img", json=order).json()["info"])
        assert info["sd_model_name"] == "emoji-fast"
        assert web.post("/sdapi/v1/options", json={"sd_model_checkpoint": "dall-e-3"}).status_code == 200
        assert web.get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith("emoji-fast [")


def test_a_wrong_key(studio):
    with pytest.raises(openai.AuthenticationError, match="log in first"):
        openai.OpenAI(base_url=f"{studio.url}/v1", api_key="ink-wrong").models.list()


def test_a_quota_is_a_rate_limit_and_says_when_to_ask_again(studio):
    user = accounts.add_user(studio.store, "frugal", None, daily=1)
    key = accounts.issue(studio.store, user.id, "key")
    client = openai.OpenAI(base_url=f"{studio.url}/v1", api_key=key, max_retries=0)
    client.images.generate(prompt="a fox", model="emoji-fast")
    with pytest.raises(openai.RateLimitError) as error:
        client.images.generate(prompt="a fox", model="emoji-fast")
    assert int(error.value.response.headers["retry-after"]) > 80000


class Deaf(httpx.HTTPTransport):
    """The first answer of each request is lost on its way."""

    def __init__(self):
        super().__init__()
        self.lost = False

    def handle_request(self, request):
        answer = super().handle_request(request)
        if not self.lost:
            self.lost = True
            answer.read()
            raise httpx.ReadTimeout("lost")
        return answer


def test_a_request_that_is_sent_again_makes_one_job(studio):
    key = studio.key("again")
    user = accounts.find_user(studio.store, "again").id
    http = httpx.Client(transport=Deaf())
    client = openai.OpenAI(base_url=f"{studio.url}/v1", api_key=key, http_client=http, max_retries=1)
    client.images.generate(prompt="a fox", model="emoji-fast")
    assert len(studio.store.jobs(user)) == 1
    client.images.generate(prompt="a fox", model="emoji-fast")  # the same words, but asked for anew
    assert len(studio.store.jobs(user)) == 2


def test_many_at_once_get_each_their_own(client):
    def draw(seed):
        body = {"seed": seed}
        return client.images.generate(prompt="a fox", model="emoji-fast", extra_body=body).data[0]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(draw, range(24)))
    assert [datum.seed for datum in answers] == list(range(24))
    assert len({datum.b64_json for datum in answers}) == 24


def test_the_async_client(studio):
    import asyncio

    async def draw():
        async with openai.AsyncOpenAI(base_url=f"{studio.url}/v1", api_key=studio.key()) as client:
            asked = [client.images.generate(prompt="a fox", model="emoji-fast", n=2) for _ in range(3)]
            stream = await client.images.generate(prompt="a fox", stream=True, partial_images=1)
            return await asyncio.gather(*asked), [event.type async for event in stream]

    answers, events = asyncio.run(draw())
    assert [len(answer.data) for answer in answers] == [2, 2, 2]
    assert events == ["image_generation.partial_image", "image_generation.completed"]


def test_what_went_in_is_forgotten_when_the_answer_is_there(studio, fox):
    key = studio.key("tidy")
    client = openai.OpenAI(base_url=f"{studio.url}/v1", api_key=key, max_retries=0)
    client.images.edit(image=png(fox), prompt="a fox")
    with pytest.raises(openai.BadRequestError):
        client.images.edit(image=png(fox), prompt="a fox", extra_body={"sampler": "none such"})
    body = {"init_images": [base64.b64encode(png(fox).read()).decode()], "steps": 2}
    httpx.post(f"{studio.url}/sdapi/v1/img2img", json=body, auth=("x", key), timeout=60).raise_for_status()
    user = accounts.find_user(studio.store, "tidy").id
    with studio.store.reading() as tx:
        assert tx.execute(select(uploads).where(uploads.c.user_id == user)).all() == []
    assert len(studio.store.results(user)) == 2
