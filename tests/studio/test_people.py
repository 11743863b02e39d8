"""Who comes in, and as whom: names, one-time links, passwords, the guest of an open studio, a proxy's word."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.testclient import TestClient

from inkwash.errors import UserError
from inkwash.studio import accounts
from inkwash.studio.app import create
from inkwash.studio.auth import Bucket, same_origin
from inkwash.studio.engine import Settings
from inkwash.studio.proxy import LOCAL_PROXIES, check_proxy, wrong_login
from inkwash.studio.tables import name_key
from tests.studio.conftest import fox

PASSWORD, OTHER = "correct horse battery", "another long password"
ORIGIN = {"origin": "http://localhost"}
SAME = {  # names of one account
    "anna": ("Anna", "ANNA", " anna ", "ａｎｎａ", "𝐀nna"),
    "Jos\u00e9": ("Jose\u0301", "JOS\u00c9", "jose\u0301"),
    "Straße": ("strasse", "STRASSE", "straſſe"),
}


def studio(tmp_path, **settings):
    app = create(Settings(tmp_path / "home", port=80, **settings))
    return app, app.state.engine.store


def visitor(app, address="10.0.0.1", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return TestClient(app, base_url="http://localhost", headers=headers, client=(address, 50000))


def holder(app, user, address="10.0.0.1"):
    """Who has a key of the user's."""
    key = accounts.issue(app.state.engine.store, user.id, "key")
    return visitor(app, address, authorization=f"Bearer {key}")


def signed_in(app, user, address="10.0.0.1"):
    """A browser with a session of the user's."""
    client = visitor(app, address, **ORIGIN)
    link = accounts.issue(app.state.engine.store, user.id, "link")
    assert client.post("/api/enter", json={"token": link}).status_code == 200
    return client


# names


@pytest.mark.parametrize("name", SAME)
def test_a_name_in_another_case_width_or_form_is_the_same_account(tmp_path, name):
    app, store = studio(tmp_path)
    user = accounts.add_user(store, name, PASSWORD)
    boss, client = holder(app, accounts.local_user(store)), visitor(app, **ORIGIN)
    for same in SAME[name]:
        taken = boss.post("/api/users", json={"name": same, "password": OTHER})
        assert taken.status_code == 422 and "taken" in taken.json()["error"]["message"]
        login = client.post("/api/login", json={"name": same, "password": PASSWORD})
        assert login.status_code == 200 and login.json()["name"] == name
        assert accounts.find_user(store, same) == user


def test_what_names_are_compared_by_is_compared_by_itself():
    letters = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    assert [one for one in letters if name_key(name_key(f"a{one}b")) != name_key(f"a{one}b")] == []


def test_who_guesses_in_other_cases_has_no_more_tries(tmp_path):
    app, store = studio(tmp_path)
    accounts.add_user(store, "anna", PASSWORD)
    app.state.tries = Bucket(0.01, 2)
    client = visitor(app, **ORIGIN)
    answers = [
        client.post("/api/login", json={"name": name, "password": OTHER}) for name in ("anna", "Anna", " ANNA")
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 429]


@pytest.mark.parametrize(
    "name",
    ["", " ", "a" * 101, "a\nb", "a\u200bb", "a\u200db", "a\u202eb", "a\u00adb", "a\u2066b", "\ufeffa", "a\u3164b",
     "a\u115fb", "a\uffa0b", "a\u034fb", "a\ufe0fb", "a\U000e0101b", "\u2800", "a\ue000b", "a\u2028b",
     "local", "Local", "ＬＯＣＡＬ", "guest", " GUEST "],
)  # fmt: skip
def test_names_that_show_nothing_or_are_the_studios_own_are_refused(store, name):
    with pytest.raises(UserError):
        accounts.add_user(store, name, None)


def test_names_of_all_peoples_are_taken(store):
    for name in ("安娜", "Zoë O'Hara-Smith", "анна", "আন্না", "anna.lee+studio@department.university.example", "🦊"):
        assert accounts.find_user(store, accounts.add_user(store, name, None).name).name == name


# one-time links


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"sec-purpose": "prefetch", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    ],
)
def test_who_only_looks_at_a_link_neither_uses_it_up_nor_gets_in(tmp_path, headers):
    app, store = studio(tmp_path)
    link = accounts.issue(store, accounts.local_user(store).id, "link")
    for address in ("/", f"/?token={link}", f"/?token={link}"):
        found = visitor(app, **headers).get(address, follow_redirects=False)
        assert found.status_code == 200 and "set-cookie" not in found.headers
    client = visitor(app, **ORIGIN)
    entered = client.post("/api/enter", json={"token": link})
    assert entered.status_code == 200 and entered.json() == client.get("/api/session").json()
    again = visitor(app, **ORIGIN).post("/api/enter", json={"token": link})
    assert again.status_code == 401 and again.json()["error"]["code"] == "used_link"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
def test_a_page_of_another_site_logs_nobody_in(tmp_path, headers, kind):
    app, store = studio(tmp_path)
    accounts.add_user(store, "anna", PASSWORD)
    link = accounts.issue(store, accounts.local_user(store).id, "link")
    bodies = {"/api/enter": f'{{"token": "{link}"}}', "/api/login": f'{{"name": "anna", "password": "{PASSWORD}"}}'}
    for path, body in bodies.items():
        answer = visitor(app).post(path, content=body, headers={"content-type": kind, **headers})
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
    assert accounts.redeem(store, link) is not None


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_lets_in_is_json_alone(tmp_path, kind):
    app, store = studio(tmp_path)
    link = accounts.issue(store, accounts.local_user(store).id, "link")
    headers = {"content-type": kind}
    assert visitor(app).post("/api/enter", content=f'{{"token": "{link}"}}', headers=headers).status_code == 422
    assert accounts.redeem(store, link) is not None


def test_links_are_guessed_slowly(tmp_path):
    app, _ = studio(tmp_path)
    app.state.logins = Bucket(0.01, 3)
    answers = [visitor(app).post("/api/enter", json={"token": f"ink-{number}"}) for number in range(4)]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429]


# passwords


def test_a_new_password_ends_all_that_was_got_by_the_old_one_but_this_session(tmp_path):
    app, store = studio(tmp_path)
    user = accounts.add_user(store, "anna", PASSWORD)
    here, elsewhere, program = signed_in(app, user), signed_in(app, user), holder(app, user)
    link = accounts.issue(store, user.id, "link")
    bystander = holder(app, accounts.add_user(store, "ben", PASSWORD))
    assert here.get("/api/session").json()["has_password"]
    wrong = here.post("/api/password", json={"old": OTHER, "new": OTHER})
    assert wrong.status_code == 401 and wrong.json()["error"]["code"] == "wrong_password"
    assert here.post("/api/password", json={"old": PASSWORD, "new": "short"}).status_code == 422
    assert accounts.log_in(store, "anna", PASSWORD) and elsewhere.get("/api/session").status_code == 200
    assert here.post("/api/password", json={"old": PASSWORD, "new": OTHER}).status_code == 204
    assert here.get("/api/session").status_code == bystander.get("/api/session").status_code == 200
    assert elsewhere.get("/api/session").status_code == program.get("/api/session").status_code == 401
    assert accounts.redeem(store, link) is None
    assert accounts.log_in(store, "anna", PASSWORD) is None and accounts.log_in(store, "anna", OTHER) == user


def test_who_has_a_session_cannot_guess_its_password(tmp_path):
    app, store = studio(tmp_path)
    app.state.tries = Bucket(0.01, 2)
    client = signed_in(app, accounts.add_user(store, "anna", PASSWORD))
    answers = [client.post("/api/password", json={"old": f"{OTHER}{n}", "new": OTHER}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]


def test_who_has_no_password_gets_none(tmp_path):
    app, store = studio(tmp_path, open=True)
    for client in (visitor(app), holder(app, accounts.local_user(store))):
        assert not client.get("/api/session").json()["has_password"]
        assert client.post("/api/password", json={"old": "", "new": OTHER}).status_code == 401
    assert not accounts.has_accounts(store)


# an open studio


def test_visitors_of_an_open_studio_have_nothing_of_the_operators(tmp_path):
    app, store = studio(tmp_path)
    operator = holder(app, accounts.local_user(store))
    job = fox(operator, "a private unicorn").json()["id"]
    app, store = studio(tmp_path, open=True)
    guest, other = visitor(app), visitor(app, "10.0.0.2")
    assert guest.get("/api/jobs").json() == guest.get("/api/results").json() == []
    assert guest.get(f"/api/jobs/{job}").status_code == 404
    assert guest.post(f"/api/jobs/{job}/cancel").status_code == 404
    session = guest.get("/api/session").json()
    assert (session["name"], session["guest"], session["admin"], session["has_password"]) == (
        "guest",
        True,
        *[False] * 2,
    )
    mine = fox(guest).json()["id"]
    assert [one["id"] for one in other.get("/api/jobs").json()] == [mine]  # what one of them makes, all of them see
    assert other.post(f"/api/jobs/{mine}/cancel").status_code == 200
    assert [one["id"] for one in operator.get("/api/jobs").json()] == [job]


def test_in_an_open_studio_a_key_or_a_session_says_who_one_is(tmp_path):
    app, store = studio(tmp_path, open=True)
    local, anna = accounts.local_user(store), accounts.add_user(store, "anna", PASSWORD)
    for user in (local, anna):
        for client in (holder(app, user), signed_in(app, user)):
            session = client.get("/api/session").json()
            assert (session["name"], session["guest"], session["admin"]) == (user.name, False, user.admin)
            assert client.post("/api/keys", json={}).status_code == 201
    for wrong in ("Bearer ink-wrong", "Bearer ", "Basic eDp5", "Basic !", "ink-wrong", "Token ink-wrong"):
        assert visitor(app, authorization=wrong).get("/api/session").status_code == 401
    cookie = dict(signed_in(app, anna).cookies)
    no_origin = TestClient(app, base_url="http://localhost", cookies=cookie)
    assert no_origin.post("/api/keys", json={}).status_code == 401  # not the guest's 403


def test_a_session_that_is_over_is_not_taken_for_the_guest_until_the_page_is_opened_anew(tmp_path):
    app, store = studio(tmp_path, open=True)
    anna = accounts.add_user(store, "anna", PASSWORD)
    client = signed_in(app, anna)
    accounts.change_user(store, anna.id, password=OTHER)
    assert client.get("/api/session").status_code == fox(client).status_code == 401
    assert client.get("/").status_code == 200 and not client.cookies
    assert client.get("/api/session").json()["guest"]
    other = signed_in(app, anna)
    assert other.get("/").status_code == 200 and other.cookies  # one that goes on stays


def test_a_guest_has_no_keys_and_no_links_and_cannot_be_logged_into(tmp_path):
    app, store = studio(tmp_path, open=True)
    guest = visitor(app, **ORIGIN)
    assert guest.post("/api/keys", json={}).status_code == 403
    assert guest.get("/api/users").status_code == guest.get("/metrics").status_code == 403
    assert guest.post("/api/login", json={"name": "guest", "password": ""}).status_code == 401
    for kind in ("key", "session", "link"):
        with pytest.raises(accounts.APIError):
            accounts.issue(store, accounts.GUEST, kind)


def test_an_administrator_limits_and_closes_the_guest(tmp_path):
    app, store = studio(tmp_path, open=True)
    boss, guest = holder(app, accounts.local_user(store)), visitor(app)
    for change in ({"password": OTHER}, {"admin": True}):
        assert boss.patch("/api/users/guest", json=change).status_code == 422
    assert boss.patch("/api/users/guest", json={"daily": 1, "disk": 10**9}).status_code == 200
    assert [fox(guest).status_code, fox(guest).status_code, fox(boss).status_code] == [202, 429, 202]
    assert boss.patch("/api/users/guest", json={"active": False}).status_code == 200
    assert guest.get("/api/session").status_code == fox(guest).status_code == 401
    assert boss.patch("/api/users/guest", json={"active": True}).status_code == 200
    assert guest.get("/api/session").status_code == 200


def test_the_studios_own_user_is_neither_closed_nor_given_a_password(tmp_path):
    app, store = studio(tmp_path)
    local = accounts.local_user(store)
    boss, operator = holder(app, accounts.add_user(store, "boss", None, admin=True)), holder(app, local)
    for change in ({"active": False}, {"password": PASSWORD}, {"admin": False}, {"daily": 0}):
        refused = boss.patch(f"/api/users/{local.id}", json=change)
        assert refused.status_code == 422 and "local" in refused.json()["error"]["message"]
    assert accounts.log_in(store, "local", PASSWORD) is None
    assert operator.get("/api/session").json()["admin"] is True and accounts.local_user(store) == local


def test_one_visitor_who_asks_too_often_does_not_stop_another(tmp_path, monkeypatch):
    app, _ = studio(tmp_path, open=True)
    app.state.rate = Bucket(0.01, 3)
    hasty, calm = visitor(app), visitor(app, "10.0.0.2")
    assert [hasty.get("/api/session").status_code for _ in range(4)] == [200] * 3 + [429]
    assert calm.get("/api/session").status_code == 200

    app.state.rate = Bucket(1e6, 1e6)
    monkeypatch.setattr("inkwash.studio.streams.WAITS", 1)
    monkeypatch.setattr("inkwash.studio.streams.STREAMS", 0)
    job = fox(hasty).json()["id"]
    begun = threading.Event()
    finished = app.state.engine.finished
    monkeypatch.setattr(app.state.engine, "finished", lambda *more: (begun.set(), finished(*more))[1])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hasty.get, f"/api/jobs/{job}", params={"wait": 30})
        assert begun.wait(30)
        assert hasty.get(f"/api/jobs/{job}", params={"wait": 1}).status_code == 429
        assert calm.get(f"/api/jobs/{job}", params={"wait": 0.1}).status_code == 200
        assert calm.post(f"/api/jobs/{job}/cancel").status_code == 200
        assert waiting.result(30).status_code == 200
    app.state.streams["guest 10.0.0.2"] = -1  # room for one
    assert hasty.get("/api/events").status_code == 429


def test_all_addresses_of_one_client_by_ipv6_have_its_bounds_together(tmp_path):
    app, _ = studio(tmp_path, open=True)
    app.state.rate = Bucket(0.001, 1)
    for address, status in (
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
        ("::ffff:10.0.0.1", 200),
        ("10.0.0.1", 429),
        ("::ffff:10.0.0.2", 200),
    ):
        assert visitor(app, address).get("/api/jobs").status_code == status, address


# who a proxy says is logged in


HEADER = "X-Remote-User"


def behind_proxy(tmp_path, **settings):
    return studio(tmp_path, proxies=LOCAL_PROXIES, login_header=HEADER, **settings)


def test_who_the_proxy_names_is_logged_in_and_has_an_account_from_then_on(tmp_path):
    app, store = behind_proxy(tmp_path)
    proxy = visitor(app, "127.0.0.1", x_forwarded_for="10.0.0.9", **ORIGIN)
    for name in ("Zo\u00eb", "ZOE\u0308", " zo\u00eb"):
        session = proxy.get("/api/session", headers={HEADER: name.encode()}).json()
        assert (session["name"], session["admin"], session["has_password"]) == ("Zo\u00eb", False, False)
    assert [row.name for row in accounts.list_users(store)] == ["Zo\u00eb"]
    assert fox(visitor(app, "127.0.0.1", **{HEADER: "zoe", **ORIGIN})).status_code == 202  # another
    assert proxy.get("/api/jobs", headers={HEADER: "Zo\u00eb".encode()}).json() == []
    assert proxy.get("/api/session").status_code == 401  # the proxy named nobody
    assert proxy.get("/api/session", headers={HEADER: ""}).status_code == 401


def test_a_proxy_of_ipv4_is_believed_where_both_are_listened_for(tmp_path):
    app, _ = behind_proxy(tmp_path)
    proxy = visitor(app, "::ffff:127.0.0.1", x_forwarded_for="10.0.0.9")
    assert proxy.get("/api/session", headers={HEADER: "anna"}).json()["name"] == "anna"
    assert visitor(app, "::ffff:10.0.0.9").get("/api/session", headers={HEADER: "anna"}).status_code == 403


@pytest.mark.parametrize("address", ["10.0.0.9", "127.0.0.2", "testclient"])
def test_from_elsewhere_the_login_header_is_refused_and_not_passed_over(tmp_path, address):
    app, store = behind_proxy(tmp_path)
    user = accounts.add_user(store, "anna", None)
    for more in ({}, {"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}, {"x-real-ip": "127.0.0.1"}):
        for path in ("/api/session", "/", "/healthz"):
            refused = visitor(app, address).get(path, headers={HEADER: "anna", **more})
            assert refused.status_code == 403 and "proxy" in refused.json()["error"]["message"]
    assert holder(app, user, address).get("/api/session", headers={HEADER: "anna"}).status_code == 403
    assert holder(app, user, address).get("/api/session").status_code == 200


def test_a_page_of_another_site_asks_with_a_key_not_as_whom_the_proxy_names(tmp_path):
    site = "https://app.example.org"
    app, _ = behind_proxy(tmp_path, origins=(site,))
    headers = {HEADER: "anna", "origin": site, "sec-fetch-site": "cross-site"}
    assert visitor(app, "127.0.0.1").get("/api/session", headers=headers).status_code == 401


def test_without_the_option_the_header_says_nothing(tmp_path):
    app, store = studio(tmp_path, proxies=LOCAL_PROXIES)
    accounts.add_user(store, "anna", None)
    assert visitor(app, "127.0.0.1").get("/api/session", headers={HEADER: "anna"}).status_code == 401


@pytest.mark.parametrize(
    "name", [b"local", b"LOCAL", b"guest", b"Guest", b"M\xfcller", b"a\xe2\x80\x8bb", b"a" * 101]
)
def test_a_proxy_cannot_name_the_studios_own_users_or_what_is_no_name(tmp_path, name):
    app, store = behind_proxy(tmp_path, open=True)
    accounts.local_user(store)
    refused = wrong_login({"state": {"proxied": True}}, Headers(raw=[(HEADER.lower().encode(), name)]), HEADER)
    assert (refused.status, refused.code) == (403, "wrong_login_header")
    refused = visitor(app, "127.0.0.1").get("/api/session", headers=[(HEADER.encode(), b"Local")])
    assert refused.status_code == 403
    assert {row.name for row in accounts.list_users(store)} == {"local", "guest"}


def test_a_header_that_came_twice_is_refused(tmp_path):
    """The client's own came through beside the proxy's."""
    app, _ = behind_proxy(tmp_path)
    headers = [(HEADER.encode(), b"anna"), (HEADER.lower().encode(), b"ben")]
    assert visitor(app, "127.0.0.1").get("/api/session", headers=headers).status_code == 403


def test_an_account_that_is_closed_stays_out_whatever_the_proxy_says(tmp_path):
    app, store = behind_proxy(tmp_path, open=True)
    client = visitor(app, "127.0.0.1", **{HEADER: "anna"})
    assert client.get("/api/session").status_code == 200
    accounts.change_user(store, accounts.find_user(store, "anna").id, active=False)
    assert client.get("/api/session").status_code == 401


def test_a_page_of_another_site_does_nothing_through_the_proxys_login(tmp_path):
    app, _ = behind_proxy(tmp_path)
    client = visitor(app, "127.0.0.1", **{HEADER: "anna"})
    assert client.post("/api/keys", json={}).status_code == 401  # it does not say where from
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert client.post("/api/keys", json={}, headers=headers).status_code == 403
    assert client.post("/api/keys", json={}, headers=ORIGIN).status_code == 201


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, False),
        ({"origin": "https://studio.example"}, True),
        ({"origin": "https://app.studio.example", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
def test_only_a_page_of_ours_acts_by_what_the_browser_remembers(headers, ours):
    raw = [(name.encode(), value.encode()) for name, value in {"host": "Studio.example", **headers}.items()]
    assert same_origin(Request({"type": "http", "headers": raw})) == ours


def test_a_key_goes_before_the_proxys_word_and_that_before_the_proxys_own_basic_login(tmp_path):
    app, store = behind_proxy(tmp_path)
    accounts.add_user(store, "ben", PASSWORD)
    program = holder(app, accounts.find_user(store, "ben"), "127.0.0.1")
    assert program.get("/api/session", headers={HEADER: "anna"}).json()["name"] == "ben"
    basic = visitor(app, "127.0.0.1", authorization="Basic YW5uYTpwcm94eQ==")  # anna:proxy
    assert basic.get("/api/session", headers={HEADER: "anna"}).json()["name"] == "anna"
    assert basic.get("/api/session").status_code == 401


def test_many_first_requests_at_once_make_one_account(tmp_path):
    _, store = behind_proxy(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: accounts.proxied_user(store, name), ["anna", "Anna", "ANNA", "annA"] * 4))
    assert len({user.id for user in found}) == len(accounts.list_users(store)) == 1


@pytest.mark.parametrize("address", ["", "*", "proxy", "172.18.0.2/16", "172.18.0.0/40"])
def test_a_proxy_is_an_address_or_a_network(address):
    check_proxy("172.18.0.2"), check_proxy("172.16.0.0/12"), check_proxy("fd00::/8")
    with pytest.raises(UserError, match=r"^--proxy-address .*172\.18\.0\.2 or 172\.18\.0\.0/16$"):
        check_proxy(address)
