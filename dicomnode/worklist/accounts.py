"""Who may act, and who looked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from dicomnode.rules.reasons import Reason
from dicomnode.worklist import events
from dicomnode.worklist.events import Act
from dicomnode.worklist.rows import as_value, as_values, inserted, touched
from dicomnode.worklist.schema import looks, tokens, users


@dataclass(frozen=True, slots=True)
class User:
    """An account; ``role`` is reader, operator, admin or auditor."""

    id: int
    name: str
    role: str
    password_hash: str | None
    enabled: bool
    created_at: int
    last_seen_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token by the SHA-256 of its text: the text itself is kept nowhere."""

    user_id: int
    digest: str
    purpose: str
    expires_at: int
    scope: Mapping[str, Any] | None = None


def create(tx: Connection, name: str, role: str, act: Act, password_hash: str | None = None) -> int:
    """Make an account and give its id."""
    values = {
        "name": name,
        "role": role,
        "password_hash": password_hash,
        "enabled": True,
        "created_at": act.now_ms,
    }
    user_id = inserted(tx, users, values)
    events.add(tx, Reason("user.changed", {"account": name}), act)
    return user_id


def find(tx: Connection, name: str) -> User | None:
    """Give an account by its name."""
    row = tx.execute(select(users).where(users.c.name == name)).first()
    return None if row is None else as_value(User, row)


def all_of(tx: Connection) -> list[User]:
    """Give every account."""
    return as_values(User, tx.execute(select(users).order_by(users.c.name)))


def change(tx: Connection, name: str, values: Mapping[str, Any], act: Act) -> bool:
    """Change an account's role, password_hash or enabled; False where there is none."""
    unknown = set(values) - {"role", "password_hash", "enabled"}
    if unknown:
        raise ValueError(f"an account has no {', '.join(sorted(unknown))} to change")
    if not touched(tx, update(users).where(users.c.name == name).values(**values)):
        return False
    events.add(tx, Reason("user.changed", {"account": name}), act)
    return True


def add_token(tx: Connection, new: NewToken, now_ms: int) -> int:
    """Keep a token and give its id."""
    values = {
        "user_id": new.user_id,
        "digest": new.digest,
        "purpose": new.purpose,
        "scope": None if new.scope is None else dict(new.scope),
        "created_at": now_ms,
        "expires_at": new.expires_at,
    }
    return inserted(tx, tokens, values)


def user_of_token(tx: Connection, digest: str, purpose: str, now_ms: int) -> User | None:
    """Give the enabled account that a token which has not expired stands for."""
    query = (
        select(users)
        .join(tokens, tokens.c.user_id == users.c.id)
        .where(
            tokens.c.digest == digest,
            tokens.c.purpose == purpose,
            tokens.c.expires_at > now_ms,
            users.c.enabled,
        )
    )
    row = tx.execute(query).first()
    return None if row is None else as_value(User, row)


def forget_tokens(tx: Connection, now_ms: int) -> int:
    """Delete tokens that expired; give how many."""
    return touched(tx, delete(tokens).where(tokens.c.expires_at <= now_ms))


def looked(tx: Connection, user_id: int, study_id: int, now_ms: int, *, every_ms: int) -> bool:
    """Write down that somebody looked at a study, once in ``every_ms``."""
    since = (
        looks.c.study_id == study_id,
        looks.c.user_id == user_id,
        looks.c.at > now_ms - every_ms,
    )
    if tx.execute(select(looks.c.id).where(*since).limit(1)).first() is not None:
        return False
    tx.execute(insert(looks).values(at=now_ms, user_id=user_id, study_id=study_id))
    return True
