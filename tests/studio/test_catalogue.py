"""Names of models, as users mean them."""

import json
import shutil
import time

import pytest
from sqlalchemy import insert

from inkwash.studio.catalogue import Catalogue
from inkwash.studio.errors import APIError
from inkwash.studio.requests import Needs
from inkwash.studio.tables import models
from inkwash.weights.shipped import shipped
from tests.studio.conftest import asked


def test_an_alias_is_the_model_of_all_but_those_who_have_one_of_this_name(store, user):
    catalogue = Catalogue(store, aliases={"dall-e-3": "emoji"})
    assert [catalogue.real_name(name, user) for name in ("dall-e-3", "emoji", "none")] == ["emoji", "emoji", "none"]
    job = store.submit(user, asked()).id
    row = {
        "id": "m",
        "user_id": user,
        "name": "dall-e-3",
        "system": "pictures",
        "bytes": 1,
        "job_id": job,
        "created": 1.0,
    }
    with store.writing() as tx:
        tx.execute(insert(models).values(row))
    assert catalogue.real_name("dall-e-3", user) == "dall-e-3" and catalogue.real_name("dall-e-3", "b") == "emoji"


def test_a_model_is_known_by_what_it_draws_by_and_not_by_its_name_or_card(store, tmp_path):
    catalogue, soon = Catalogue(store), time.monotonic() + 60
    shutil.copytree(shipped()["emoji-fast"], tmp_path / "copy")
    catalogue.shared |= {"copy": tmp_path / "copy", "other": shutil.copytree(tmp_path / "copy", tmp_path / "other")}
    (tmp_path / "copy" / "card.md").write_text("Another card.")
    (tmp_path / "copy" / "unet" / "model.onnx").write_bytes(b"of these weights")
    with (tmp_path / "other" / "system.json").open("a") as file:
        file.write("\n")
    fast, copy, other = (catalogue.hash(name, soon) for name in ("emoji-fast", "copy", "other"))
    assert fast == copy != other and catalogue.hashes_of(["copy", "anna's own"]) == {"copy": copy}
    assert catalogue.offered()[other] == "other"


def test_a_job_is_drawn_by_the_model_that_was_meant_whatever_it_is_called_here(store, user):
    catalogue = Catalogue(store)
    hash = catalogue.hash("emoji-fast", time.monotonic() + 60)
    needs = Needs("pictures", "generate", [], {"emoji": hash})
    job = store.submit(user, asked()._replace(needs=json.dumps(needs._asdict())))
    assert catalogue.folder_for(job, "emoji") == shipped()["emoji-fast"]
    with pytest.raises(APIError, match="was deleted"):  # a user's own of this name, which is no shared one
        catalogue.folder_for(job, "icons")


def test_who_asks_for_a_model_that_is_still_read_is_told_to_ask_again(store, monkeypatch):
    monkeypatch.setattr("inkwash.studio.catalogue.hash_so_far", lambda path, until: None)
    with pytest.raises(APIError) as error:
        Catalogue(store).hashes_of(["emoji"])
    assert (error.value.status, error.value.code, error.value.wait) == (503, "model_not_read", 5)


def test_a_worker_begins_no_job_for_which_it_lacks_something(store, user):
    there, lost = (store.submit(user, asked()._replace(needs=text)).id for text in ("there", "lost"))
    store.cancel(there)
    there = store.submit(user, asked()._replace(needs="there")).id
    assert store.claim("w", lambda needs: needs == "there").id == there
    assert store.claim("v", lambda needs: needs == "there") is None and store.lacking == ["lost"]
    assert store.claim("u").id == lost
