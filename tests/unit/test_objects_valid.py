"""Every kind of set is built, passes the gate, the independent checker, and a second reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.dicom.checks import Predecessor, check
from dicomnode.dicom.objects import EncodedObject, EncodeRequest, Form, encode, encode_status
from dicomnode.dicom.sources import SourceSeries
from dicomnode.dicom.volumes import Loaded, load
from dicomnode.sdk import Assessment, Code, Findings, Measurement, Segment, Sign, Urgency
from dicomnode.sdk.codes import MASS, NODULE
from tests import data
from tests import results_data as made

NOTHING = Findings("No nodule of 4 mm or more found", sought=(NODULE, MASS))


def nothing_trained() -> EncodeRequest:
    absent = replace(NOTHING, absent=(NODULE, MASS))
    return made.request(absent, made.TRAINED)


def lesions_and_organs() -> EncodeRequest:
    both = replace(made.nodules(), segments=made.organs().segments[:3])
    return made.request(both)


def with_axes_turned() -> EncodeRequest:
    return replace(made.request(made.nodules(trained=True), made.TRAINED), form=Form(sr="2d"))


def report_only() -> EncodeRequest:
    return replace(lesions_and_organs(), form=Form(frozenset({"sr"})))


def organs_without_segmentation() -> EncodeRequest:
    return replace(made.request(made.organs()), form=Form(frozenset({"sr"})))


def crescent() -> EncodeRequest:
    mask = made.ball((10, 32, 18), 9.0) & ~made.ball((10, 29, 20), 8.0)
    mask[10, 50, 14] = True
    first = made.nodules().findings[0]
    return made.request(replace(made.nodules(), findings=(replace(first, segment=Segment(mask)),)))


REQUESTS: dict[str, Callable[[], EncodeRequest]] = {
    "nodules, rule-based": lambda: made.request(made.nodules()),
    "nodules, trained": lambda: made.request(made.nodules(trained=True), made.TRAINED),
    "comprehensive SR": with_axes_turned,
    "organs that overlap": lambda: made.request(made.organs()),
    "lesions and organs": lesions_and_organs,
    "report only": report_only,
    "organs, report only": organs_without_segmentation,
    "nothing found, rule-based": lambda: made.request(NOTHING),
    "nothing found, trained": nothing_trained,
    "triage": lambda: made.request(made.triage()),
    "triage, undetermined": lambda: made.request(made.triage(None)),
    "triage beside nodules": lambda: made.request(
        replace(made.nodules(), assessment=made.triage().assessment)
    ),
    "a crescent and an island": crescent,
    "radiograph, trained": made.radiograph_request,
    "radiograph, rule-based": lambda: made.radiograph_request(trained=False),
    "radiograph without outline": lambda: made.radiograph_request(outlined=False),
    "radiograph, rule-based, no outline": lambda: made.radiograph_request(
        outlined=False, trained=False
    ),
    "radiograph, nothing, trained": lambda: made.radiograph_request(found=False),
    "radiograph, nothing, rule-based": lambda: made.radiograph_request(found=False, trained=False),
}


@pytest.fixture(params=sorted(REQUESTS), scope="module")
def request_made(request: pytest.FixtureRequest) -> EncodeRequest:
    return REQUESTS[request.param]()


@pytest.fixture(scope="module")
def objects(request_made: EncodeRequest) -> list[EncodedObject]:
    return encode(request_made)


@pytest.fixture
def files(
    request_made: EncodeRequest, objects: list[EncodedObject], tmp_path: Path
) -> made.Written:
    return made.written(objects, request_made.source.datasets, tmp_path)


def test_the_gate_finds_nothing(files: made.Written) -> None:
    assert check(files.result_files, files.source_files) == []


@pytest.mark.peer
def test_the_independent_checker_finds_nothing(files: made.Written, checker: ModuleType) -> None:
    assert checker.check(str(files.source), str(files.results), strict=True) == []


def test_a_second_reader_reads_each_object(files: made.Written) -> None:
    for path in files.result_files:
        if path.stem == "seg":
            segmentation = highdicom.seg.segread(path)
            assert segmentation.number_of_segments >= 1
        else:
            assert highdicom.sr.srread(path).content.get_subject_contexts() == []


def test_two_runs_give_the_same_bytes(
    request_made: EncodeRequest, objects: list[EncodedObject]
) -> None:
    again = encode(request_made)
    assert [o.to_bytes() for o in again] == [o.to_bytes() for o in objects]


def test_masks_come_back_voxel_by_voxel(tmp_path: Path) -> None:
    objects = encode(made.request(made.organs()))
    files = made.written(objects, made.ct(), tmp_path)
    segmentation = highdicom.seg.segread(files.results / "seg.dcm")
    uids = [image.SOPInstanceUID for image in made.ct()]
    pixels = segmentation.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True, ignore_spatial_locations=True
    )
    for place, segment in enumerate(made.organs().segments):
        expected = segment.on_grid(made.SHAPE)
        assert np.array_equal(pixels[..., place].astype(bool), expected)


@pytest.mark.peer
def test_a_superseding_set_names_what_it_replaces(tmp_path: Path, checker: ModuleType) -> None:
    old = encode(made.request(made.nodules()))
    older = made.written(old, made.ct(), tmp_path / "old")
    reference = made.predecessor(old[-1])
    new = encode(made.request(made.nodules(), key="set two", predecessors=(reference,)))
    newer = made.written(new, made.ct(), tmp_path / "new")
    wanted = Predecessor(
        reference.study_instance_uid,
        reference.series_instance_uid,
        reference.sop_class_uid,
        reference.sop_instance_uid,
    )
    assert check(newer.result_files, newer.source_files, predecessors=[wanted]) == []
    found = check(older.result_files, older.source_files, predecessors=[wanted])
    assert {v.rule for v in found} == {"sr.predecessors", "set.unique"}
    assert (
        checker.check(
            str(newer.source), str(newer.results), previous=str(older.results), strict=True
        )
        == []
    )


@pytest.mark.peer
def test_a_status_report_says_that_nothing_succeeded(tmp_path: Path, checker: ModuleType) -> None:
    objects = encode_status(made.status_request())
    files = made.written(objects, made.ct(), tmp_path)
    assert check(files.result_files, files.source_files) == []
    assert checker.check(str(files.source), str(files.results), strict=True) == []
    assert files.result_files[0].stem == "sr"


def test_no_status_report_where_no_peer_wants_one() -> None:
    assert encode_status(made.status_request(form=Form())) == []


def test_an_enhanced_source_is_named_by_frame(tmp_path: Path) -> None:
    request = made.enhanced_request()
    objects = encode(request)
    files = made.written(objects, request.source.datasets, tmp_path)
    assert check(files.result_files, files.source_files) == []
    segmentation = made.reread(objects)["SEG"]
    named = [
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for item in segmentation.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(named) == [4, 5]


def test_an_enhanced_source_comes_through_the_loader(tmp_path: Path) -> None:
    path = data.save(data.enhanced_ct(frames=6), tmp_path / "source" / "enhanced.dcm")
    loaded = load([path], "volume")
    assert isinstance(loaded, Loaded)
    asked = replace(made.enhanced_request(), source=loaded.source, volume=loaded.input)
    files = made.written(encode(asked), [], tmp_path)
    assert check(files.result_files, loaded.source.paths) == []


def per_frame_only(source: Dataset) -> None:
    """Tell orientation and pixel measures in each frame, and have no shared group at all."""
    (shared,) = source.SharedFunctionalGroupsSequence
    for group in source.PerFrameFunctionalGroupsSequence:
        group.PlaneOrientationSequence = shared.PlaneOrientationSequence
        group.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del source.SharedFunctionalGroupsSequence


def shared_without_spacing(source: Dataset) -> None:
    """Tell pixel measures in each frame, without a thickness; orientation stays shared."""
    (shared,) = source.SharedFunctionalGroupsSequence
    del shared.PixelMeasuresSequence[0].SliceThickness
    for group in source.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PixelMeasuresSequence


@pytest.mark.parametrize("told", [per_frame_only, shared_without_spacing])
def test_an_enhanced_source_may_tell_its_grid_in_each_frame(
    told: Callable[[Dataset], None], tmp_path: Path
) -> None:
    source = data.enhanced_ct(frames=6)
    told(source)
    loaded = load([data.save(source, tmp_path / "source" / "enhanced.dcm")], "volume")
    assert isinstance(loaded, Loaded)
    asked = replace(made.enhanced_request(), source=loaded.source, volume=loaded.input)
    files = made.written(encode(asked), [], tmp_path)
    assert check(files.result_files, loaded.source.paths) == []
    assert len({o.to_bytes() for _ in range(2) for o in encode(asked)}) == 2  # source is unchanged


def test_cosines_and_spacings_may_differ_by_rounding(tmp_path: Path) -> None:
    source = made.ct()
    for number, image in enumerate(source):
        image.ImageOrientationPatient = [1, 0, number * 1e-5, 0, 1, 0]
        image.PixelSpacing = [1.25 + number * 3e-5, 1.25]
    loaded = load(data.save_all(source, tmp_path / "source"), "volume")
    assert isinstance(loaded, Loaded)
    request = made.request(made.nodules(), source=loaded.source, volume=loaded.input)
    files = made.written(encode(request), [], tmp_path)
    assert check(files.result_files, loaded.source.paths) == []


@pytest.mark.parametrize(
    ("slices", "organization"), [((9,), None), ((9, 10), "3D"), ((2, 18), None)]
)
def test_spacing_between_slices_is_the_volumes_whichever_slices_have_voxels(
    slices: tuple[int, ...], organization: str | None, tmp_path: Path
) -> None:
    mask = np.zeros(made.SHAPE, dtype=bool)
    mask[list(slices)] = made.ball((9, 30, 18), 5.0)[9]
    lesion = replace(made.nodules().findings[0], segment=Segment(mask))
    objects = encode(made.request(Findings("One", (lesion,), sought=(NODULE,))))
    files = made.written(objects, made.ct(), tmp_path)
    assert check(files.result_files, files.source_files) == []
    segmentation = made.reread(objects)["SEG"]
    (measures,) = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert float(measures.SpacingBetweenSlices) == 2.5
    assert segmentation.get("DimensionOrganizationType") == organization


@pytest.mark.parametrize("urgency", [Urgency.HIGHLY_SIGNIFICANT, Urgency.SIGNIFICANT])
def test_a_sign_without_a_place_is_present_with_its_urgency(urgency: Urgency) -> None:
    report = made.reread(encode(made.request(made.triage(urgency))))["SR"]
    assert report.CompletionFlag == "COMPLETE"
    words = " ".join(str(element.value) for element in report.iterall())
    assert urgency.value.capitalize() in words
    assert "Left pleural effusion of 450 mL" in words
    assert "rule-based, no probability" in words
    assert "Undetermined" in words


def test_another_key_gives_other_uids_and_nothing_random() -> None:
    one = encode(made.request(made.nodules()))
    two = encode(made.request(made.nodules(), key="another"))
    assert not {o.sop_instance_uid for o in one} & {o.sop_instance_uid for o in two}
    assert not {o.series_instance_uid for o in one} & {o.series_instance_uid for o in two}


def test_a_series_number_of_the_source_is_left_to_it() -> None:
    source = SourceSeries(tuple(made.ct(series_number=9001)), is_volume=True)
    objects = encode(made.request(made.nodules(), source=source))
    assert [int(o.data_set.SeriesNumber) for o in objects] == [9011, 9002]


def test_mr_has_no_attenuation(tmp_path: Path) -> None:
    source = data.mr_series(slices=8)
    volume = replace(
        made.ct_volume(),
        array=(data.body_slices(8, 32, 32) + 1100.0).clip(0).astype(np.float32),
        spacing=(4.0, 1.0, 1.0),
        origin=(-16.0, -16.0, 0.0),
        unit="1",
    )
    mask = np.zeros((2, 3, 4), dtype=bool)
    mask[:] = True
    finding = replace(made.nodules().findings[0], segment=Segment(mask, offset=(3, 14, 8)))
    request = made.request(
        Findings("One", (finding,)), source=SourceSeries(tuple(source), True), volume=volume
    )
    objects = encode(request)
    files = made.written(objects, source, tmp_path)
    assert check(files.result_files, files.source_files) == []
    assert "Attenuation" not in str(made.reread(objects)["SR"])


def test_a_report_with_a_private_code_says_whose_scheme_that_is() -> None:
    private = Code("spot-count", "99DICOMNODE", "Number of rounded opacities")
    sign = Sign(MASS, "A mass.", (Measurement(private, 3.0, "1"),))
    found = replace(made.triage(), assessment=Assessment(Urgency.SIGNIFICANT, (sign,)))
    (with_private,) = encode(made.request(found))
    (without,) = encode(made.request(made.triage()))
    (scheme,) = with_private.data_set.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99DICOMNODE"
    assert "CodingSchemeIdentificationSequence" not in without.data_set
