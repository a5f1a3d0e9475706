"""Puts the files of example_pipeline into pipelines.md, so that the page shows what is tested.

``python docs/draw_example.py`` writes them anew; a test compares.
"""

import re
from pathlib import Path

PAGE = Path(__file__).with_name("pipelines.md")
_EXAMPLE = Path(__file__).with_name("example_pipeline")
_BETWEEN = re.compile(r"<!-- (\S+\.(py|toml)) -->\n.*?<!-- end -->", re.DOTALL)
_LANGUAGES = {"py": "python", "toml": "toml"}


def _shown(found: re.Match[str]) -> str:
    name, kind = found[1], _LANGUAGES[found[2]]
    text = (_EXAMPLE / name).read_text(encoding="utf-8")
    return f"<!-- {name} -->\n```{kind}\n{text}```\n<!-- end -->"


def drawn(page: str) -> str:
    """Give the text of the page with the example's files as they are."""
    return _BETWEEN.sub(_shown, page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
