"""What no node should be sent, sent to a whole node: answered clearly, and told in the worklist."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag
from sqlalchemy import select

from dicomnode.dicom.files import FileMeta, data_set_offset
from dicomnode.errors import UnreadableError
from dicomnode.rules.reasons import CATALOGUE
from dicomnode.rules.states import JobState, Outcome
from dicomnode.worklist import associations, jobs, quarantine, search
from dicomnode.worklist.associations import Association
from dicomnode.worklist.quarantine import Quarantined
from dicomnode.worklist.schema import instances
from tests.data import Patient, cr_image, ct_series, not_dicom, uid
from tests.network_data import (
    A_ASSOCIATE_AC,
    CT,
    P_DATA,
    associate_rq,
    pdata,
    read_pdu,
    store_rq,
)
from tests.node import REAL_PIPELINES, Node, running_node
from tests.raw_sender import Raw, connected, raw_of, send

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SUCCESS, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA900, 0xC000
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
IMPLICIT = "1.2.840.10008.1.2"
SEEDED = (
    Patient("PID-7719-X", "Quillfeather^Ottoline"),
    Patient("PID-7720-X", "Zanzibarth^Peregrine"),
)
# Same length as the name that it replaces, and no text of any character set that is in use.
WRONG_NAME = b"Zanzibarth^\xff\xfeP\x1b$Brin"
NO_SYNTAX = "none of the transfer syntaxes is taken"
NO_CLASS = "the SOP class is not taken"
# A media directory, and two private SOP classes that the configuration does not list.
NOT_STORED = {"DICOMDIR", "GH220.dcm", "Issue1097_FailToOpenDeflatedFileWithSQ.dcm"}
# Deflated, JPEG Extended, the two retired progressive forms of JPEG, and deflated frames.
NOT_DECODED = {
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.8.1",
}
LIMIT_S = 300.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    sections = {
        "complete": {"quiet": "3s"},
        "analyse": {"lease": "120s", "threads": 0},
        "peers": {"far": {"ae_title": "FAR", "receives_from": True, "addresses": ["10.9.8.0/24"]}},
        "pipelines": {name: {"enabled": True} for name in REAL_PIPELINES},
    }
    with running_node(Node(tmp_path_factory.mktemp("bad-input"), {}), sections) as made:
        yield made
        assert made.stop() == 0


def newest(node: Node) -> Association:
    """The association that was opened last."""
    with node.worklist.read() as tx:
        return associations.recent(tx)[0]


def set_aside(node: Node) -> Quarantined:
    """What was set aside last."""
    with node.worklist.read() as tx:
        return quarantine.listed(tx)[0]


def ended(node: Node, study: str) -> tuple[Outcome, str, str]:
    """Wait until a study has ended; give its outcome, its reason's code and the sentence."""
    node.wait_settled(study, LIMIT_S)
    row = node.study(study)
    assert row is not None
    assert row.reason is not None
    return row.outcome, row.reason.code, node.words(row.reason)


@dataclass(frozen=True)
class Sample:
    """A file of the collections, what was answered when it was sent, and whether it was kept."""

    path: Path
    raw: Raw
    status: int | None
    association: Association
    is_kept: bool


def raw_of_file(path: Path) -> Raw:
    """A file's data set as it is, under the UIDs of its meta, else its own, else made up ones."""
    content = path.read_bytes()
    try:
        offset, meta = data_set_offset(path)
    except UnreadableError:
        offset, meta = (132 if content[128:132] == b"DICM" else 0), FileMeta("", "", "")
    try:
        header = dcmread(path, force=True, stop_before_pixels=True)
    except (InvalidDicomError, OSError, EOFError, ValueError):
        header = Dataset()
    return Raw(
        meta.sop_class_uid or str(header.get("SOPClassUID") or SECONDARY_CAPTURE),
        meta.sop_instance_uid or str(header.get("SOPInstanceUID") or uid(path.name)),
        meta.transfer_syntax_uid or IMPLICIT,
        content[offset:],
    )


def collected(data_folder: Path) -> list[Path]:
    """Every file of the collections of odd and of single images."""
    return [
        path
        for folder in ("dicom-zoo", "single-images")
        for path in sorted((data_folder / folder).rglob("*"))
        if path.is_file() and path.name != "index.csv"
    ]


@pytest.fixture(scope="module")
def samples(node: Node, data_folder: Path) -> list[Sample]:
    """All of them, sent once each."""
    # Nothing compares or analyses meanwhile: what was acknowledged must lie there byte for byte.
    with node.frozen("work"):
        return [sent_sample(node, path, raw_of_file(path)) for path in collected(data_folder)]


def sent_sample(node: Node, path: Path, raw: Raw) -> Sample:
    with connected(node.port, [raw]) as store:
        status = store(raw)
    node.wait(lambda: newest(node).closed_at, 20, "the association's end")
    return Sample(path, raw, status, newest(node), is_kept(node, raw))


def is_kept(node: Node, raw: Raw) -> bool:
    """Whether a row of the worklist names a file that ends in exactly an object's bytes."""
    with node.worklist.read() as tx:
        query = select(instances.c.path).where(instances.c.digest == raw.digest)
        names = list(tx.execute(query).scalars())
        held = quarantine.listed(tx, limit=1000)
    names += [one.path for one in held if one.digest == raw.digest and one.path is not None]
    if not names:
        return False
    content = node.storage.kept(names[0]).read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :] == raw.data_set


def test_every_collected_file_is_kept_byte_for_byte_or_refused_in_words(
    node: Node, samples: list[Sample]
) -> None:
    refused = [one for one in samples if one.status is None]
    for one in samples:
        if one.status is not None:
            assert one.status in (SUCCESS, DOES_NOT_MATCH, CANNOT_UNDERSTAND), one.path.name
            assert one.is_kept, one.path.name
    for one in refused:
        assert not one.is_kept
        (context,) = one.association.contexts
        assert not context["accepted"]
        assert context["cause"] in (NO_SYNTAX, NO_CLASS)
        assert one.association.reason is not None
        assert one.association.reason.code == "association.nothing_in_common"
        words = node.words(one.association.reason)
        assert words == "SCANNER proposed nothing that this node takes."
    causes = {one.path.name: one.association.contexts[0]["cause"] for one in refused}
    assert {name for name, cause in causes.items() if cause == NO_CLASS} == NOT_STORED
    undecodable = {
        one.raw.transfer_syntax_uid for one in refused if one.path.name not in NOT_STORED
    }
    assert undecodable == NOT_DECODED
    assert len(samples) - len(refused) > 90


def test_every_collected_file_that_cannot_be_filed_is_set_aside_with_its_reason(
    node: Node, samples: list[Sample]
) -> None:
    with node.worklist.read() as tx:
        held = {one.digest: one for one in quarantine.listed(tx, limit=1000)}
    codes = {DOES_NOT_MATCH: "quarantine.bad_uid", CANNOT_UNDERSTAND: "quarantine.unreadable"}
    apart = [one for one in samples if one.status in codes]
    assert len(apart) > 20
    for one in apart:
        row = held[one.raw.digest]
        assert row.why == codes[one.status or 0], one.path.name
        assert f"the sender was told {one.status:04X}" in node.words(row.reason)
    unreadable = {one.path.name for one in apart if one.status == CANNOT_UNDERSTAND}
    assert {"MR_truncated.dcm", "rtplan_truncated.dcm"} <= unreadable


def test_every_study_of_the_collections_ends_with_a_reason(
    node: Node, samples: list[Sample]
) -> None:
    settled(node)
    with node.worklist.read() as tx:
        found = search.list_studies(tx, limit=1000).studies
        of_each = {one.id: jobs.of_study(tx, one.id) for one in found}
    assert len(found) > 35
    for study in found:
        assert study.outcome in (Outcome.DONE, Outcome.NO_ROUTE), node.words(study.reason)
        assert study.reason is not None
        assert study.reason.code in CATALOGUE
        for job in of_each[study.id]:
            assert job.state in (JobState.DONE, JobState.DECLINED), node.words(job.reason)
    by_file = {one.path.name: one for one in samples}
    for name, outcome, code in (
        ("RG1_J2KI.dcm", Outcome.DONE, "job.done"),
        ("CT-JPEGLosslessSV1.dcm", Outcome.DONE, "declined.too_few"),
        ("US1_J2KI.dcm", Outcome.NO_ROUTE, "study.no_route"),
        ("waveform_ecg.dcm", Outcome.NO_ROUTE, "study.no_series"),
    ):
        header = dcmread(by_file[name].path, stop_before_pixels=True)
        assert ended(node, str(header.StudyInstanceUID))[:2] == (outcome, code)


def settled(node: Node) -> None:
    """Wait until everything that came in has ended."""

    def over() -> bool:
        with node.worklist.read() as tx:
            found = search.list_studies(tx, limit=1000).studies
        return all(node.is_settled(one.study_instance_uid) for one in found)

    node.wait(over, LIMIT_S, "the end of every study")


def test_a_missing_middle_slice_declines_and_names_the_place(node: Node) -> None:
    images = ct_series(slices=48, rows=32, missing=(24,), study="gap", patient=SEEDED[0])
    assert send(node.port, images) == [SUCCESS] * 47
    outcome, code, words = ended(node, uid("gap"))
    assert (outcome, code) == (Outcome.DONE, "declined.gap")
    assert words.startswith("Not analysed: 1 slice is missing")
    assert "z = -40" in words


def test_duplicate_slices_decline_and_are_named(node: Node) -> None:
    images = ct_series(slices=48, rows=32, duplicate=(7, 9), study="twice", patient=SEEDED[0])
    assert send(node.port, images) == [SUCCESS] * 50
    outcome, code, words = ended(node, uid("twice"))
    assert (outcome, code) == (Outcome.DONE, "declined.geometry")
    assert "doubled positions" in words
    assert "1008" in words


def test_images_without_pixels_have_no_series_to_analyse(node: Node) -> None:
    images = ct_series(slices=12, rows=32, study="blind", patient=SEEDED[0])
    for image in images:
        del image.PixelData
    assert send(node.port, images) == [SUCCESS] * 12
    outcome, code, words = ended(node, uid("blind"))
    assert (outcome, code) == (Outcome.NO_ROUTE, "study.no_series")
    assert words == "No series of this study is a set of images that a pipeline could take."


def test_a_wrong_character_set_costs_letters_and_nothing_else(node: Node) -> None:
    image = cr_image(study="charset", patient=SEEDED[1])
    whole = raw_of(image)
    claimed = b"ISO_IR 100"
    assert claimed in whole.data_set
    name = SEEDED[1].name.encode("latin-1", "replace")
    assert name in whole.data_set
    wrong = replace(
        whole,
        data_set=whole.data_set.replace(claimed, b"ISO_IR 999").replace(name, WRONG_NAME),
    )
    with connected(node.port, [wrong]) as store:
        assert store(wrong) == SUCCESS
    assert is_kept(node, wrong)
    outcome, _, words = ended(node, uid("charset"))
    assert outcome is Outcome.DONE
    assert words
    study = node.study(uid("charset"))
    assert study is not None
    assert study.patient_name.isprintable()
    assert study.patient_name.startswith("Zanzibarth")


@pytest.mark.parametrize("bytes_kept", [0.3, 0.9])
def test_a_truncated_object_is_refused_and_set_aside(node: Node, bytes_kept: float) -> None:
    whole = raw_of(ct_series(slices=1, rows=32, study="cut", patient=SEEDED[0])[0])
    cut = replace(whole, data_set=whole.data_set[: int(len(whole.data_set) * bytes_kept) | 1])
    with connected(node.port, [cut]) as store:
        assert store(cut) == CANNOT_UNDERSTAND
    row = set_aside(node)
    assert (row.why, row.digest, row.peer) == ("quarantine.unreadable", cut.digest, "scanner")
    assert node.words(row.reason).startswith("Not readable as DICOM at byte ")
    assert node.words(row.reason).endswith("; the sender was told C000.")
    assert is_kept(node, cut)
    assert node.study(uid("cut")) is None


def test_what_is_not_dicom_is_refused_and_set_aside(node: Node) -> None:
    picture = Raw(CT, uid("picture"), IMPLICIT, not_dicom())
    with connected(node.port, [picture]) as store:
        assert store(picture) == CANNOT_UNDERSTAND
    row = set_aside(node)
    assert (row.why, row.digest) == ("quarantine.unreadable", picture.digest)
    assert is_kept(node, picture)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize(
    "text", ["../../../../tmp/h", "1.2." + "3" * 70, "", "1.2.840.a", "1.2\n.3"]
)
def test_an_unusable_uid_of_the_data_set_is_refused_by_name(
    node: Node, keyword: str, text: str
) -> None:
    image = ct_series(slices=1, rows=16, study=f"uid {keyword} {text}", patient=SEEDED[0])[0]
    raw = raw_of(image)
    value = str(image[keyword].value).encode()
    padded = value + b"\0" * (len(value) % 2)
    given = text.encode() + b"\0" * (len(text) % 2)
    element = struct.pack("<HH2sH", *_tag(keyword), b"UI", len(padded)) + padded
    assert element in raw.data_set
    changed = struct.pack("<HH2sH", *_tag(keyword), b"UI", len(given)) + given
    bad = replace(raw, data_set=raw.data_set.replace(element, changed))
    with connected(node.port, [bad]) as store:
        assert store(bad) == DOES_NOT_MATCH
    row = set_aside(node)
    assert (row.why, row.parameters["keyword"]) == ("quarantine.bad_uid", keyword)
    assert node.words(row.reason) == f"{keyword} is no usable UID; the sender was told A900."
    assert is_kept(node, bad)


def _tag(keyword: str) -> tuple[int, int]:
    tag = Tag(keyword)
    return tag.group, tag.element


@pytest.mark.parametrize("text", [b"../../../tmp/evil", b"1.2." + b"3" * 70, b"1.2\n3"])
def test_an_unusable_uid_of_the_command_is_refused_before_a_file_is_made(
    node: Node, text: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(associate_rq())
        assert read_pdu(connection)[0] == A_ASSOCIATE_AC
        connection.sendall(pdata(store_rq(text), 3) + pdata(b"abcd", 2))
        kind, body = read_pdu(connection)
        assert kind == P_DATA
        assert b"\0\0\x00\x09\x02\0\0\0\x00\xa9" in body  # (0000,0900) Status A900
    row = set_aside(node)
    assert (row.why, row.path, row.byte_count) == ("quarantine.bad_uid", None, 0)
    assert node.words(row.reason) == "SOPInstanceUID is no usable UID; the sender was told A900."


@pytest.mark.parametrize(
    ("calling", "called", "code", "words"),
    [
        (
            "STRANGER",
            "DICOMNODE",
            "association.refused_calling",
            "this AE title is not on the list",
        ),
        ("SCANNER", "ELSEWHERE", "association.refused_called", "it calls us ELSEWHERE"),
        ("FAR", "DICOMNODE", "association.refused_address", "the address is not its own"),
    ],
)
def test_a_caller_that_may_not_come_in_is_refused_and_written_down(
    node: Node, calling: str, called: str, code: str, words: str
) -> None:
    raw = raw_of(ct_series(slices=1, rows=16, study="stranger", patient=SEEDED[0])[0])
    with connected(node.port, [raw], calling, called) as store:
        assert store(raw) is None

    def written() -> bool:
        found = newest(node)
        return found.calling_ae_title == calling and not found.accepted

    node.wait(written, 20, "the refused association's row")
    reason = newest(node).reason
    assert reason is not None
    assert reason.code == code
    assert words in node.words(reason)
    assert f"Refused {calling} from 127.0.0.1" in node.words(reason)
    assert node.study(uid("stranger")) is None


def test_the_command_line_tells_every_reason_and_nothing_died(
    node: Node, samples: list[Sample]
) -> None:
    settled(node)
    listed = command(node, "worklist", "list", "--state", "all", "--limit", "1000")["items"]
    with node.worklist.read() as tx:
        found = search.list_studies(tx, limit=1000).studies
        held = quarantine.listed(tx, limit=1000)
    assert {one["id"] for one in listed} == {study.id for study in found}
    assert all(one["reason"]["sentence"] for one in listed)
    aside = command(node, "quarantine", "list", "--limit", "1000")["items"]
    assert {one["id"] for one in aside} == {row.id for row in held}
    assert all(one["reason"]["sentence"] for one in aside)
    log = node.log.read_text(errors="replace")
    for event in ("process_died", "stage_died", "Traceback"):
        assert event not in log


def command(node: Node, *arguments: str) -> Any:
    """Run ``dicomnode`` with --json and give its document."""
    options = ("--json", "--config", str(node.configuration))
    ended = subprocess.run(
        [sys.executable, "-m", "dicomnode", *arguments, *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(ended.stdout)


def test_no_patient_stands_in_the_log(node: Node, samples: list[Sample]) -> None:
    settled(node)
    names = {part for patient in SEEDED for part in (patient.patient_id, *patient.name.split("^"))}
    for one in samples:
        try:
            header = dcmread(one.path, force=True, stop_before_pixels=True)
            texts = [str(header.get(key) or "") for key in ("PatientName", "PatientID")]
        except (InvalidDicomError, OSError, EOFError, ValueError):
            continue
        names |= {part for text in texts for part in re.split(r"[\^=]", text)}
    log = node.log.read_text(errors="replace")
    told = {
        name
        for name in names
        if len(name.strip()) > 3 and re.search(rf"(?<!\w){re.escape(name.strip())}(?!\w)", log)
    }
    assert len(names) > 60
    assert not told
