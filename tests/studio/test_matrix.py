"""Every route of the OpenAPI document, asked by nobody, by the owner, by another user and by an administrator."""

import base64
import io
import json
import re
import shutil

import httpx
import pytest
from PIL import Image
from sqlalchemy import insert

from inkwash.studio import a1111, accounts, api, openai, verbs
from inkwash.studio import people as people_api
from inkwash.studio.app import create
from inkwash.studio.engine import Settings
from inkwash.studio.tables import models
from inkwash.weights.shipped import locate
from tests.studio.conftest import Running, asked, fox, sent
from tests.systems.checkpoints.test_facts import single
from tests.systems.detection import toy as boxes
from tests.systems.engines import server
from tests.systems.restoration import toy as restoration
from tests.systems.segmentation import toy
from tests.weights.test_scan import write

PUBLIC = {("get", "/healthz"), ("get", "/shared/{token}"), ("post", "/api/login"), ("post", "/api/enter")}
ADMINS = {("get", "/metrics"), ("get", "/api/users"), ("post", "/api/users"), ("patch", "/api/users/{id}")}
OWNED = ("/api/jobs/{id}", "/api/results/{id}", "/api/keys/{id}", "/api/models/{name}")
REFUSED = {  # to everyone who may ask, or for want of what the request would need
    ("post", "/api/login"): 401,
    ("post", "/api/enter"): 401,
    ("post", "/api/password"): 401,  # the old one is wrong
    ("post", "/api/recipe"): 422,
    ("post", "/api/jobs/{id}/pause"): 409,  # a picture is no training
    ("post", "/api/jobs/{id}/resume"): 409,
    ("post", "/api/jobs/{id}/stop"): 409,
    ("post", "/sdapi/v1/interrogate"): 422,
    ("post", "/sdapi/v1/extra-single-image"): 422,
    ("post", "/sdapi/v1/extra-batch-images"): 422,
    ("post", "/controlnet/detect"): 422,
}
MODEL = {"prompt": "a fox", "model": "emoji-fast"}


def png():
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, format="PNG")
    return file.getvalue()


FORMS = {
    ("post", "/api/login"): {"json": {"name": "nobody", "password": "not a password"}},
    ("post", "/api/enter"): {"json": {"token": "ink-none"}},
    ("post", "/api/password"): {"json": {"old": "not a password", "new": "another long password"}},
    ("post", "/api/keys"): {"json": {"name": "x"}},
    ("put", "/api/results/{id}/share"): {"json": {}},
    ("post", "/api/uploads"): {"files": {"files": png()}},
    ("post", "/api/recipe"): {"files": {"file": png()}},
    ("patch", "/api/users/{id}"): {"json": {"daily": 10**6}},
    ("post", "/v1/images/generations"): {"json": MODEL},
    ("post", "/v1/images/edits"): {"data": MODEL, "files": {"image": png()}},
    ("post", "/v1/images/variations"): {"data": {"model": "emoji-fast"}, "files": {"image": png()}},
    ("post", "/sdapi/v1/img2img"): {"json": {"init_images": [base64.b64encode(png()).decode()], "steps": 2}},
    ("post", "/sdapi/v1/png-info"): {"json": {"image": base64.b64encode(png()).decode()}},
    ("post", "/sdapi/v1/txt2img"): {"json": {"prompt": "a fox", "width": 64, "height": 64, "steps": 2}},
}


def routes(tmp):
    document = create(Settings(tmp)).openapi()
    return sorted((method, path) for path, methods in document["paths"].items() for method in methods)


@pytest.fixture(scope="module")
def engine():
    with server.running() as found:
        yield found


@pytest.fixture(scope="module")
def studio(tmp_path_factory, engine):
    """One with a model of each system."""
    file = write(tmp_path_factory.mktemp("models") / "one.safetensors", single("sd1"))
    cells = tmp_path_factory.mktemp("models") / "masks"
    toy.model().save(cells)
    folders = [cells.parent / name for name in ("shapes", "larger", "edited", "kinds")]
    models = boxes.model(), restoration.upscaler(), restoration.editor(), restoration.cascade()
    for folder, made in zip(folders, models, strict=True):
        made.save(folder)
    elsewhere = ("--engine", f"there={engine.url}#{server.MODEL}")
    given = [word for path in (file, cells, *folders) for word in ("--model", str(path))]
    running = Running(tmp_path_factory.mktemp("studio") / "home", *given, *elsewhere)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def people(studio):
    clients = {"nobody": httpx.Client(base_url=studio.url, timeout=60)}
    for name in ("owner", "other"):
        clients[name] = studio.client(name)
    boss = accounts.add_user(studio.store, "boss", None, admin=True)
    key = accounts.issue(studio.store, boss.id, "key")
    clients["admin"] = httpx.Client(base_url=studio.url, headers={"authorization": f"Bearer {key}"}, timeout=60)
    yield clients
    for client in clients.values():
        client.close()


def ask(studio, client, owner, method, path):
    """The status of the answer to a sound request about something of the owner's, made for it."""
    number = len(studio.store.jobs(accounts.find_user(studio.store, "owner").id, limit=200))
    id = ""
    if path.startswith("/api/keys/"):
        id = owner.post("/api/keys", json={"name": "mine"}).json()["id"]
    elif path.startswith(("/api/jobs/{id}", "/api/results/", "/shared/")):
        job = fox(owner, **MODEL, seed=number).json()["id"]
        job = owner.get(f"/api/jobs/{job}", params={"wait": 30}).json()
        id = job["id"] if path.startswith("/api/jobs/") else job["results"][0]["id"]
        if path.endswith("/share") or path.startswith("/shared/"):
            url = owner.put(f"/api/results/{job['results'][0]['id']}/share", json={}).json()["url"]
    elif path == "/api/models/{name}":
        trained(studio, accounts.find_user(studio.store, "owner").id)
        path = "/api/models/ring"
    elif path.startswith("/api/users/"):
        id = accounts.find_user(studio.store, "other").id
    if path == "/shared/{token}":
        path = url
    path = path.replace("{id}", id).replace("{name}", "emoji").replace("{index}", "0")
    form = FORMS.get((method, path.replace(id, "{id}") if id else path), {})
    if method == "post" and not id and path.startswith(("/api/jobs/", "/api/plans/")):
        form = {"json": body(client, *path.split("/")[3:])}
    if method == "post" and path == "/api/users":
        form = {"json": {"name": f"new {number} {id}", "password": "long enough a password"}}
    if method == "post" and not form and path.startswith(("/sdapi", "/controlnet")):
        form = {"json": {}}
    with client.stream(method.upper(), path, **form) as answer:
        return answer.status_code


def body(client, system, verb):
    """What this verb can be asked at least: of a file any, which it refuses when it is its turn."""
    if client.get("/api/systems").status_code == 401:
        return {}
    kinds = {one["name"]: one for one in client.get("/api/systems").json()}[system]["verbs"]
    fields = next(one for one in kinds if one["name"] == verb)["fields"]
    models = [model["name"] for model in client.get("/api/models").json() if model["system"] == system]
    values = {"file": lambda: sent(client, b"a,b\n1,2\n", "table.csv"), "str": lambda: models[0]}
    values["folder"] = values["file"]
    wanted = {field["name"]: values[field["kind"]]() for field in fields if field["required"]}
    wanted |= {"data": values["file"]()} if verb == "train" else {}
    wanted |= {"prompt": "a fox"} if system in ("checkpoints", "engines") else {}
    wanted |= {"task": "restore"} if (system, verb) == ("editing", "edit") else {}
    return wanted | (MODEL if (system, verb) == ("pictures", "generate") else {})


def trained(studio, user):
    """A model of the user's."""
    if studio.store.model("ring", user) is None:
        row = {"user_id": user, "name": "ring", "system": "pictures", "bytes": 1, "created": 1.0, "deleted": None}
        job = studio.store.submit(user, asked()).id
        studio.store.cancel(job)
        with studio.store.writing() as tx:
            tx.execute(insert(models).values(id=job, job_id=job, **row))
        shutil.copytree(locate("emoji-fast"), studio.store.models_folder / job)


def test_who_may_do_what(studio, people, tmp_path):
    wrong, asked = [], 0
    for method, path in routes(tmp_path):
        found = {name: ask(studio, client, people["owner"], method, path) for name, client in people.items()}
        asked += len(found)
        wanted = dict.fromkeys(("owner", "other", "admin"), "in")
        wanted["nobody"] = "in" if (method, path) in PUBLIC else "401"
        if (method, path) in ADMINS:
            wanted["owner"] = wanted["other"] = "403"
        if path.startswith(OWNED):
            wanted["other"] = wanted["admin"] = "404"
        for name, status in found.items():
            is_in = status == REFUSED.get((method, path), status if status < 400 else None)
            if (str(status) != wanted[name]) if wanted[name] != "in" else not is_in:
                wrong.append(f"{method} {path}: {name} got {status}, not {wanted[name]}")
    assert wrong == [] and asked > 200
    assert set(routes(tmp_path)) >= ADMINS | PUBLIC


def test_what_is_not_in_the_document_is_the_page_alone(tmp_path):
    """No route hides from the matrix above."""
    app = create(Settings(tmp_path))
    for router in (verbs.router(), api.router, people_api.router, api.public, openai.router, a1111.router):
        assert router.routes and all(route.include_in_schema for route in router.routes)
    hidden = {route.path for route in app.routes if hasattr(route, "path")} - {path for _, path in routes(tmp_path)}
    assert hidden == {"/", "/docs", "/static", "/static-docs", "/openapi.json"}


def test_every_schema_that_the_document_names_is_in_it(tmp_path):
    document = create(Settings(tmp_path)).openapi()
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert "Problem" in refs and refs <= document["components"]["schemas"].keys()
