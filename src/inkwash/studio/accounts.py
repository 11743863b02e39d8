"""Who may do what: users, passwords, and the secrets by which they are known (keys, sessions, one-time links)."""

from __future__ import annotations

import hashlib
import re
import secrets as random
from contextlib import suppress
from typing import Any, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Connection, Row, delete, exists, insert, or_, select, update

from inkwash.errors import UserError
from inkwash.studio.database import new_id, stamp
from inkwash.studio.dialects import alone, now
from inkwash.studio.errors import APIError
from inkwash.studio.library import may_go_on
from inkwash.studio.locks import lock_jobs
from inkwash.studio.store import CANCELLED, Store
from inkwash.studio.tables import jobs, name_key, secrets, users

LOCAL = "local"  # the name of the user who started the studio
GUEST = "guest"  # the id of the user whom all are in an open studio who did not sign in, and the name
MAX_NAME = 100  # characters: an address of mail is a name, too
# characters that count as printable and show nothing: Unicode's default ignorable ones, and the blank of Braille
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
LIFETIMES = {"key": None, "session": 30 * 86400.0, "link": 3600.0}  # in seconds
MIN_PASSWORD, MAX_PASSWORD = 10, 1000  # of passwords, in characters
HASHER = PasswordHasher()  # argon2id with the library's parameters (RFC 9106, low memory)
DUMMY_HASH = HASHER.hash(random.token_hex())  # verified for names that do not exist, which then take as long


class User(NamedTuple):
    id: str
    name: str
    admin: bool
    daily: int | None
    disk: int | None


def add_user(
    store: Store,
    name: str,
    password: str | None,
    *,
    admin: bool = False,
    daily: int | None = None,
    disk: int | None = None,
) -> User:
    """UserError for a name that is taken or no name, and a password that is too short."""
    name = name.strip()
    check_name(name)
    hashed = None if password is None else hash_password(password)
    user = User(new_id(), name, admin, daily, disk)
    with store.writing() as tx:
        alone(tx, "users")
        if _named(tx, name) is not None:
            raise UserError(f"the name '{name}' is taken")
        _insert(tx, user, hashed)
    return user


def _insert(tx: Connection, user: User, hashed: str | None) -> None:
    row = {"key": name_key(user.name), "password": hashed, "active": True, "served": 0.0, "created": now(tx)}
    tx.execute(insert(users).values(**user._asdict(), **row))


def check_name(name: str) -> None:
    """UserError for what is no name, and for a name that the studio keeps for itself."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or INVISIBLE.search(name):
        raise UserError(f"a name has 1 to {MAX_NAME} letters, digits and signs that can be seen")
    if name_key(name) in (LOCAL, GUEST):
        raise UserError(f"the name '{name}' is the studio's own; choose another")


def check_password(password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UserError(f"a password has {MIN_PASSWORD} characters or more")


def hash_password(password: str) -> str:
    check_password(password)
    return HASHER.hash(password)


def local_user(store: Store) -> User:
    """The user who started the studio; made at the first start. They may do everything."""
    return _own_user(store, users.c.name == LOCAL, User(new_id(), LOCAL, True, None, None))


def guest_user(store: Store) -> User:
    """The user whom all are in an open studio who did not sign in; made when first asked for. They rule nothing, and
    have neither password nor key."""
    return _own_user(store, users.c.id == GUEST, User(GUEST, GUEST, False, None, None))


def _own_user(store: Store, which: Any, new: User) -> User:
    with store.writing() as tx:
        alone(tx, "users")
        found = _user(tx.execute(select(users).where(which)).first())
        if found is None:
            if _named(tx, new.name) is not None:  # an account from before the name was the studio's keeps it
                new = new._replace(name=f"{new.name} {new_id()[:8]}")
            _insert(tx, new, None)
    return found or new


def find_user(store: Store, name: str) -> User | None:
    """By the name itself, else by what names are compared by."""
    with store.reading() as tx:
        return _user(_named(tx, name))


def _named(tx: Connection, name: str) -> Row[Any] | None:
    name = name.strip()
    if not name.isprintable():  # nobody is called so, and SQLite does not take every such text
        return None
    which = or_(users.c.name == name, users.c.key == name_key(name))
    return tx.execute(select(users).where(which).order_by(users.c.name != name)).first()


def open_user(store: Store, id: str) -> User | None:
    """The user, unless the account is closed."""
    with store.reading() as tx:
        return _user(tx.execute(select(users).where(users.c.id == id, users.c.active)).first())


def proxied_user(store: Store, name: str) -> User | None:
    """Whom a proxy has named; the account is made at first sight, without a password. None for one that is closed."""
    if find_user(store, name) is None:
        with suppress(UserError):  # it is taken: another request has just made it
            add_user(store, name, None)
    with store.reading() as tx:
        row = _named(tx, name)
    return _user(row) if row is not None and row.active and row.id != GUEST else None


def has_password(store: Store, id: str) -> bool:
    with store.reading() as tx:
        return tx.scalar(select(users.c.password).where(users.c.id == id)) is not None


def list_users(store: Store) -> list[Any]:
    with store.reading() as tx:
        return list(tx.execute(select(users).order_by(users.c.created)))


def has_accounts(store: Store) -> bool:
    """Whether anyone can log in with a password."""
    with store.reading() as tx:
        return bool(tx.scalar(select(exists().where(users.c.password.is_not(None), users.c.active))))


def change_user(store: Store, id: str, **changes: Any) -> bool:
    """Changes active, admin, daily, disk or password; whether there is such a user.

    An account that is closed, or has a new password, loses its secrets; one that is closed its jobs, too. UserError
    for what the studio's own users do not have, and a password that is too short.
    """
    if changes.get("password") is not None:
        changes["password"] = hash_password(changes["password"])
    with store.writing() as tx:
        row = tx.execute(select(users).where(users.c.id == id)).first()
        if row is None:
            return False
        if row.name == LOCAL:
            raise UserError(f"{LOCAL}: whoever runs the studio on this machine; it cannot be changed")
        if id == GUEST and changes.keys() & {"admin", "password"}:
            raise UserError(f"{row.name}: visitors of an open studio have no password, and rule nothing")
        theirs, closes = (jobs.c.user_id == id, may_go_on()), changes.get("active") is False
        if closes:
            lock_jobs(tx, *theirs)
        if changes:
            tx.execute(update(users).where(users.c.id == id).values(changes))
        if closes or "password" in changes:
            tx.execute(delete(secrets).where(secrets.c.user_id == id))
        if closes:
            ids = lock_jobs(tx, *theirs, wait=False)  # some may have come until the account was closed
            tx.execute(update(jobs).where(jobs.c.id.in_(ids)).values(**CANCELLED, **stamp(tx)))
        return True


def change_password(store: Store, id: str, password: str, secret: str) -> None:
    """A new password. Sessions, links and keys end, except the secret given: whoever knew the old password may have
    made them. UserError for a password that is too short."""
    hashed = hash_password(password)
    with store.writing() as tx:
        tx.execute(update(users).where(users.c.id == id).values(password=hashed))
        tx.execute(delete(secrets).where(secrets.c.user_id == id, secrets.c.hash != _hash(secret)))


def choose_a1111_model(store: Store, id: str, model: str) -> None:
    """What the user's requests by A1111's API take from now on if they name no model."""
    with store.writing() as tx:
        tx.execute(update(users).where(users.c.id == id).values(a1111_model=model))


def a1111_model(store: Store, id: str) -> str | None:
    """The model that the user chose by A1111's API."""
    with store.reading() as tx:
        return tx.scalar(select(users.c.a1111_model).where(users.c.id == id))


def log_in(store: Store, name: str, password: str) -> User | None:
    """The user, if the password is theirs. It takes the same time whether or not there is such a user."""
    with store.reading() as tx:
        row = _named(tx, name)
    hashed = row.password if row is not None and row.active else None
    try:
        HASHER.verify(hashed or DUMMY_HASH, password[:MAX_PASSWORD])
    except (Argon2Error, InvalidHashError):
        return None
    return _user(row) if hashed else None


def issue(store: Store, user: str, kind: str, name: str = "") -> str:
    """A new secret by which the user is known; only its hash is kept, so it is shown this once. APIError for a closed
    account, and for the guest."""
    if user == GUEST:
        raise APIError(403, "visitors of an open studio who did not sign in have no keys", "not_allowed")
    secret, lifetime = f"ink-{random.token_urlsafe(24)}", LIFETIMES[kind]
    row = {"hash": _hash(secret), "id": new_id(), "user_id": user, "kind": kind, "name": name}
    with store.writing() as tx:
        if not tx.scalar(select(users.c.active).where(users.c.id == user).with_for_update(read=True)):
            raise APIError(403, "this account is closed; ask who runs the studio", "account_closed")
        present = now(tx)
        old = select(secrets.c.hash).where(secrets.c.expires < present).with_for_update(skip_locked=True)
        tx.execute(delete(secrets).where(secrets.c.hash.in_(old)))
        expires = None if lifetime is None else present + lifetime
        tx.execute(insert(secrets).values(**row, created=present, expires=expires))
    return secret


def holder(store: Store, secret: str, *kinds: str) -> User | None:
    """Whose secret it is, if it is valid and the account is open."""
    with store.reading() as tx:
        return _user(tx.execute(select(users).join(secrets).where(*_valid(tx, secret, kinds))).first())


def redeem(store: Store, link: str) -> User | None:
    """Whose one-time link it is; it is used up."""
    with store.writing() as tx:
        row = tx.execute(select(users).join(secrets).where(*_valid(tx, link, ("link",)))).first()
        used = tx.execute(delete(secrets).where(secrets.c.hash == _hash(link), secrets.c.kind == "link"))
    return _user(row) if used.rowcount else None  # else another has used it meanwhile


def revoke(store: Store, secret: str) -> None:
    with store.writing() as tx:
        tx.execute(delete(secrets).where(secrets.c.hash == _hash(secret)))


def list_keys(store: Store, user: str) -> list[Any]:
    with store.reading() as tx:
        which = (secrets.c.user_id == user, secrets.c.kind == "key")
        return list(tx.execute(select(secrets).where(*which).order_by(secrets.c.created)))


def find_key(store: Store, key: str) -> Any:
    with store.reading() as tx:
        return tx.execute(select(secrets).where(secrets.c.hash == _hash(key))).one()


def revoke_key(store: Store, id: str, user: str) -> bool:
    with store.writing() as tx:
        which = (secrets.c.id == id, secrets.c.user_id == user, secrets.c.kind == "key")
        return bool(tx.execute(delete(secrets).where(*which)).rowcount)


def _valid(tx: Connection, secret: str, kinds: tuple[str, ...]) -> tuple[Any, ...]:
    current = or_(secrets.c.expires.is_(None), secrets.c.expires > now(tx))
    return secrets.c.hash == _hash(secret), secrets.c.kind.in_(kinds), current, users.c.active


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _user(row: Row[Any] | None) -> User | None:
    return None if row is None else User(row.id, row.name, row.admin, row.daily, row.disk)
