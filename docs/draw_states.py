"""Draws the pictures of states in architecture.md from the table of allowed moves.

``python docs/draw_states.py`` writes them anew; a test compares.
"""

import re
from pathlib import Path

from dicomnode.rules.states import MOVES

PAGE = Path(__file__).with_name("architecture.md")
_BETWEEN = re.compile(r"(<!-- states -->\n).*(<!-- end of states -->)", re.DOTALL)


def pictures() -> str:
    """Give one heading and one Mermaid diagram for each kind of state."""
    parts = []
    for kind, moves in MOVES.items():
        name = kind.__name__.removesuffix("State")
        arrows = [f"    {old} --> {new}" for old in moves for new in sorted(moves[old])]
        ends = [f"    {old} --> [*]" for old in moves if not moves[old]]
        lines = ["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"]
        parts.append(f"### {name}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def drawn(page: str) -> str:
    """Give the text of the page with its pictures made anew."""
    return _BETWEEN.sub(lambda found: f"{found[1]}\n{pictures()}\n{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
