"""Writes the reference of the configuration in operations.md from the models that check it.

``python docs/draw_settings.py`` writes it anew; a test compares.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from dicomnode import config
from dicomnode.cli.example import example

PAGE = Path(__file__).with_name("operations.md")
_BETWEEN = re.compile(r"(<!-- settings -->\n).*(<!-- end of settings -->)", re.DOTALL)
# Tables under a name of the site's own, tables inside a key, and how each is headed.
_OTHERS: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("peers.NAME", "peers.pacs", config.Peer),
    ("pipelines.NAME", "pipelines.lung-nodule", config.PipelineRules),
    ("notify.NAME", "notify.helpdesk", config.Webhook),
    ("listen.tls, peers.NAME.tls", "", config.Tls),
    ("listen.ae_titles, each", "", config.CalledAeTitle),
)


def reference() -> str:
    """Give one table for each section of the file."""
    text = example()
    sections = [
        (name, name, field.annotation)
        for name, field in config.Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    return "\n".join("\n".join(_table(*one, text)) for one in (*sections, *_OTHERS))


def _table(title: str, header: str, model: type[BaseModel], text: str) -> Iterator[str]:
    section = re.search(rf"^(?:# )?\[{re.escape(header)}\]\n(.*?)(?=^$|\Z)", text, re.M | re.S)
    yield f"### `[{title}]`\n\n{(model.__doc__ or '').splitlines()[0]}\n"
    yield "| key | as in the example | meaning |\n| --- | --- | --- |"
    for name, field in model.model_fields.items():
        key = field.alias or name
        line = re.search(
            rf"^(?:# )?{key} = (.+?)(?: +# .*)?$", section[1] if section and header else "", re.M
        )
        shown = f"`{line[1]}`" if line else ""
        yield f"| `{key}` | {shown} | {(field.description or '').replace('|', '/')} |"
    yield ""


def drawn(page: str) -> str:
    """Give the text of the page with its reference made anew."""
    return _BETWEEN.sub(lambda found: f"{found[1]}\n{reference()}\n{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
