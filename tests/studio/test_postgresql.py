"""PostgreSQL below several servers: none loses or repeats another's work, and all hear what happens."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from unittest.mock import patch

import psycopg
import pytest
from sqlalchemy import select, text, update

from inkwash.errors import UserError
from inkwash.studio import accounts, dialects, postgresql, sqlite, supervisor, worker
from inkwash.studio import store as module
from inkwash.studio.auth import SharedBucket
from inkwash.studio.errors import APIError, DatabaseUnusable
from inkwash.studio.library import NewFile
from inkwash.studio.news import MAX_TEXT
from inkwash.studio.store import MAX_DEATHS, NewJob, NewResult, Store
from inkwash.studio.supervisor import Settings, Supervisor
from inkwash.studio.tables import jobs, models, users
from tests.studio.conftest import SERVER_TIME, asked
from tests.studio.machines import until
from tests.studio.postgresql import PASSWORD
from tests.studio.test_store import drawn, files, keep, png, upload, watch
from tests.studio.test_worker import Painter, working

MANY = 8


@pytest.fixture
def servers(store):
    """Two servers of one studio; anna has an account."""
    other = Store(store.home, url=store.url)
    return store, other


def at_once(count, act):
    """What each thread got, all of which begin in the same moment: an answer, or an APIError."""
    gate = threading.Barrier(count)

    def run(number):
        gate.wait()
        try:
            return act(number)
        except (APIError, UserError) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def statuses(answers):
    return [answer.status for answer in answers if isinstance(answer, APIError)]


# many at once


def test_each_job_is_claimed_once_by_many_workers_at_once(servers, user):
    people = [user, *(accounts.add_user(servers[0], f"user {n}", None).id for n in range(2))]
    wanted = {servers[0].submit(people[n % 3], asked()).id for n in range(24)}

    def work(number):
        claimed = []
        while (job := servers[number % 2].claim(f"w{number}")) is not None:
            claimed.append(job.id)
        return claimed

    found = [id for claimed in at_once(MANY, work) for id in claimed]
    while (job := servers[0].claim("last")) is not None:  # those that all others had passed over in the same moment
        found.append(job.id)
    assert sorted(found) == sorted(wanted)


def test_who_follows_the_versions_misses_no_change_though_many_write(servers, user):
    """A version that is seen is never followed by a smaller one."""
    seen, over = [], threading.Event()

    def follow():
        while not over.is_set():
            last = seen[-1].version if seen else 0
            seen.extend(servers[1].changed_since(user, last + 1))

    following = threading.Thread(target=follow)
    following.start()
    made = at_once(MANY, lambda number: [servers[number % 2].submit(user, asked()).id for _ in range(10)])
    over.set()
    following.join()
    last = seen[-1].version if seen else 0
    seen.extend(servers[1].changed_since(user, last + 1))
    assert {row.id for row in seen} == {id for ids in made for id in ids}
    assert [row.version for row in seen] == sorted({row.version for row in seen})


def test_everything_at_once_leaves_nobody_waiting_for_another(servers, user):
    """Jobs asked for, begun, done, given up, cancelled and closed at once: no error, and nothing is left half."""
    store = servers[0]
    ben = accounts.add_user(store, "ben", None).id
    small = asked(2)._replace(plan={"seconds": 1.0, "bytes": None})

    def act(number):
        here, worker, errors = servers[number % 2], f"w{number}", []
        for step in range(12):
            try:
                person = (user, ben)[step % 2]
                id = here.submit(person, small).id
                job = here.claim(worker)
                if job is not None:
                    assert keep(here, worker, job, job.part, png(100 * number + step)) in (True, False)
                    (here.release, lambda w, job=job: here.fail(w, job.id, "no"))[step % 2](worker)
                if step % 3 == 0:
                    here.cancel(id, person)
                if number == 0 and step % 4 == 1:
                    accounts.change_user(here, ben, active=False)
                    accounts.change_user(here, ben, active=True)
            except APIError as error:
                errors.append(error.code)
        return errors

    errors = [code for answers in at_once(MANY, act) for code in answers]
    assert set(errors) <= {"account_closed"}
    for job in (*store.jobs(user, limit=200), *store.jobs(ben, limit=200)):
        assert (job.status == "running") == (job.worker is not None)
        assert len(store.results_of(job.id)) >= job.part
    assert not any(path.name.startswith(".") for path in files(store))


def test_a_quota_and_a_key_of_idempotency_hold_against_many_servers(servers):
    carl = accounts.add_user(servers[0], "carl", None, daily=5).id
    answers = at_once(MANY, lambda number: servers[number % 2].submit(carl, asked()))
    assert statuses(answers) == [429] * (MANY - 5)
    dora = accounts.add_user(servers[0], "dora", None).id
    same = at_once(MANY, lambda number: servers[number % 2].submit(dora, asked(), idempotency_key="key:x").id)
    assert len(set(same)) == 1


def test_a_name_is_one_account_and_a_link_lets_in_once_whichever_servers_are_asked(servers):
    answers = at_once(MANY, lambda number: accounts.add_user(servers[number % 2], ("Eva", "eva")[number % 2], None))
    assert sum(isinstance(answer, UserError) for answer in answers) == MANY - 1
    assert len({user.id for user in at_once(MANY, lambda number: accounts.local_user(servers[number % 2]))}) == 1
    link = accounts.issue(servers[0], accounts.local_user(servers[0]).id, "link")
    let_in = at_once(MANY, lambda number: accounts.redeem(servers[number % 2], link))
    assert sum(user is not None for user in let_in) == 1


def test_a_share_of_the_disk_holds_against_many_servers(servers):
    data = [png(shade) for shade in range(MANY)]
    room = 3 * max(map(len, data))
    frida = accounts.add_user(servers[0], "frida", None, disk=room).id

    def send(number):
        here = servers[number % 2]
        with here.files.stage(data[number], ".png") as content:
            here.add_uploads(frida, [NewFile(content, "fox.png")])

    assert statuses(at_once(MANY, send)) == [403] * (MANY - 3) and servers[0].disk_used(frida) <= 3 * max(
        map(len, data)
    )


def test_a_content_that_one_deletes_while_another_keeps_it_stays(servers, user):
    """The same picture is drawn again while it is deleted, again and again: whoever has a row has the file."""
    store = servers[0]
    for _ in range(6):
        _, (picture,) = drawn(store, user)
        store.submit(user, asked())
        job = servers[1].claim("v")
        acts = (partial(store.delete, picture.id, user), partial(keep, servers[1], "v", job, 0, png()))
        at_once(2, lambda number, acts=acts: acts[number]())
        (again,) = store.results_of(job.id)
        assert store.read(again.files[0]) == png()
        store.delete(again.id, user)
        assert files(store) == []


def test_requests_are_counted_for_all_servers(servers):
    buckets = [SharedBucket(server.postgresql, "tries", 1 / 30, 5.0) for server in servers]
    answers = at_once(MANY, lambda number: buckets[number % 2].take("10.0.0.1 anna"))
    assert statuses(answers) == [429] * (MANY - 5)
    assert all(25 < answer.wait <= 30 for answer in answers if answer is not None)
    buckets[0].take("10.0.0.2 anna")
    SharedBucket(servers[1].postgresql, "rate", 1.0, 1.0).take("10.0.0.1 anna")
    fast = SharedBucket(servers[0].postgresql, "fast", 1000.0, 1.0)
    for _ in range(3):  # it fills again
        time.sleep(0.01)
        fast.take("x")
    servers[0].postgresql.empty_buckets(3600.0)
    with pytest.raises(APIError):
        buckets[1].take("10.0.0.1 anna")
    servers[0].postgresql.empty_buckets(-1.0)
    buckets[1].take("10.0.0.1 anna")


def test_no_call_needs_a_second_connection_while_it_has_one(store, user, monkeypatch):
    monkeypatch.setattr(postgresql, "CONNECTIONS", 1)
    narrow = Store(store.home, url=store.url)
    id, (picture,) = drawn(narrow, user)
    narrow.share(picture.id, user, recipe=True)
    narrow.thumbnail(picture)
    assert narrow.jobs(user) and narrow.results(user) and narrow.queue_position(narrow.job(id)) == 0
    narrow.delete(picture.id, user), narrow.delete_job(id, user), narrow.recover(), narrow.expire()
    upload(narrow, user, b"x"), narrow.delete_uploads(narrow.clock() + 1)
    narrow.engine.dispose()


# leases and clocks


def test_two_servers_give_up_a_worker_once(servers, user):
    """Each looks for itself; a death is counted once, and a worker that has come back keeps its job."""
    id = servers[0].submit(user, asked()).id
    began = time.monotonic()
    for death in range(1, MAX_DEATHS):
        assert servers[death % 2].claim("w").id == id
        with pytest.MonkeyPatch.context() as patch:
            for second in range(0, round(module.LEASE), 2):
                patch.setattr(time, "monotonic", lambda second=second: began + second)
                assert servers[0].expire() == servers[1].expire() == []
            patch.setattr(time, "monotonic", lambda: began + module.LEASE + 1)
            at_once(2, lambda number: servers[number].expire())
        for server in servers:
            server._last_look = 0.0
        assert servers[0].job(id).deaths == death and servers[0].job(id).status == "queued"


def test_a_servers_own_worker_is_given_up_by_it_first(servers, user):
    """It alone can end the process."""
    servers[0].submit(user, asked())
    servers[0].claim("w")
    began, given_up = time.monotonic(), []
    with pytest.MonkeyPatch.context() as patch:
        for second in range(round(module.LEASE) + 2):
            patch.setattr(time, "monotonic", lambda second=second: began + second)
            given_up += [("other", name) for name in servers[1].expire(["v"])]
            given_up += [("own", name) for name in servers[0].expire(["w"])]
    assert given_up == [("own", "w")]


def test_a_worker_that_comes_back_in_the_last_moment_keeps_its_job(servers, user, monkeypatch):
    id = servers[0].submit(user, asked()).id
    servers[0].claim("w")
    requeue = module._requeue

    def late(tx, which, deaths):
        servers[1].renew("w", id)  # between the look and the change
        return requeue(tx, which, deaths)

    monkeypatch.setattr(module, "_requeue", late)
    assert watch(servers[0], module.LEASE + 1) == []
    assert servers[0].holds("w", id) and servers[0].job(id).deaths == 0


def test_times_are_the_databases_whatever_a_servers_clock_says(cluster, tmp_path, monkeypatch):
    name = cluster.create()
    store = Store(tmp_path / "home", url=cluster.url(name))
    monkeypatch.setattr(dialects, "server_time", SERVER_TIME)
    began, now = time.time(), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10 * 86400)
    user = accounts.add_user(store, "anna", None).id
    id, (picture,) = drawn(store, user)
    key = accounts.issue(store, user, "session")
    job = store.job(id)
    for moment in (job.created, job.changed, job.started, picture.created, store.clock()):
        assert began - 60 < moment < now() + 60
    monkeypatch.setattr(time, "time", now)
    assert accounts.holder(store, key, "session") is not None
    store.engine.dispose()
    cluster.drop(name)


# what is told


def heard(store, act, enough):
    """What other servers are told while `act` runs, until there is `enough`."""
    told = []

    async def listen():
        news = store.postgresql.news()
        assert await anext(news) is None  # from now on nothing is missed
        await asyncio.to_thread(act)
        while not enough(told):
            told.append(await asyncio.wait_for(anext(news), 20))
        await news.aclose()

    asyncio.run(listen())
    return told


def test_every_change_of_a_job_is_told_to_all_servers(servers, user):
    def act():
        id = servers[0].submit(user, asked()).id
        assert keep(servers[0], "w", servers[0].claim("w"), 0, png())
        servers[0].cancel(servers[0].submit(user, asked()).id)
        return id

    told = heard(servers[1], act, lambda told: told and told[-1]["status"] == "cancelled")
    assert [message["status"] for message in told] == ["queued", "running", "running", "done", "queued", "cancelled"]
    assert {message["user"] for message in told} == {user}


def test_a_preview_goes_by_the_table_and_goes_when_its_part_is_over(servers, user):
    store, other = servers
    id = store.submit(user, asked()).id
    store.postgresql.tell({"event": "preview", "job": id, "place": 0}, "late")
    assert other.postgresql.preview(id) is None  # it is not drawn yet, or not any more
    store.claim("w")
    large, message = "x" * 300_000, {"event": "preview", "job": id, "place": 0, "text": "\0" * MAX_TEXT}
    told = heard(other, lambda: store.postgresql.tell(message, large), bool)
    assert told[0]["job"] == id and other.postgresql.preview(id) == large
    store.postgresql.tell(message, "newer")
    assert other.postgresql.preview(id) == "newer"
    store.release("w")
    assert other.postgresql.preview(id) is None


def test_a_preview_that_comes_while_its_job_ends_does_not_stay(servers, user):
    """The job's end is written, but not there yet for others, when the preview comes."""
    store, other = servers
    id = store.submit(user, asked()).id
    store.claim("w")
    message = {"event": "preview", "job": id, "place": 0}
    late = threading.Thread(target=other.postgresql.tell, args=(message, "late"))

    def waits():
        with store.reading() as tx:
            return tx.scalar(text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'")) == 1

    with store.writing() as tx:
        tx.execute(text("update jobs set status = 'done', version = version + 1 where id = :id"), {"id": id})
        late.start()
        until(waits)
    late.join(20)
    assert not late.is_alive() and store.postgresql.preview(id) is None


def test_who_listens_is_told_when_something_may_have_been_missed(store, user, cluster):
    async def listen():
        news = store.postgresql.news()
        assert await anext(news) is None
        end = "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen%'"
        await asyncio.to_thread(cluster.sql, end)
        assert await asyncio.wait_for(anext(news), 20) is None
        await asyncio.to_thread(store.submit, user, asked())
        assert (await asyncio.wait_for(anext(news), 20))["status"] == "queued"
        await news.aclose()

    asyncio.run(listen())


# what a database does not take


def test_words_that_postgresql_does_not_keep_do_no_harm(store, user):
    odd = "a\0b \\u0000 \ud83e\udd8a".encode("utf-16", "surrogatepass").decode("utf-16")
    accounts.change_user(store, user, daily=1000)
    for _ in range(2):  # the second counts what the first has asked for
        store.submit(user, asked(prompt=odd, strength=float("nan")))
    job = store.claim("w")
    assert job.request["prompt"] == odd.replace("\0", "\ufffd") and job.request["strength"] is None
    assert keep(store, "w", job, 0, png(), odd)
    assert store.results(user)[0].title == odd.replace("\0", "\ufffd")
    assert (
        store.job("\0") is None and store.results(user, words="\0") == [] and accounts.find_user(store, "\0") is None
    )
    accounts.issue(store, user, "key", "a\0b")


def test_sizes_beyond_two_gigabytes_are_counted(store):
    user = accounts.add_user(store, "gina", None, disk=10**12).id
    with store.writing() as tx:
        tx.execute(update(users).where(users.c.id == user).values(turn=2**40))
    store.submit(user, NewJob("pictures", "generate", {"n": 1}, plan={"seconds": 1.0, "bytes": 10**11}))
    assert accounts.find_user(store, "gina").disk == 10**12 and store.disk_left(user) == 10**12


# a database that goes and comes


def test_a_lock_of_another_program_is_busy_and_no_more(store, user, monkeypatch, cluster):
    monkeypatch.setattr(postgresql, "ROW_TIMEOUT", 0.2)
    hasty = Store(store.home, 0.2, store.url)
    with psycopg.connect(store.url) as other:
        other.execute("lock table counter in exclusive mode")
        with pytest.raises(APIError) as error:
            hasty.submit(user, asked())
        assert (error.value.status, error.value.code, error.value.wait) == (503, "busy", 2)
        assert hasty.jobs(user) == []
        other.rollback()
    assert hasty.submit(user, asked()).status == "queued" and len(hasty.jobs(user)) == 1


def test_a_lost_connection_is_said_and_the_next_call_has_another(store, user, cluster):
    ended = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'inkwash'"
    with pytest.raises(DatabaseUnusable, match="cannot be reached") as error, store.writing() as tx:
        tx.execute(update(users).values(daily=3))
        cluster.sql(ended)
        tx.execute(select(users)).all()
    assert (error.value.status, error.value.code, error.value.wait) == (503, "database_unreachable", 2)
    with pytest.raises(DatabaseUnusable, match="cannot be reached"):
        store.check()
    assert accounts.find_user(store, "anna").daily is None  # nothing was written
    store.check()
    cluster.sql(ended)
    assert store.submit(user, asked()).status == "queued"  # one that was lost between two calls is not noticed


def test_what_an_address_says_beside_the_database_is_libpqs(cluster, tmp_path):
    name = cluster.create()
    store = Store(tmp_path / "home", url=f"{cluster.url(name)}&application_name=ours&keepalives_idle=99")
    with store.reading() as tx:
        assert tx.exec_driver_sql("show application_name").scalar() == "ours"
        assert tx.connection.driver_connection.info.get_parameters()["keepalives_idle"] == "99"
    store.engine.dispose()
    cluster.drop(name)


def test_what_was_drawn_when_the_database_went_is_kept_when_it_is_back(store, user, monkeypatch):
    monkeypatch.setattr(worker, "RETRY", 0.01)
    id, add, tried = store.submit(user, asked()).id, store.add, []

    def away(*arguments):
        tried.append(arguments)
        if len(tried) < 3:
            raise DatabaseUnusable("cannot be reached", "database_unreachable")
        return add(*arguments)

    monkeypatch.setattr(store, "add", away)
    painter = Painter()
    working(store, painter)[0].step()
    assert store.job(id).status == "done" and len(store.results_of(id)) == 1
    assert painter.seeds == [7] and len(tried) == 3


# a database that is none of a studio's, or not this one's


def refused(home, url):
    """The one line of who opens it, without a password."""
    with pytest.raises(UserError) as error:
        Store(home, url=url)
    line = str(error.value)
    assert "\n" not in line and PASSWORD not in line and "wrong" not in line.replace("wrong password", "")
    return line


def test_what_cannot_be_opened_is_one_line(cluster, tmp_path):
    name = cluster.create()
    home = tmp_path / "home"
    assert "password authentication failed" in refused(home, cluster.tcp(name, "wrong%40"))
    assert "does not exist" in refused(home, cluster.url("nothing"))
    assert "Connection refused" in refused(home, "postgresql://anna:wrong@127.0.0.1:1/x")
    assert "cannot be reached" in refused(home, "postgresql://anna:wrong@no-such-host.invalid/x")
    for url in (
        "mysql://anna:wrong@host/x",
        "host/x",
        "sqlite:///x.db",
        "postgresql://a:wrong@b:port/x",
        "postgresql",
    ):
        assert "the address of a PostgreSQL database is needed" in refused(home, url)
    assert "invalid" in refused(home, f"{cluster.url(name)}&nonsense=wrong")
    assert not (home / postgresql.MARK).exists()
    cluster.drop(name)


def test_a_database_without_rights_or_of_another_program_or_encoding_is_refused(cluster, tmp_path):
    name = cluster.create()
    cluster.sql("drop role if exists visitor", "create role visitor login", database=name)
    assert "permission denied" in refused(tmp_path / "a", cluster.url(name, "visitor"))
    cluster.sql("create table notes (words text)", database=name)
    assert "another program's database" in refused(tmp_path / "a", cluster.url(name))
    cluster.sql("drop table notes", database=name)
    store = Store(tmp_path / "a", url=cluster.url(name))
    assert "permission denied" in refused(tmp_path / "a", cluster.url(name, "visitor"))
    cluster.sql("alter database " + name + " set default_transaction_read_only = on")
    store.engine.dispose()
    with pytest.raises(DatabaseUnusable, match="cannot be worked with"):
        accounts.add_user(store, "anna", None)
    assert accounts.list_users(store) == []
    store.engine.dispose()
    cluster.sql("drop database if exists ascii", "create database ascii template template0 encoding 'SQL_ASCII'")
    assert "UTF8 is needed" in refused(tmp_path / "b", cluster.url("ascii"))
    cluster.drop(name, "ascii")


def test_a_folder_and_a_database_that_do_not_belong_together_are_refused(cluster, tmp_path):
    one, two = cluster.create(), cluster.create()
    store = Store(tmp_path / "one", url=cluster.url(one))
    user = accounts.add_user(store, "anna", None).id
    drawn(store, user)
    Store(tmp_path / "one", url=cluster.url(one)).engine.dispose()
    assert "files are in another folder" in refused(tmp_path / "new", cluster.url(one))
    assert "folder of another database" in refused(tmp_path / "one", cluster.url(two))
    (store.home / postgresql.MARK).rename(tmp_path / "mark")
    assert "files that are not of this database" in refused(tmp_path / "one", cluster.url(two))
    (tmp_path / "mark").rename(store.home / postgresql.MARK)
    with pytest.raises(UserError, match="its database is PostgreSQL's"):
        sqlite.check_folder(tmp_path / "one")
    (tmp_path / "lite").mkdir()
    (tmp_path / "lite" / "studio.db").write_bytes(b"SQLite")
    assert "has a database of its own" in refused(tmp_path / "lite", cluster.url(two))
    store.engine.dispose()
    cluster.drop(one, two)


def test_two_that_begin_at_once_make_the_tables_once(cluster, tmp_path):
    name = cluster.create()
    stores = at_once(4, lambda number: Store(tmp_path / "home", url=cluster.url(name)))
    with stores[0].reading() as tx:
        assert tx.exec_driver_sql("select count(*) from counter").scalar() == 1
    assert len({store.postgresql.id for store in stores}) == 1
    for store in stores:
        store.engine.dispose()
    cluster.drop(name)


def test_models_of_one_user_have_names_of_their_own_whichever_servers_keep_them(servers, user):
    answers = at_once(4, lambda number: trained_by(servers[number % 2], user, number))
    assert len(set(answers)) == 4
    with servers[0].reading() as tx:
        assert sorted(tx.execute(select(models.c.name)).scalars()) == ["ring", "ring-2", "ring-3", "ring-4"]


def trained_by(store, user, number):
    id = store.submit(user, NewJob("points", "train", {}, lasting=True)).id
    with store.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.id == id).values(status="running", worker=f"w{number}"))
    folder = store.runs / id / "out" / "model"
    folder.mkdir(parents=True)
    (folder / "system.json").write_text(json.dumps({"system": "points"}))
    assert store.add(f"w{number}", store.job(id), 0, 0, NewResult(None, "ring", {}, {}, (), folder, "ring"))
    return id


def test_progress_that_is_told_after_its_job_has_ended_is_forgotten(store, user):
    one = Supervisor(Settings(home=store.home, store=store.url, devices=()))

    def told(job):
        facts = {"place": 0, "done": 1, "total": 2, "text": "", "seconds_left": None}
        one._hear({"event": "progress", "job": job, "user": user, **facts})
        return job

    running = told(store.submit(user, asked()).id)
    assert store.claim("w").id == running and told("ended")
    one.store.expire()
    one._forget_ended()
    new = told("begun since it was looked")
    one.store.expire()
    one._forget_ended()
    assert one.progress.keys() == {running, new}
    one.store.engine.dispose()


def test_of_idle_workers_one_looks_for_a_job_first_and_the_others_if_nobody_has_it(store):
    """Each job has an order of its own, in which all come to their turn."""
    settings = Settings(home=store.home, store=store.url, devices=["cpu"])
    supervisors = [Supervisor(settings) for _ in range(4)]
    for number, one in enumerate(supervisors):
        one.id = str(number)  # the order is a hash of job and server: the same in every run
    for _ in range(2):  # each knows of the others by what they have reported
        for one in supervisors:
            one._report({f"cpu-{one.id}": "cpu"})
    woken = []

    async def hear(job, is_found):
        changed = {"event": "changed", "job": job, "user": "anna"}

        def wake(number):
            woken.append(number)
            for other in supervisors if is_found else ():
                other._hear(changed | {"status": "running"})

        loop, moment = asyncio.get_running_loop(), time.monotonic()
        with patch.object(loop, "time", lambda: moment):  # all hear of it at once, on a busy machine too
            for number, one in enumerate(supervisors):
                one._wake = partial(wake, number)
                one._hear(changed | {"status": "queued"})
        await asyncio.sleep(4 * supervisor.TURN)
        while any(one._wakes for one in supervisors):
            await asyncio.sleep(0.01)

    firsts = set()
    for job in map(str, range(20)):
        woken.clear()
        asyncio.run(hear(job, is_found=True))
        (first,) = woken
        woken.clear()
        asyncio.run(hear(job, is_found=False))
        assert woken[0] == first and sorted(woken) == [0, 1, 2, 3]
        firsts.add(first)
    assert firsts == {0, 1, 2, 3}
