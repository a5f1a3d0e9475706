"""What the pages say is what the program does: commands, keys, states, codes, proving tests."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from dicomnode import __version__, config
from dicomnode.cli.app import app
from dicomnode.dicom.transfer_syntaxes import decodable
from dicomnode.rules.catalogue import CATALOGUE
from dicomnode.rules.states import MOVES
from tests.scripts import load_script

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *DOCS.rglob("*.md")])
# Files beside the pages that call the program.
CALLERS = [
    *PAGES,
    REPOSITORY / "deploy" / "systemd" / "dicomnode.service",
    REPOSITORY / "deploy" / "check_install.sh",
]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def drawing(name: str) -> Callable[[str], str]:
    """The function of a script of docs/ that writes a part of a page anew."""
    module = load_script(DOCS / f"{name}.py")
    drawn: Callable[[str], str] = module.drawn
    return drawn


@pytest.mark.parametrize(
    ("script", "page"),
    [
        ("draw_states", "architecture.md"),
        ("draw_settings", "operations.md"),
        ("draw_example", "pipelines.md"),
        ("draw_conformance", "conformance.md"),
    ],
)
def test_what_is_drawn_from_the_program_is_as_it_draws_it_now(script: str, page: str) -> None:
    text = text_of(DOCS / page)
    assert drawing(script)(text) == text, f"run: python docs/{script}.py"


def test_every_move_between_states_is_in_the_picture() -> None:
    text = text_of(DOCS / "architecture.md")
    for moves in MOVES.values():
        for old, following in moves.items():
            for new in following:
                assert f"    {old} --> {new}\n" in text


def test_every_key_of_the_configuration_is_told() -> None:
    text = text_of(DOCS / "operations.md")
    models = [
        model
        for model in vars(config).values()
        if isinstance(model, type)
        and issubclass(model, config._Section)
        and model not in (config._Section, config.Settings)
    ]
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert not {key for key in keys if f"| `{key}` |" not in text}
    assert not {name for name in config.Settings.model_fields if f"[{name}" not in text}


def test_the_transfer_syntaxes_are_those_that_can_be_decoded() -> None:
    text = text_of(DOCS / "conformance.md")
    listed = set(re.findall(r"\| (1\.2\.840\.10008\.1\.2[\d.]*) \|", text))
    assert listed == decodable()


def test_every_private_code_has_its_definition() -> None:
    text = text_of(DOCS / "conformance.md")
    used = {
        (arguments[0], arguments[2])
        for folder in ("dicomnode", "pipelines")
        for path in (REPOSITORY / folder).rglob("*.py")
        for arguments in coded(path)
        if arguments[1] == "99DICOMNODE"
    }
    assert used
    assert not {code for code in used if f"| `{code[0]}` | {code[1]} |" not in text}


def coded(path: Path) -> list[tuple[str, str, str]]:
    """Arguments of each ``Code(value, scheme, meaning)`` in a module."""
    found = []
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Code":
            values = [part.value for part in node.args if isinstance(part, ast.Constant)]
            if len(values) == 3:
                found.append((str(values[0]), str(values[1]), str(values[2])))
    return found


def calls(text: str) -> list[list[str]]:
    """Each ``dicomnode …`` command of code blocks and code words, as arguments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    words = re.findall(
        r"`(dicomnode [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    )
    lines = [line for block in blocks for line in block.splitlines()] + words
    lines += re.findall(r"^Exec\w+=(.*)$", text, re.M)
    found = []
    for line in lines:
        called = re.match(r"(?:\S*/)?dicomnode ((?:[a-z]|--).*)", line.split("#")[0].strip())
        if called:
            found.append(shlex.split(called[1].replace("…", "x")))
    return found


def commands_of(command: Any) -> Mapping[str, Any]:
    """The commands below a group by name; none for a command."""
    found: Mapping[str, Any] = getattr(command, "commands", {})
    return found


def command_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command that these arguments reach, and what is left for it."""
    command: Any = typer.main.get_command(app)
    left = list(arguments)
    while commands_of(command) and left and not left[0].startswith("-"):
        name = left.pop(0)
        below = commands_of(command)
        assert name in below, f"there is no command dicomnode {' '.join(arguments)}"
        command = below[name]
    return command, left


@pytest.mark.parametrize("page", CALLERS, ids=lambda page: page.name)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    for arguments in calls(text_of(page)):
        command, left = command_of(arguments)
        options = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in left if word.startswith("--") and word not in options]
        assert not unknown, f"dicomnode {' '.join(arguments)}"


def test_commands_are_found_in_the_pages_at_all() -> None:
    assert len([call for page in CALLERS for call in calls(text_of(page))]) > 40


def test_every_command_is_told_of() -> None:
    told = {" ".join(call) for page in PAGES for call in calls(text_of(page))}
    hidden = {"demo", "receive", "dispatch", "work", "deliver"}

    def leaves(command: Any, name: str) -> list[str]:
        below = commands_of(command)
        if not below:
            return [] if command.hidden else [name]
        return [
            leaf for word, part in below.items() for leaf in leaves(part, f"{name} {word}".strip())
        ]

    wanted = set(leaves(typer.main.get_command(app), "")) - hidden
    assert len(wanted) > 20
    assert not {name for name in wanted if not any(call.startswith(name) for call in told)}


def test_every_line_of_failures_names_its_reason_and_a_test_that_proves_it() -> None:
    section = text_of(DOCS / "operations.md").split("## What may go wrong")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "::" in line]
    assert len(rows) > 30
    for row in rows:
        _, reasons, _, _, proof = row.strip("| ").split(" | ")
        unknown = set(re.findall(r"`(\w+\.\w+)`", reasons)) - set(CATALOGUE)
        assert not unknown, row
        path, _, function = proof.strip("` |").partition("::")
        defined = {
            node.name
            for node in ast.parse(text_of(REPOSITORY / path)).body
            if isinstance(node, ast.FunctionDef)
        }
        assert function in defined, proof


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text_of(page)):
        assert "://" in target or (page.parent / target).exists(), target


def test_every_toml_that_is_shown_is_a_configuration() -> None:
    for page in (REPOSITORY / "README.md", DOCS / "operations.md"):
        for block in re.findall(r"^```toml\n(.*?)^```", text_of(page), re.M | re.S):
            config.parse(block)


def test_the_first_page_says_what_it_is_not_and_fits_two_screens() -> None:
    text = text_of(REPOSITORY / "README.md")
    assert "Research use only. Not a medical device." in text.splitlines()[2]
    assert len(text.splitlines()) <= 100


def test_the_changes_begin_with_this_version() -> None:
    project = tomllib.loads(text_of(REPOSITORY / "pyproject.toml"))["project"]
    newest = re.search(r"^## (\S+)", text_of(REPOSITORY / "CHANGELOG.md"), re.M)
    assert newest is not None
    assert newest[1] == project["version"] == __version__


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (DOCS / "decisions").glob("*.md"))
    assert [name[:4] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]
