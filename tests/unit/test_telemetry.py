"""Log lines carry events and fields, and nothing that names a patient or breaks a terminal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import StorageError
from dicomnode.telemetry import configure_logging, logger, printable


def test_a_line_is_one_json_object_with_the_event_and_its_fields(capsys) -> None:
    configure_logging("receive")
    logger("receive").info("listening", port=11112)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["port"], line["process"]) == ("listening", 11112, "receive")


@pytest.mark.parametrize(
    "field", ["patient_name", "PatientID", "birth_date", "accession_number", "identity"]
)
def test_a_field_that_names_somebody_is_never_written(capsys, field: str) -> None:
    configure_logging("receive")
    logger("receive").info("arrived", **{field: "Mustermann"})
    assert "Mustermann" not in capsys.readouterr().err


def test_control_characters_cannot_forge_a_line(capsys) -> None:
    configure_logging("receive")
    logger("receive").info("refused", calling="EVIL\nfake\x1b[31m\u202e")
    assert len(capsys.readouterr().err.splitlines()) == 1


@given(st.text(max_size=400))
def test_printable_text_has_no_controls_and_a_bound(text: str) -> None:
    clean = printable(text, longest=100)
    assert len(clean) <= 100
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in clean)
    clean.encode("utf-8")


def test_a_pile_of_combining_marks_is_cut() -> None:
    assert printable("e" + "\u0301" * 50) == "e" + "\u0301" * 3


def test_a_fault_is_logged_by_its_place_and_not_by_what_it_quotes(capsys) -> None:
    configure_logging("work")
    try:
        int("Mustermann^Erika")
    except ValueError:
        logger("analyse").exception("step_failed")
    line = json.loads(capsys.readouterr().err)
    assert line["fault"].startswith("ValueError at test_telemetry.py:")
    assert "Mustermann" not in json.dumps(line)


def _fail(words: str) -> None:
    raise StorageError(words)


def test_our_own_fault_is_logged_in_full(capsys) -> None:
    configure_logging("work")
    try:
        _fail("no room left")
    except StorageError:
        logger("analyse").exception("step_failed")
    assert "StorageError (no room left)" in capsys.readouterr().err
