"""Measurement groups of TID 1500: volumetric (1411), planar (1410) and of a whole image (1501).

A lesion gets two groups with one tracking UID: the volumetric one ties the numbers to its segment,
the planar one is what viewers draw. A group without an outline whose tracking UID no outlined
group shares makes common viewers open the whole report black, so no such group may stand beside
outlines.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from highdicom import sr
from pydicom.dataset import Dataset

from dicomnode.dicom import codes
from dicomnode.dicom.objects.concepts import concept, unit
from dicomnode.dicom.objects.items import Drawn, Item
from dicomnode.dicom.objects.request import SetRequest
from dicomnode.dicom.objects.statements import ImageGroup, likelihood
from dicomnode.dicom.uids import derived_uid
from dicomnode.errors import EncodingError
from dicomnode.sdk import Code, Laterality, Measurement

Group = (
    sr.VolumetricROIMeasurementsAndQualitativeEvaluations
    | sr.PlanarROIMeasurementsAndQualitativeEvaluations
    | sr.MeasurementsAndQualitativeEvaluations
)
# Below this a number with three decimals would lose its leading digits.
_SMALL = 0.1


class Groups:
    """Builds the groups of one report; ``headers`` are the clean headers of its source."""

    def __init__(
        self, request: SetRequest, headers: Sequence[Dataset], segmentation: Dataset | None
    ) -> None:
        self._request = request
        self._headers = headers
        self._segmentation = segmentation
        self._algorithm = sr.AlgorithmIdentification(
            name=request.algorithm.name, version=request.algorithm.version
        )

    def placed(self, items: Iterable[Item]) -> list[Group]:
        """Give the groups of everything that lies somewhere, in order."""
        placed = [item for item in items if item.is_placed]
        outlines_wanted = any(item.is_lesion for item in placed)
        groups: list[Group] = []
        number = 0
        for item in placed:
            if item.segment is not None:
                number += 1
            if item.segment is not None and self._segmentation is not None:
                groups.append(self._volumetric(item, number))
            if outlines_wanted:
                groups.append(self._planar(item))
            elif self._segmentation is None:
                groups.append(self._unsegmented(item))
        return groups

    def unplaced(self, groups: Iterable[ImageGroup]) -> list[Group]:
        """Give one group per statement that has no place, naming the middle image."""
        middle = self._count() // 2
        return [
            sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=self._tracking(
                    derived_uid(self._request.key, "group", str(n)), group.label
                ),
                finding_type=concept(group.finding),
                algorithm_id=self._algorithm,
                measurements=self._numbers(group.probability, group.measurements) or None,
                qualitative_evaluations=(
                    [_quality(group.finding, group.status)] if group.status else None
                ),
                source_images=[sr.SourceImageForMeasurementGroup(*self._reference(middle))],
            )
            for n, group in enumerate(groups, 1)
        ]

    def _count(self) -> int:
        frames = self._request.source.frame_numbers
        return len(self._headers) if frames is None else len(frames)

    def _reference(self, place: int) -> tuple[str, str, list[int] | None]:
        """SOP class, SOP instance and frame (of a multi-frame source) of one slice or image."""
        frames = self._request.source.frame_numbers
        header = self._headers[place if frames is None else 0]
        frame = None if frames is None else [frames[place]]
        return str(header.SOPClassUID), str(header.SOPInstanceUID), frame

    def _tracking(self, tracking_uid: str, label: str) -> sr.TrackingIdentifier:
        return sr.TrackingIdentifier(tracking_uid, label)

    def _volumetric(self, item: Item, number: int) -> Group:
        assert item.measured is not None
        assert self._segmentation is not None
        reference = sr.ReferencedSegment(
            self._segmentation.SOPClassUID,
            self._segmentation.SOPInstanceUID,
            number,
            source_images=[
                sr.SourceImageForSegmentation(*self._reference(z)) for z in self._named(item)
            ],
        )
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=reference,
            measurements=self._volumetric_numbers(item),
            qualitative_evaluations=_qualities(item.qualities),
            **self._shared(item),
        )

    def _named(self, item: Item) -> tuple[int, ...]:
        """Slices that a volumetric group names: all of a lesion, the largest one of an organ."""
        assert item.measured is not None
        return item.measured.slices if item.is_lesion else (item.measured.key_slice,)

    def _planar(self, item: Item) -> Group:
        assert item.drawn is not None
        numbers = self._axes(item)
        qualities = item.qualities
        if item.measured is None:
            numbers += self._numbers(item.probability, item.measurements)
            qualities = ((item.type, likelihood(item.probability)), *qualities)
        elif self._segmentation is None:
            numbers = self._volumetric_numbers(item) + numbers
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=self._region(item.drawn),
            measurements=numbers or None,
            qualitative_evaluations=_qualities(qualities) if item.is_lesion else None,
            **self._shared(item),
        )

    def _unsegmented(self, item: Item) -> Group:
        """Give an organ's numbers where the peer takes no segmentation; names the largest slice."""
        assert item.drawn is not None
        return sr.MeasurementsAndQualitativeEvaluations(
            measurements=self._volumetric_numbers(item),
            source_images=[sr.SourceImageForMeasurementGroup(*self._reference(item.drawn.image))],
            **self._shared(item),
        )

    def _region(self, drawn: Drawn) -> sr.ImageRegion:
        return sr.ImageRegion(
            "POLYLINE", drawn.points, sr.SourceImageForRegion(*self._reference(drawn.image))
        )

    def _shared(self, item: Item) -> dict[str, Any]:
        return {
            "tracking_identifier": self._tracking(item.tracking_uid, item.tracking_id),
            "finding_type": concept(item.type),
            "finding_category": concept(item.category),
            "finding_sites": [_site(item.site, item.laterality)],
            "algorithm_id": self._algorithm,
        }

    def _volumetric_numbers(self, item: Item) -> list[sr.Measurement]:
        size = item.measured
        assert size is not None
        volume = (
            (size.volume_mm3, codes.CUBIC_MILLIMETRE)
            if item.is_lesion
            else (size.volume_mm3 / 1000, codes.CUBIC_CENTIMETRE)
        )
        numbers = [self._number(codes.VOLUME, volume[0], volume[1].value)]
        if size.mean is not None:
            numbers.append(
                self._number(codes.ATTENUATION, size.mean, codes.HOUNSFIELD.value, codes.MEAN)
            )
        return numbers + self._numbers(item.probability, item.measurements)

    def _axes(self, item: Item) -> list[sr.Measurement]:
        size = item.measured
        if size is None or size.long_axis_mm is None or size.short_axis_mm is None:
            return []
        return [
            self._number(codes.LONG_AXIS, size.long_axis_mm, "mm"),
            self._number(codes.SHORT_AXIS, size.short_axis_mm, "mm"),
        ]

    def _numbers(
        self, probability: float | None, measurements: Sequence[Measurement]
    ) -> list[sr.Measurement]:
        numbers = [self._number(m.name, m.value, m.unit) for m in measurements]
        if probability is not None:
            numbers.append(self._number(codes.PROBABILITY, probability, codes.NO_UNIT.value))
        return numbers

    def _number(
        self, name: Code, value: float, unit_code: str, derivation: Code | None = None
    ) -> sr.Measurement:
        number = float(value)
        if not -1e12 < number < 1e12:
            raise EncodingError(f"{name.meaning} is {value}, which is no measurement.")
        return sr.Measurement(
            name=concept(name),
            value=float(f"{number:.4g}") if 0 < abs(number) < _SMALL else round(number, 3),
            unit=unit(unit_code),
            algorithm_id=self._algorithm,
            derivation=concept(derivation) if derivation else None,
        )


def _site(site: Code, side: Laterality | None) -> sr.FindingSite:
    return sr.FindingSite(concept(site), laterality=concept(codes.SIDES[side]) if side else None)


def _quality(name: Code, value: Code) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(concept(name), concept(value))


def _qualities(
    pairs: Sequence[tuple[Code, Code]],
) -> list[sr.QualitativeEvaluation] | None:
    return [_quality(name, value) for name, value in pairs] or None
