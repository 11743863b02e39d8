"""The queue is fair by planned seconds, long jobs let others come between, and nothing is saved up by being away."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from inkwash.studio import accounts
from inkwash.studio.catalogue import Catalogue
from inkwash.studio.errors import APIError
from inkwash.studio.library import NewFile
from inkwash.studio.store import PATIENCE, TURN, NewJob, NewResult, Store
from inkwash.studio.tables import jobs, users
from tests.studio.conftest import asked


@pytest.fixture
def ben(store):
    return accounts.add_user(store, "ben", None).id


def planned(seconds, parts=1, **more):
    return NewJob("pictures", "generate", {"n": parts}, parts, plan={"seconds": seconds, "bytes": None}, **more)


def training():
    return NewJob("points", "train", {}, lasting=True)


def test_who_was_served_the_least_is_next(store, user, ben):
    """Anna's jobs take thirty seconds, Ben's ten: he has three for each of hers."""
    for _ in range(4):
        store.submit(user, planned(30.0))
    for _ in range(12):
        store.submit(ben, planned(10.0))
    order = [store.claim("w").user_id for _ in range(16)]
    for count in (4, 8, 12, 16):
        assert order[:count].count(user) == count // 4


def test_a_job_of_many_parts_lets_another_user_between(store, user, ben):
    long = store.submit(user, planned(1000.0, 1000)).id
    job = store.claim("w")
    assert store.advance("w", job) and store.job(long).part == 1
    short = store.submit(ben, planned(1.0)).id
    assert not store.advance("w", job)
    assert store.job(long).status == "queued" and store.claim("w").id == short
    assert store.claim("v").id == long and store.job(long).part == 2


def test_it_goes_on_while_what_its_user_waits_for_takes_as_long(store, user):
    store.submit(user, planned(10.0, 10))
    job = store.claim("w")
    store.submit(user, planned(10.0, 10))
    assert store.advance("w", job) and store.advance("w", job)


def test_who_was_away_has_saved_nothing_up(store, user, ben):
    for _ in range(10):
        store.submit(user, planned(10.0))
    for _ in range(8):
        store.claim("w")
    for _ in range(10):  # Ben was not served for all that time
        store.submit(ben, planned(10.0))
    order = [store.claim("w").user_id for _ in range(4)]
    assert order.count(user) == 2


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([1.0, 5.0, 20.0]), st.integers(1, 5)), min_size=2, max_size=4))
def test_no_user_is_ahead_of_another_by_more_than_a_part(tmp_path_factory, kinds):
    """Whatever each asks for: as long as all wait, planned seconds begun differ by one part at most."""
    store = Store(tmp_path_factory.mktemp("fair"))
    costs, served = {}, {}
    for number, (seconds, parts) in enumerate(kinds):
        user = accounts.add_user(store, f"user {number}", None).id
        for _ in range(40 // parts):
            store.submit(user, planned(seconds * parts, parts))
        costs[user], served[user] = seconds, 0.0
    for _ in range(25):
        job = store.claim("w")
        served[job.user_id] += costs[job.user_id]
        store.release("w")
        assert max(served.values()) - min(served.values()) <= max(costs.values()) + 1e-9
    store.engine.dispose()


SMALL, LARGE = 1.0, 20.0


@pytest.mark.parametrize("whose", ["another's", "the same user's", "parts of one job", "of ten users"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_small_job_behind_ten_large_ones_starts_after_one_at_most(store, user, ben, whose, begun):
    if whose == "of ten users":
        for number in range(10):
            store.submit(accounts.add_user(store, f"user {number}", None).id, planned(LARGE))
    elif whose == "parts of one job":
        store.submit(user, planned(10 * LARGE, 10))
    else:
        for _ in range(10):
            store.submit(user, planned(LARGE))
    running = store.claim("w") if begun else None
    small = store.submit(ben if whose == "another's" else user, planned(SMALL))
    assert store.queue_position(small) == 0
    if begun:
        assert not store.is_next(running.id) and not store.advance("w", running)
    assert store.claim("w").id == small.id


def test_of_jobs_that_take_as_long_who_came_first_is_first(store, user):
    ids = [
        store.submit(user, planned(seconds)).id for seconds in (10.0, 10.2, 9.9, 10.0)
    ]  # as speed is measured anew
    assert [store.claim("w").id for _ in ids] == ids


def test_a_large_job_is_overtaken_for_ten_times_its_own_seconds_and_no_more(store, user):
    """Small ones come without end, two of them always wait."""
    large = store.submit(user, planned(LARGE)).id
    for _ in range(2):
        store.submit(user, planned(SMALL))
    overtaken = 0.0
    while (job := store.claim("w")).id != large:
        overtaken += SMALL
        assert store.advance("w", job) is False and overtaken < 2 * PATIENCE * LARGE
        store.submit(user, planned(SMALL))
    assert 0.9 * PATIENCE * LARGE < overtaken <= PATIENCE * LARGE


def test_a_users_large_part_comes_though_others_ask_for_small_ones_without_end(store, user, ben):
    large, served = store.submit(user, planned(LARGE)).id, 0.0
    store.submit(ben, planned(SMALL))
    while (job := store.claim("w")).id != large:
        served += SMALL
        store.advance("w", job)
        store.submit(ben, planned(SMALL))
        assert served <= LARGE


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1.0, 5.0, 20.0]), st.integers(1, 3)), min_size=1))
def test_the_position_in_the_queue_is_the_number_of_jobs_that_are_begun_before(tmp_path_factory, asked_for):
    """But for users who would be served alike: which of the three is first shows when it is their turn."""
    store = Store(tmp_path_factory.mktemp("places"))
    people = [accounts.add_user(store, f"user {number}", None).id for number in range(3)]
    jobs = [store.submit(people[who], planned(seconds * parts, parts)) for who, seconds, parts in asked_for]
    told, order = {job.id: store.queue_position(job) for job in jobs}, []
    while job := store.claim("w"):
        order += [] if job.id in order else [job.id]
        while store.advance("w", store.job(job.id)):
            pass
    assert len(order) == len(jobs) and all(abs(told[id] - place) <= 2 for place, id in enumerate(order))
    store.engine.dispose()


def test_a_training_comes_after_what_its_user_waits_for_and_makes_way_for_others(store, user, ben):
    lasting = store.submit(user, training()).id
    assert store.claim("w").id == lasting and store.is_next(lasting)
    short = store.submit(user, asked()).id
    assert not store.is_next(lasting)
    store.release("w")
    assert store.claim("w").id == short
    assert store.claim("v").id == lasting and store.is_next(lasting)
    store.submit(ben, training())
    assert not store.is_next(lasting)  # they take turns


def test_a_turn_of_a_training_is_charged_and_no_more(store, user):
    store.submit(user, training()._replace(plan={"seconds": 1e6, "bytes": None}))
    store.claim("w")
    with store.reading() as tx:
        assert tx.scalar(select(users.c.served).where(users.c.id == user)) == TURN


def test_a_training_pauses_and_goes_on(store, user, ben):
    id = store.submit(user, training()).id
    assert not store.pause(id, ben) and store.pause(id, user) and store.job(id).status == "paused"
    assert store.claim("w") is None and store.resume(id, user)
    store.claim("w")
    assert store.pause(id, user) and store.job(id).status == "running" and store.wanted(id) == "pause"
    store.release("w")
    assert store.job(id).status == "paused" and store.job(id).wanted is None
    assert store.resume(id, user) and store.job(id).status == "queued"
    store.claim("w")
    store.pause(id, user), store.resume(id, user)
    assert store.wanted(id) is None  # it was thought better of
    store.pause(id, user)
    assert store.recover() == [] and store.job(id).status == "paused"  # the server died before the checkpoint
    assert store.stop(id, user) and store.job(id).status == "queued" and store.wanted(id) == "stop"


def test_only_what_lasts_can_be_paused_and_what_has_ended_cannot(store, user):
    short = store.submit(user, asked()).id
    assert not any(do(short, user) for do in (store.pause, store.resume, store.stop))
    lasting = store.submit(user, training()).id
    store.cancel(lasting)
    assert not any(do(lasting, user) for do in (store.pause, store.resume, store.stop))


def test_a_failed_training_can_go_on_or_be_given_up(store, user):
    id = store.submit(user, training()).id
    store.claim("w")
    (store.runs / id / "out").mkdir(parents=True)
    store.fail("w", id, "no memory")
    assert store.sweep() == [] and (store.runs / id).exists()
    assert store.resume(id, user) and store.job(id).error is None
    store.claim("w")
    store.fail("w", id, "no memory")
    assert store.cancel(id, user) and not (store.runs / id).exists()


def test_the_uploads_of_a_training_that_may_go_on_stay_and_closing_an_account_ends_it(store, user):
    id = store.submit(user, training()._replace(request={"data": {"sha256": "0" * 64, "name": "x"}})).id
    store.pause(id, user)
    with store.files.stage(b"x", ".csv") as content:
        store.add_uploads(user, [NewFile(content._replace(sha256="0" * 64), "x.csv")])
    store.delete_uploads(time.time() + 1)
    assert store.upload_of("0" * 64, user)
    store.resume(id, user), store.claim("w"), store.fail("w", id, "no memory")
    store.delete_uploads(time.time() + 1)
    assert store.upload_of("0" * 64, user)  # it may be resumed
    accounts.change_user(store, user, active=False)
    assert store.job(id).status == "cancelled"


# models, and the share of the disk


def trained(store, user, name="ring", size=1000):
    """A training that is done."""
    id = store.submit(user, training()).id
    job = store.claim("w")
    folder = store.runs / id / "out" / "model"
    folder.mkdir(parents=True)
    (folder / "system.json").write_text('{"system": "points"}'.ljust(size))
    new = NewResult(None, name, {}, {}, (), folder, name)
    assert store.add("w", job, 0, 0, new, {"emoji"}) and not store.advance("w", job)
    return id


def test_a_trained_model_is_its_users_and_has_a_name_of_its_own(store, user, ben):
    ids = [trained(store, user), trained(store, user), trained(store, user, "emoji")]
    assert [model.name for model in store.models(user)] == ["ring", "ring-2", "emoji-2"]
    trained(store, ben)
    assert [model.name for model in store.models(ben)] == ["ring"]
    assert store.results_of(ids[1])[0].model == "ring-2" and store.job(ids[1]).status == "done"
    folder = store.folder_of(store.model("ring", user))
    assert (folder / "system.json").is_file() and store.model("ring-2", ben) is None
    assert store.sweep() == [] and folder.exists()
    assert not store.delete_model("ring-2", ben) and store.delete_model("ring", user) and not folder.exists()
    assert [model.name for model in store.models(ben)] == ["ring"] and not store.delete_model("ring", user)
    trained(store, user)
    assert [model.name for model in store.models(user)] == ["ring-2", "emoji-2", "ring"]


def test_a_job_keeps_to_the_model_that_it_was_asked_for(store, user):
    catalogue = Catalogue(store)
    trained(store, user)
    ring = store.model("ring", user)
    job = store.submit(user, asked(model="ring"))
    assert catalogue.folder_for(job, "ring") == store.folder_of(ring)
    training = store.job(ring.job_id)
    with store.writing() as tx:  # the training goes on, and its model is another folder
        tx.execute(update(jobs).where(jobs.c.id == ring.job_id).values(status="running", worker="w"))
    (store.runs / "more").mkdir()
    assert store.add_model("w", training, store.runs / "more", "ring")
    later = store.folder_of(store.model("ring", user))
    assert catalogue.folder_for(job, "ring") == later != store.folder_of(ring)
    store.delete_model("ring", user)
    with store.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.id == ring.job_id).values(status="done", worker=None))
    trained(store, user)
    assert store.model("ring", user)
    with pytest.raises(APIError, match="the model 'ring' was deleted"):
        catalogue.folder_for(job, "ring")


def test_a_crash_while_a_model_is_kept_loses_neither_model_nor_job(store, user, monkeypatch):
    id = store.submit(user, training()).id
    job, folder = store.claim("w"), store.runs / id / "out" / "model"

    def train():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "system.json").write_text("{}")
        return store.add("w", job, 0, 0, NewResult(None, "ring", {}, {}, (), folder, "ring"))

    with monkeypatch.context() as patch:
        patch.setattr(
            "inkwash.studio.store.insert", lambda table: 1 / 0 if table.name == "results" else insert(table)
        )
        from sqlalchemy import insert

        with pytest.raises(ZeroDivisionError):
            train()
    assert store.models(user) == [] and folder.exists()  # where it can be kept from once more
    assert train() and [model.name for model in store.models(user)] == ["ring"]
    assert len(store.sweep()) == 1  # its first copy, which no row names, in lost+found


def test_a_model_without_a_row_is_lost_and_found_and_a_deleted_one_goes(store, user):
    trained(store, user)
    model = store.folder_of(store.model("ring", user))
    (store.models_folder / "strange").mkdir()
    (store.models_folder / "strange" / "system.json").write_text("{}")
    assert [path.name for path in store.sweep()] == ["strange"] and model.exists()
    with store.writing() as tx:  # a crash came between the row and the folder
        tx.exec_driver_sql("update models set deleted = 1.0")
    assert store.sweep() == [] and not model.exists()


def test_results_models_and_uploads_count_against_a_share_of_the_disk(store):
    user = accounts.add_user(store, "carl", None, disk=2500).id
    trained(store, user, size=1000)
    assert store.disk_used(user) == 1000
    store.submit(user, planned(1.0)._replace(plan={"seconds": 1.0, "bytes": 1500}))
    with pytest.raises(APIError, match=r"0\.0 of your 0\.0025 MB of disk are taken") as error:
        store.submit(user, planned(1.0)._replace(plan={"seconds": 1.0, "bytes": 1501}))
    assert (error.value.status, error.value.code) == (403, "disk_quota")
    store.cancel(store.jobs(user)[0].id)
    trained(store, user, size=1000)
    with pytest.raises(APIError, match="disk"):
        trained(store, user, size=1000)
    assert [model.name for model in store.models(user)] == ["ring", "ring-2"]
    store.delete_model("ring", user)
    store.fail("w", store.jobs(user)[0].id, "no room")
    assert store.disk_used(user) == 2000  # of a model, and of a training that may go on
    with pytest.raises(APIError, match="cancel a training"):
        store.submit(user, planned(1.0)._replace(plan={"seconds": 1.0, "bytes": 501}))
    store.cancel(store.jobs(user)[0].id)
    assert store.disk_used(user) == 1000
