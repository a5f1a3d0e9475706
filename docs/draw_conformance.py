"""Writes into conformance.md what the program itself knows best: decoders and its own UID.

``python docs/draw_conformance.py`` writes it anew; a test compares.
"""

import re
from pathlib import Path

from pydicom.uid import UID

from dicomnode.dicom.uids import IMPLEMENTATION_CLASS_UID
from dicomnode.stages.receive.listening import transfer_syntaxes

PAGE = Path(__file__).with_name("conformance.md")


def drawn(page: str) -> str:
    """Give the text of the page with the lists made anew, in the order of preference."""
    rows = [f"| {UID(one).name} | {one} |" for one in transfer_syntaxes(())]
    table = "\n".join(["| transfer syntax | UID |", "| --- | --- |", *rows])
    page = _between("transfer syntaxes", f"\n{table}\n", page)
    return _between("implementation", f"`{IMPLEMENTATION_CLASS_UID}`", page)


def _between(name: str, text: str, page: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{text}{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
