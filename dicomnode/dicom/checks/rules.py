"""What a rule of the gate is, and what it says when something breaks it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Violation:
    """One statement about a result set that does not hold.

    ``rule`` is the rule's name, ``where`` the object and the part of it (never a patient's data),
    ``text`` a sentence with the figures.
    """

    rule: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Rule(Generic[Subject]):
    """One statement that must hold: ``check`` yields a sentence for everything that breaks it."""

    name: str
    statement: str
    check: Callable[[Subject], Iterable[str]]


# What reading a malformed object raises; a rule that cannot read its subject is broken by it.
UNREADABLE = (AttributeError, LookupError, TypeError, ValueError, OverflowError, AssertionError)


def broken(rules: Iterable[Rule[Subject]], subject: Subject, where: str) -> list[Violation]:
    """Give every violation of ``rules`` by ``subject``."""
    found = []
    for rule in rules:
        try:
            found += [Violation(rule.name, where, text) for text in rule.check(subject)]
        except UNREADABLE as fault:
            text = f"cannot be read: {type(fault).__name__}: {fault}"
            found.append(Violation(rule.name, where, text))
    return found
