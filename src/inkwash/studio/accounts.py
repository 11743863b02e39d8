"""Who may do what: users, passwords, and the secrets by which they are known (keys, sessions, one-time links)."""

from __future__ import annotations

import hashlib
import secrets as random
import time
from typing import Any, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import Row, delete, exists, insert, or_, select, update

from inkwash.errors import UserError
from inkwash.studio.database import new_id, stamp
from inkwash.studio.errors import APIError
from inkwash.studio.library import may_go_on
from inkwash.studio.store import CANCELLED, Store
from inkwash.studio.tables import jobs, secrets, users

LOCAL = "local"  # the user who started the studio
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
        if tx.scalar(select(users.c.id).where(users.c.name == name)) is not None:
            raise UserError(f"the name '{name}' is taken")
        row = {"password": hashed, "active": True, "served": 0.0, "created": time.time()}
        tx.execute(insert(users).values(**user._asdict(), **row))
    return user


def check_name(name: str) -> None:
    if not 1 <= len(name) <= 40 or not name.isprintable():
        raise UserError("a name has 1 to 40 letters, digits and signs")


def check_password(password: str) -> None:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UserError(f"a password has {MIN_PASSWORD} characters or more")


def hash_password(password: str) -> str:
    check_password(password)
    return HASHER.hash(password)


def local_user(store: Store) -> User:
    """The user who started the studio; made at the first start. They may do everything."""
    return find_user(store, LOCAL) or add_user(store, LOCAL, None, admin=True)


def find_user(store: Store, name: str) -> User | None:
    with store.reading() as tx:
        return _user(tx.execute(select(users).where(users.c.name == name)).first())


def list_users(store: Store) -> list[Any]:
    with store.reading() as tx:
        return list(tx.execute(select(users).order_by(users.c.created)))


def has_accounts(store: Store) -> bool:
    """Whether anyone can log in with a password."""
    with store.reading() as tx:
        return bool(tx.scalar(select(exists().where(users.c.password.is_not(None), users.c.active))))


def change_user(store: Store, id: str, **changes: Any) -> bool:
    """Changes active, admin, daily or password; whether there is such a user.

    An account that is closed, or has a new password, loses its secrets; one that is closed its jobs, too.
    """
    if changes.get("password") is not None:
        changes["password"] = hash_password(changes["password"])
    with store.writing() as tx:
        if changes and not tx.execute(update(users).where(users.c.id == id).values(changes)).rowcount:
            return False
        if changes.get("active") is False or "password" in changes:
            tx.execute(delete(secrets).where(secrets.c.user_id == id))
        if changes.get("active") is False:
            tx.execute(update(jobs).where(jobs.c.user_id == id, may_go_on()).values(**CANCELLED, **stamp(tx)))
        return tx.scalar(select(users.c.id).where(users.c.id == id)) is not None


def log_in(store: Store, name: str, password: str) -> User | None:
    """The user, if the password is theirs. It takes the same time whether or not there is such a user."""
    with store.reading() as tx:
        row = tx.execute(select(users).where(users.c.name == name, users.c.active)).first()
    hashed = None if row is None else row.password
    try:
        HASHER.verify(hashed or DUMMY_HASH, password[:MAX_PASSWORD])
    except (Argon2Error, InvalidHashError):
        return None
    return _user(row) if hashed else None


def issue(store: Store, user: str, kind: str, name: str = "") -> str:
    """A new secret by which the user is known; only its hash is kept, so it is shown this once. APIError for a closed
    account."""
    secret, now, lifetime = f"ink-{random.token_urlsafe(24)}", time.time(), LIFETIMES[kind]
    expires = None if lifetime is None else now + lifetime
    row = {"hash": _hash(secret), "id": new_id(), "user_id": user, "kind": kind, "name": name, "expires": expires}
    with store.writing() as tx:
        if not tx.scalar(select(users.c.active).where(users.c.id == user)):
            raise APIError(403, "this account is closed; ask who runs the studio", "account_closed")
        tx.execute(delete(secrets).where(secrets.c.expires < now))
        tx.execute(insert(secrets).values(**row, created=now))
    return secret


def holder(store: Store, secret: str, *kinds: str) -> User | None:
    """Whose secret it is, if it is valid and the account is open."""
    with store.reading() as tx:
        return _user(tx.execute(select(users).join(secrets).where(*_valid(secret, kinds))).first())


def redeem(store: Store, link: str) -> User | None:
    """Whose one-time link it is; it is used up."""
    with store.writing() as tx:
        row = tx.execute(select(users).join(secrets).where(*_valid(link, ("link",)))).first()
        tx.execute(delete(secrets).where(secrets.c.hash == _hash(link), secrets.c.kind == "link"))
    return _user(row)


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


def _valid(secret: str, kinds: tuple[str, ...]) -> tuple[Any, ...]:
    current = or_(secrets.c.expires.is_(None), secrets.c.expires > time.time())
    return secrets.c.hash == _hash(secret), secrets.c.kind.in_(kinds), current, users.c.active


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _user(row: Row[Any] | None) -> User | None:
    return None if row is None else User(row.id, row.name, row.admin, row.daily, row.disk)
