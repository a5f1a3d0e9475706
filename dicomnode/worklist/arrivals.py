"""An object that came in, as the worklist takes it, and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from dicomnode.rules.reasons import Reason
from dicomnode.rules.states import Role
from dicomnode.worklist.keys import storable


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An object that stands in the storage folder and has no row yet.

    ``identity`` is the patient as one text (Patient ID and issuer; both empty: name and birth
    date); ``header`` and ``attributes`` are JSON data. ``is_own`` says that the object names this
    node as its maker; that its UID stands in `results` is found out here.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    byte_count: int
    digest: str
    identity: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_description: str = ""
    modality: str = ""
    series_number: int | None = None
    series_description: str = ""
    body_part_examined: str = ""
    is_image: bool = True
    is_own: bool = False
    role: Role = Role.SOURCE
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    peer: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    association_id: int | None = None

    def storable(self) -> "Arrival":
        """Give the arrival with text that both engines store: no NUL, no half surrogates."""
        cut = {"peer": 64, "calling_ae_title": 16, "called_ae_title": 16}
        changed: dict[str, Any] = {
            part.name: storable(value)[: cut.get(part.name)]
            for part in fields(self)
            if isinstance(value := getattr(self, part.name), str) and part.name != "role"
        }
        return replace(self, **changed)

    def to_data(self) -> dict[str, Any]:
        """Give the arrival as JSON data, for quarantine."""
        data = {part.name: getattr(self, part.name) for part in fields(self)}
        attributes = {keyword: list(values) for keyword, values in self.attributes.items()}
        return {**data, "attributes": attributes, "header": dict(self.header)}

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> "Arrival":
        """Give the arrival that `to_data` wrote."""
        return cls(**{**data, "role": Role(data["role"])})


class TakenKind(StrEnum):
    """What became of an arrival."""

    NEW = "new"
    SAME = "same"
    PENDING = "pending"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an arrival; all kinds are answered with success.

    ``keeps_file`` is False where the row that was there has its own file, which ``standing`` names
    where it is to hold the same bytes: if it does, delete the arrival's, else
    `reconciliation.restore`.
    """

    kind: TakenKind
    keeps_file: bool
    reason: Reason | None = None
    study_id: int | None = None
    instance_id: int | None = None
    quarantine_id: int | None = None
    standing: str | None = None
