"""Names of models, as users mean them."""

from sqlalchemy import insert

from inkwash.studio.catalogue import Catalogue
from inkwash.studio.tables import models
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
