"""The store: a job is done once, a result's files and row are one, and what is acknowledged lies on the disk."""

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image
from sqlalchemy import inspect, select, update

from inkwash.codecs.png import encode_png, read_recipe
from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio import files as module_of_files
from inkwash.studio import library as shelf
from inkwash.studio import store as module
from inkwash.studio.database import tick
from inkwash.studio.errors import APIError
from inkwash.studio.files import Files
from inkwash.studio.library import NewFile
from inkwash.studio.store import MAX_DEATHS, NewJob, NewResult, Store
from inkwash.studio.tables import files as file_rows
from inkwash.studio.tables import jobs, metadata, results, uploads
from tests.studio.conftest import ONLY_SQLITE, asked, proc

RECIPE = {"seed": 7, "prompt": "a red fox"}


def png(shade: int = 0, recipe=None) -> bytes:
    return encode_png(Image.new("RGB", (8, 8), (shade % 256, shade // 256 % 256, shade // 65536)), recipe)


def files(store):
    return sorted(path for path in store.files.folder.rglob("*") if path.is_file())


def keep(store, worker, job, part, data, title="a red fox"):
    """What a worker does with a picture; whether the job was its own."""
    with store.files.stage(data, ".png") as content:
        new = NewResult(part, title, {}, RECIPE, [NewFile(content, "fox.png")])
        if not store.add(worker, job, part, 0, new):
            return False
    store.advance(worker, job)
    return True


def upload(store, user, data):
    with store.files.stage(data, ".png") as content:
        store.add_uploads(user, [NewFile(content, "fox.png")])
    return content.sha256


def drawn(store, user, n=1, shade=0):
    """A job that is done, and its results."""
    id = store.submit(user, asked(n)).id
    job = store.claim("w")
    for place in range(n):
        assert keep(store, "w", job, place, png(shade + place))
    return id, store.results_of(id)


def sha256(result):
    return result.files[0].sha256


def image_of(upload):
    return {"image": {"sha256": upload, "name": "fox.png"}}


def read(store, result):
    return store.read(result.files[0])


def test_the_numbered_steps_lead_to_the_tables_of_the_code(store, database):
    found = inspect(store.engine)
    for table in metadata.tables.values():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        keys = {(tuple(k["constrained_columns"]), k["referred_table"]) for k in found.get_foreign_keys(table.name)}
        assert keys == {((key.parent.name,), key.column.table.name) for key in table.foreign_keys}
    shared = {"studio", "buckets", "previews"} if database == "postgresql" else set()
    assert set(found.get_table_names()) == {*metadata.tables, "migrations", *shared}


def test_a_second_opening_takes_no_step_and_a_newer_database_is_refused(store):
    Store(store.home)
    with store.writing() as tx:
        tx.exec_driver_sql("insert into migrations (number) values (9999)")
    with pytest.raises(UserError, match="newer inkwash"):
        Store(store.home)


@ONLY_SQLITE
def test_a_commit_waits_for_the_disk(store):
    with store.writing() as tx:
        assert tx.exec_driver_sql("pragma synchronous").scalar() == 2  # full: each commit is synced
        assert tx.exec_driver_sql("pragma journal_mode").scalar() == "wal"


def test_a_picture_is_synced_before_it_has_its_name_and_its_name_before_it_has_a_row(store, user, monkeypatch):
    """fsync of the file, then its name, then fsync of the folder, and only then the row."""
    seen = []
    fsync, replace, commit, files = os.fsync, Path.replace, store.files.commit, proc("self") / "fd"

    def rows():
        with store.reading() as tx:
            return len(tx.execute(select(results)).all())

    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append((os.readlink(files / str(fd)), rows())), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (seen.append((f"name {b}", rows())), replace(a, b)))
    monkeypatch.setattr(store.files, "commit", lambda one: (commit(one), seen.append(("saved", rows())))[0])
    store.submit(user, asked())
    keep(store, "w", store.claim("w"), 0, png())
    path = sha256(store.results_of(store.jobs(user)[0].id)[0])
    steps = [
        ("temporary" if "/.staged" in what and "name" not in what else what.rpartition("/")[2], count)
        for what, count in seen
    ]
    assert [count for _, count in steps] == [0] * len(steps) and rows() == 1
    names = [name for name, _ in steps]
    assert names == ["temporary", f"{path}.png", path[:2], "files", "saved"]
    seen.clear()  # a crash between the name and the folder's sync leaves the file: the folder is synced all the same
    upload(store, user, png())
    assert [what.rpartition("/")[2] for what, _ in seen][1:] == [path[:2], "files", "saved"]


def test_a_job_is_claimed_once_and_done_with_its_last_picture(store, user):
    job = store.submit(user, asked(2))
    held = store.claim("one")
    assert held.id == job.id and store.claim("two") is None
    assert keep(store, "one", held, 0, png(0)) and store.job(held.id).status == "running"
    assert keep(store, "one", held, 1, png(1)) and store.job(held.id).status == "done"
    assert [picture.place for picture in store.results_of(held.id)] == [0, 1] and len(files(store)) == 2


def test_who_waits_longest_is_next_and_a_user_cannot_crowd_the_others_out(store, user):
    other = accounts.add_user(store, "ben", None).id
    mine = [store.submit(user, asked()).id for _ in range(3)]
    theirs = [store.submit(other, asked()).id for _ in range(2)]
    order = [store.claim("w").id for _ in range(5)]
    assert order.index(theirs[0]) <= 1 and order.index(theirs[1]) <= 3
    assert [id for id in order if id in mine] == mine


def watch(store, seconds):
    """What a server does in so many seconds: workers that were given up."""
    now, found = time.monotonic, []
    with pytest.MonkeyPatch.context() as patch:
        for second in range(round(seconds) + 1):
            patch.setattr(time, "monotonic", lambda second=second: now() + second)
            found += store.expire()
    store._last_look = 0.0  # the next time begins anew
    return found


def test_a_worker_that_was_given_up_writes_nothing_any_more(store, user):
    id = store.submit(user, asked()).id
    lost = store.claim("lost")
    assert watch(store, module.LEASE - 1) == [] and watch(store, module.LEASE + 1) == ["lost"]
    again = store.claim("next")
    assert not store.holds("lost", id) and not keep(store, "lost", lost, 0, png(1))
    store.fail("lost", id, "too late")
    assert store.job(id).status == "running" and files(store) == []
    assert keep(store, "next", again, 0, png(2)) and store.job(id).status == "done"


def test_a_lease_that_is_renewed_does_not_run_out(store, user, monkeypatch):
    id = store.submit(user, asked()).id
    store.claim("w")
    now = time.monotonic
    for second in range(3 * round(module.LEASE)):
        monkeypatch.setattr(time, "monotonic", lambda second=second: now() + second)
        if second % 10 == 0:
            store.renew("w", id)
        assert store.expire() == [] and store.holds("w", id)


def test_a_job_over_which_workers_die_fails_in_the_end_but_not_one_that_was_let_go(store, user):
    id = store.submit(user, asked()).id
    for _ in range(10):
        store.claim("w")
        store.release("w")
    for _ in range(MAX_DEATHS):
        assert store.job(id).status == "queued"
        store.claim("w")
        store.release("w", dead=True)
    assert store.job(id).status == "failed" and "died over it" in store.job(id).error


def test_cancel_ends_what_is_open_and_nothing_else(store, user):
    queued, running = store.submit(user, asked()).id, None
    running = store.claim("w")
    assert running.id == queued and not store.cancel(queued, "somebody else")
    assert store.cancel(queued, user) and not store.holds("w", queued)
    assert not keep(store, "w", running, 0, png()) and files(store) == []
    assert not store.cancel(queued, user)  # twice
    done, _ = drawn(store, user)
    assert not store.cancel(done, user) and store.job(done).status == "done"


def test_the_same_request_makes_one_job_for_each_user(store, user):
    other = accounts.add_user(store, "ben", None).id
    first = store.submit(user, asked(), idempotency_key="key:x").id
    assert store.submit(user, asked(), idempotency_key="key:x").id == first
    assert store.submit(other, asked(), idempotency_key="key:x").id != first
    assert store.submit(user, asked()).id != store.submit(user, asked()).id


def test_a_days_share_counts_what_is_open_or_done_and_is_free_again_a_day_later(store, monkeypatch):
    user = accounts.add_user(store, "carl", None, daily=3).id
    a = store.submit(user, asked(2)).id
    with pytest.raises(APIError, match="2 of your 3") as refused:
        store.submit(user, asked(2))
    assert refused.value.status == 429 and 86000 < refused.value.wait <= 86400
    keep(store, "w", store.claim("w"), 0, png())
    store.cancel(a)  # what was drawn of it counts
    with pytest.raises(APIError, match="1 of your 3"):
        store.submit(user, asked(3))
    store.submit(user, asked(2))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86401)
    store.submit(user, asked(3))


def test_a_full_queue_and_a_closed_account_are_refused(store, user, monkeypatch):
    monkeypatch.setattr(module, "MAX_QUEUED_EACH", 2)
    store.submit(user, asked()), store.submit(user, asked())
    with pytest.raises(APIError, match="queue is full"):
        store.submit(user, asked())
    accounts.change_user(store, user, active=False)
    with pytest.raises(APIError, match="closed"):
        store.submit(user, asked())
    assert store.count() == {"cancelled": 2}  # of a closed account nothing is drawn


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "folder", "insert"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whatever_fails_on_the_way_leaves_neither_file_nor_row_and_the_job_can_be_done(
    store, user, monkeypatch, call, error
):
    """Each step of keeping a picture fails once, as by a full disk; then the same is done again."""
    id = store.submit(user, asked()).id
    job = store.claim("w")
    store.files.folder.mkdir(exist_ok=True)

    def broken(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(module_of_files, "digest", broken)
        elif call == "folder":
            syncs, fsync = [], os.fsync
            patch.setattr(os, "fsync", lambda fd: (syncs.append(fd), broken() if len(syncs) == 3 else fsync(fd)))
        elif call == "insert":
            patch.setattr(module, "new_id", broken)
        elif call == "replace":
            patch.setattr(Path, "replace", broken)
        else:
            patch.setattr(os, call, broken)
        with pytest.raises(type(error)):
            keep(store, "w", job, 0, png())
    assert store.results_of(id) == [] and not [path for path in files(store) if path.name.startswith(".")]
    store.recover()
    assert files(store) == [] and store.job(id).status == "queued"
    assert keep(store, "w", store.claim("w"), 0, png())
    assert [path.stem for path in files(store)] == [sha256(store.results_of(id)[0])]


def test_recovery_removes_what_a_crash_left_and_keeps_all_else(store, user):
    _, (picture,) = drawn(store, user)
    went_in = upload(store, user, png(99))
    store.thumbnail(picture)
    half = [store.files.path(sha256(picture), ".png").with_name(f".{sha256(picture)}.123-4.png")]
    half.append(store.files.thumbnail_path(sha256(picture)).with_name(f".{sha256(picture)}.123-4.webp"))
    for file in half:
        file.write_bytes(b"half")
    assert store.recover() == []
    assert {path.stem for path in files(store)} == {sha256(picture), went_in}
    assert len(list(store.files.thumbnails.rglob("*.webp"))) == 1 and not any(file.exists() for file in half)


def test_a_start_leaves_what_is_not_the_studios(store, user):
    _, (picture,) = drawn(store, user)
    store.thumbnail(picture)
    strange = []
    for folder in (store.files.folder, store.files.thumbnails):
        near = folder / sha256(picture)[:2]
        for place in (folder / "holiday", near, folder):
            place.mkdir(exist_ok=True)
            for name in ("beach.png", ".beach.123-4.png", "beach.webp", "a" * 64 + ".png", "a" * 64 + ".jpg"):
                (place / name).write_bytes(png(3))
                strange.append(place / name)
        (folder / "@eaDir" / "beach.png").mkdir(parents=True)  # as some network drives make
        (folder / "aa").mkdir(exist_ok=True)
        (folder / "aa" / ("a" * 64 + ".png")).write_bytes(b"other content than its name says")
        strange += [folder / "@eaDir" / "beach.png", folder / "aa" / ("a" * 64 + ".png")]
    assert store.recover() == [] and all(path.exists() for path in strange)
    assert not (store.home / "lost+found").exists()


@ONLY_SQLITE
def test_a_database_older_than_its_pictures_loses_none(store, user):
    _, (first, deleted) = drawn(store, user, n=2)
    content = read(store, deleted)
    store.delete(deleted.id, user)
    store.engine.dispose()
    older = {file: file.read_bytes() for file in store.home.glob("studio.db*")}
    time.sleep(0.02)  # the clock of a file system is a coarse one
    new = []
    for data in (content, png(77)):  # the picture that had been deleted, drawn again; and another
        with store.files.stage(data, ".png") as one:
            store.files.commit(one)
            new.append(one.sha256)
    for file in store.home.glob("studio.db*"):
        file.unlink()
    for file, data in older.items():
        file.write_bytes(data)
    again = Store(store.home)
    assert {path.stem for path in again.recover()} == set(new)
    assert [path.stem for path in files(again)] == [sha256(first)]


def test_a_deletion_that_a_crash_cut_short_is_ended_by_the_next_start(store, user, monkeypatch):
    _, (picture,) = drawn(store, user)
    store.thumbnail(picture)
    monkeypatch.setattr(Files, "remove", lambda *content: None)
    store.delete(picture.id, user)
    assert store.recover() == [] and files(store) == [] and not list(store.files.thumbnails.rglob("*.webp"))


def test_a_start_goes_on_where_lost_and_found_is_not_its_own(store, user):
    (store.home / "lost+found").write_bytes(b"")
    with store.files.stage(png(5), ".png") as one:
        store.files.commit(one)
    assert store.recover() == [] and [path.stem for path in files(store)] == [one.sha256]


def test_the_same_content_is_kept_once_and_until_the_last_of_its_rows_is_gone(store, user):
    other = accounts.add_user(store, "ben", None).id
    _, (mine,) = drawn(store, user)
    _, (theirs,) = drawn(store, other)
    went_in = upload(store, other, png(0))
    assert sha256(mine) == sha256(theirs) and len(files(store)) == 1
    assert not store.delete(mine.id, other) and store.delete(mine.id, user) and not store.delete(mine.id, user)
    assert store.result(mine.id, user) is None and len(files(store)) == 1
    store.delete(theirs.id, other)
    assert len(files(store)) == 1
    store.delete_uploads(time.time() + 1)
    assert files(store) == [] and store.upload_of(went_in, other) is None


def test_of_a_deleted_picture_no_word_is_left_and_it_is_not_drawn_again(store, user):
    id, (first, second) = drawn(store, user, n=2)
    store.share(first.id, user, recipe=True)
    store.delete(first.id, user)
    assert store.job(id).request["prompt"] == "a red fox"
    store.delete(second.id, user)
    with store.reading() as tx:
        everything = "".join(str(tx.execute(select(table)).all()) for table in (results, file_rows, jobs))
    assert "fox" not in everything and store.job(id).status == "done"


def test_the_results_of_a_day_are_counted_in_one_part_or_many(store):
    user = accounts.add_user(store, "dora", None, daily=30).id
    write = NewJob("language", "write", {"n": 20, "seed": 1})
    store.submit(user, write)
    store.submit(user, asked(n=5))
    with pytest.raises(APIError, match="25 of your 30 results in 24 hours are taken; 20 more are not left"):
        store.submit(user, write)
    job = store.claim("w")
    store.add("w", job, 0, 0, NewResult(0, "a", {}, {}))
    store.add("w", job, 0, 1, NewResult(1, "b", {}, {}))
    store.fail("w", job.id, "no memory")  # what was made of it stays, and counts
    store.submit(user, write)
    with pytest.raises(APIError, match="27 of your 30"):
        store.submit(user, asked(n=4))


def test_an_upload_that_an_open_job_needs_is_not_forgotten(store, user):
    needed, other = upload(store, user, png(1)), upload(store, user, png(2))
    id = store.submit(user, asked(**image_of(needed))).id
    store.delete_uploads(time.time() + 1)
    assert store.upload_of(needed, user) and not store.upload_of(other, user)
    store.cancel(id)
    store.delete_uploads(time.time() + 1)
    assert not store.upload_of(needed, user)


def test_a_user_keeps_only_so_many_uploads_at_once(store, user, monkeypatch):
    monkeypatch.setattr(shelf, "MAX_UPLOADS", 2)
    upload(store, user, png(1)), upload(store, user, png(2))
    with pytest.raises(APIError, match="more than 2"):
        upload(store, user, png(3))
    store.delete_uploads(time.time() + 1)
    upload(store, user, png(3))


def test_a_share_shows_the_words_only_if_asked_and_ends(store, user, tmp_path, monkeypatch):
    store.submit(user, asked())
    keep(store, "w", store.claim("w"), 0, png(0, {"prompt": "a secret"}))
    (picture,) = store.results(user)
    assert store.share(picture.id, "somebody else", recipe=True) is None
    bare = store.share(picture.id, user, recipe=False)
    assert b"secret" not in store.read(*store.shared(bare))
    lasting = store.share(picture.id, user, recipe=True)
    assert store.shared(bare) is None and store.shared(lasting)  # a new one replaces the old one
    told = store.share(picture.id, user, recipe=True, seconds=60)
    assert store.shared(lasting)  # one for a while does not
    file = tmp_path / "shared.png"
    file.write_bytes(store.read(*store.shared(told)))
    assert read_recipe(file) == {"prompt": "a secret"}
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + 61)
        assert store.shared(told) is None
    assert not store.unshare(picture.id, "somebody else") and store.shared(told)
    assert store.unshare(picture.id, user) and store.shared(told) is None


def test_pages_lead_through_everything_once_newest_first(store, user):
    for shade in range(7):
        drawn(store, user, shade=shade)
    for listed in (store.results, store.jobs):
        seen, before = [], None
        while page := listed(user, before=before, limit=3):
            seen += page
            before = page[-1].id
        assert len({row.id for row in seen}) == len(seen) == 7
        assert [row.created for row in seen] == sorted((row.created for row in seen), reverse=True)
        assert listed(user, before="nothing") == []
    first, second, third = store.results(user, limit=3)
    store.delete(second.id, user)  # a mark that has gone is still a mark
    assert store.results(user, before=second.id, limit=1)[0].id == third.id
    other = accounts.add_user(store, "ben", None).id
    assert store.results(other, before=first.id) == []


def test_how_many_come_before_a_job_as_users_take_turns(store, user):
    other = accounts.add_user(store, "ben", None).id
    mine = [store.submit(user, asked()).id for _ in range(7)]
    theirs = [store.submit(other, asked()).id for _ in range(2)]
    told = {id: store.queue_position(store.job(id)) for id in mine + theirs}
    order = [store.claim("w").id for _ in range(9)]
    assert all(order.index(id) <= told[id] <= order.index(id) + 1 for id in order)


def test_what_changes_later_is_never_earlier(store, user, monkeypatch):
    """The moment is taken when the table is one's own: who waits for it does not write an older one."""
    import threading

    id = store.submit(user, asked()).id
    with store.writing() as tx:
        tick(tx)
        waiting = threading.Thread(target=store.cancel, args=(id,))
        waiting.start()
        time.sleep(0.2)
        moment = time.time()
    waiting.join()
    assert store.job(id).changed >= moment


def test_what_has_changed_comes_in_the_order_in_which_it_changed(store, user):
    first, second = (store.submit(user, asked()).id for _ in range(2))
    start = store.job(second).version
    store.cancel(second)
    middle = store.job(second).version
    store.cancel(first)
    assert [job.id for job in store.changed_since(user, start)] == [second, first]
    assert [job.id for job in store.changed_since(user, middle + 1)] == [first]
    waiting = store.submit(user, asked()).id
    assert store.open_jobs(user) == {waiting}
    assert [job.id for job in store.changed_since(user, store.version() + 1, {second, waiting})] == [second, waiting]


def test_a_picture_that_is_deleted_while_it_is_read_is_not_there_and_leaves_no_thumbnail(store, user):
    _, (picture,) = drawn(store, user)
    assert store.thumbnail(picture) == store.thumbnail(picture)
    store.delete(picture.id, user)
    with pytest.raises(APIError, match="no such file"):
        read(store, picture)
    with pytest.raises(APIError, match="no such file"):
        store.thumbnail(picture)
    assert not list(store.files.thumbnails.rglob("*.webp"))


def test_uploads_of_one_request_are_forgotten_alone(store, user):
    one, other = upload(store, user, png(1)), upload(store, user, png(2))
    store.delete_uploads(time.time() + 1, [(user, one)])
    assert store.upload_of(one, user) is None and store.upload_of(other, user)


def test_words_are_searched_for_as_they_are(store, user):
    for shade, prompt in enumerate(["a red Fox", "100% wool", "a_b", "一只红狐狸"]):
        store.submit(user, asked())
        keep(store, "w", store.claim("w"), 0, png(shade), prompt)
    found = {
        words: [row.title for row in store.results(user, words=words)] for words in ("fox RED", "%", "_", "红狐")
    }
    assert found == {"fox RED": ["a red Fox"], "%": ["100% wool"], "_": ["a_b"], "红狐": ["一只红狐狸"]}


class Life(RuleBasedStateMachine):
    """Users, workers and crashes in any order: each job that was accepted is drawn once, or cancelled by its user."""

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name))
        self.user = accounts.add_user(self.store, "anna", None).id
        self.accepted, self.cancelled, self.held, self.shade = {}, set(), {}, 0

    def teardown(self):
        self.work_off()
        self.everything_is_whole()
        for id, n in self.accepted.items():
            if id not in self.cancelled:
                assert self.store.job(id).status == "done"
                assert sorted(picture.place for picture in self.store.results_of(id)) == list(range(n))
        self.store.engine.dispose()
        self.folder.cleanup()

    def work_off(self):
        self.store.recover()
        while job := self.store.claim("last"):
            for place in range(job.part, job.parts):
                self.shade += 1
                assert keep(self.store, "last", job, place, png(self.shade))

    @rule(n=st.integers(1, 3))
    def ask(self, n):
        self.accepted[self.store.submit(self.user, asked(n)).id] = n

    @rule(worker=st.sampled_from("ab"))
    def take(self, worker):
        job = self.store.claim(worker)
        if job is not None:
            self.held.setdefault(worker, []).append(job)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def draw(self, data):
        worker = data.draw(st.sampled_from(sorted(name for name, held in self.held.items() if held)))
        job = data.draw(st.sampled_from(self.held[worker]))
        part = self.store.job(job.id).part
        if part < job.parts:
            self.shade += 1
            held = self.store.holds(worker, job.id)
            assert keep(self.store, worker, job, part, png(self.shade)) == held

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def cancel(self, data):
        id = data.draw(st.sampled_from(sorted(self.accepted)))
        if self.store.cancel(id, self.user):
            self.cancelled.add(id)

    @rule(worker=st.sampled_from("ab"))
    def let_go(self, worker):
        self.store.release(worker)

    @rule()
    def crash(self):
        self.store.recover()

    @rule()
    def leases_run_out(self):
        with self.store.writing() as tx:
            tx.execute(update(jobs).values(deaths=0))
        watch(self.store, module.LEASE + 1)

    @invariant()
    def everything_is_whole(self):
        with self.store.reading() as tx:
            named = set(tx.execute(select(file_rows.c.sha256)).scalars())
            named |= set(tx.execute(select(uploads.c.sha256)).scalars())
        assert {path.stem for path in files(self.store)} == named
        for job in self.store.jobs(self.user):
            assert (job.status == "running") == (job.worker is not None)
            assert (job.status == "done") == (
                len(self.store.results_of(job.id)) == job.parts
            ) or job.status == "cancelled"


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("how", ["cancel", "fail"])
def test_a_user_is_not_charged_for_the_rest_of_a_part_that_was_cancelled_or_failed(store, user, how):
    other = accounts.add_user(store, "ben", None).id
    small, large = asked()._replace(plan={"seconds": 1.0}), asked()._replace(plan={"seconds": 10_000.0})
    store.submit(other, small), store.claim("v")  # who has something to do all the time
    id = store.submit(user, large).id
    assert store.claim("w").id == id
    waiting = store.submit(user, small).id
    store.cancel(id) if how == "cancel" else store.fail("w", id, "broken")
    for _ in range(10):
        store.submit(other, small), store.submit(user, asked()._replace(plan={"seconds": 2.0}))
    assert waiting in [store.claim("w").id for _ in range(2)]
