"""The worklist's tables: the node's only memory.

Times are integer milliseconds since the epoch, UTC (suffix ``_at``). Columns that hold states take
the values of `dicomnode.rules.states`; a ``reason`` is a code of `dicomnode.rules.reasons` and its
parameters as JSON. ``*_key`` columns are what is searched by: NFKC, case-folded, ``^`` and ``=`` as
spaces. Text that a peer sent is stored as it was decoded and cleaned where it is shown.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# None is SQL's NULL, not the text null.
Data = JSON(none_as_null=True)

# SQLite counts rows by INTEGER PRIMARY KEY only; PostgreSQL wants BIGINT.
Id = BigInteger().with_variant(Integer(), "sqlite")


def Exact(length: int) -> String:  # noqa: N802  reads as a column type
    """Text that both engines order byte by byte, so that prefix ranges use the index."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _rows(name: str, *parts: SchemaItem) -> Table:
    """Give a table whose rows are numbered, no number ever twice, not after a delete either."""
    number = Column("id", Id, primary_key=True, autoincrement=True)
    return Table(name, metadata, number, *parts, sqlite_autoincrement=True)


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Give an index over some rows; SQLite uses it only where a query says the same text.

    It begins with the state where the table has another index that does: SQLite took that one
    else, and sorted all that it found.
    """
    return Index(
        name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where)
    )


def _link(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), nullable=nullable)


def _at(name: str, *, nullable: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _reason() -> tuple[Column[str], Column[object]]:
    return Column("reason_code", String(48)), Column("reason_parameters", Data)


def _lease() -> tuple[Column[object], ...]:
    """Columns of a row that is claimed: see `dicomnode.worklist.claims`."""
    return (
        Column("priority", SmallInteger, nullable=False, server_default="1"),
        Column("due_at", BigInteger, nullable=False),
        Column("lease_owner", String(64)),
        Column("lease_until", BigInteger),
        Column("fence", BigInteger, nullable=False, server_default="0"),
        Column("tries", Integer, nullable=False, server_default="0"),
        Column("lost_leases", Integer, nullable=False, server_default="0"),
    )


node = Table(
    "node",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("node_id", String(36), nullable=False),
    _at("created_at", nullable=False),
)

studies = _rows(
    "studies",
    Column("study_instance_uid", Exact(64), nullable=False, unique=True),
    # Patient = Patient ID and Issuer; both empty: name and birth date. `identity` is that, as text.
    Column("identity", Exact(400), nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("issuer_of_patient_id", Text, nullable=False),
    Column("patient_name", Text, nullable=False),
    Column("patient_birth_date", String(16), nullable=False),
    Column("patient_sex", String(16), nullable=False),
    Column("patient_id_key", Exact(64), nullable=False),
    Column("patient_name_key", Exact(200), nullable=False),
    Column("accession_number", Text, nullable=False),
    Column("accession_key", Exact(64), nullable=False),
    Column("study_date", String(16), nullable=False),
    Column("study_description", Text, nullable=False),
    Column("modalities", String(64), nullable=False),  # sorted, separated by one space
    Column("role", String(8), nullable=False, server_default="source"),
    Column("peer", String(64), nullable=False),  # name of the peer that sent last
    Column("called_ae_title", String(16), nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    *_reason(),  # of the worst thing in it
    # What `complete` waits for, until that comes or more images do.
    Column("waiting_code", String(48)),
    Column("waiting_parameters", Data),
    Column("priority", SmallInteger, nullable=False, server_default="1"),
    Column("generation", Integer, nullable=False),
    Column("routed_generation", Integer, nullable=False, server_default="0"),
    # Of others' objects, not of our own that came back; images are those with pixels.
    Column("instance_count", Integer, nullable=False),
    Column("image_count", Integer, nullable=False),
    Column("byte_count", BigInteger, nullable=False),
    _at("first_received_at", nullable=False),
    _at("opened_at", nullable=False),  # first image since it was opened, or opened again
    _at("last_received_at", nullable=False),
    _at("last_event_at", nullable=False),
    _at("due_at"),  # when `complete` looks next
    _at("completed_at"),
    Column("completed_by", String(16)),  # quiet, count, limit, longest, hand
    Column("by_hand", Boolean, nullable=False, server_default=text("false")),  # asked for, not yet
    Column("expected_count", Integer),  # what a PACS last said it has
    Column("expected_seen", Integer, nullable=False, server_default="0"),  # times it was reached
    _at("expected_asked_at"),
    Column("expected_reason", String(48)),  # why the count is not known
    Column("hold", Boolean, nullable=False, server_default=text("false")),  # never purged
    _at("purged_at"),  # its images were purged
    Index("ix_studies_received", "last_received_at", "id"),
    Index("ix_studies_outcome", "outcome", "last_received_at", "id"),
    Index("ix_studies_reason", "reason_code", "last_received_at", "id"),
    Index("ix_studies_modalities", "modalities", "last_received_at", "id"),
    Index("ix_studies_peer", "peer", "last_received_at", "id"),
    _partial("ix_studies_due", "due_at", where="state = 'receiving'"),
    _partial(
        "ix_studies_purgeable",
        "last_event_at",
        "id",
        where="purged_at IS NULL AND state = 'complete'",
    ),
    Index("ix_studies_patient_id", "patient_id_key", "id"),
    Index("ix_studies_patient_name", "patient_name_key", "id"),
    Index("ix_studies_accession", "accession_key", "id"),
    Index("ix_studies_event", "last_event_at", "id"),
    _partial(
        "ix_studies_unrouted", "id", where="state = 'complete' AND routed_generation < generation"
    ),
)

series = _rows(
    "series",
    _link("study_id", "studies"),
    Column("series_instance_uid", Exact(64), nullable=False, unique=True),
    Column("modality", String(16), nullable=False),
    Column("role", String(8), nullable=False, server_default="source"),
    Column("series_number", Integer),
    Column("series_description", Text, nullable=False),
    Column("body_part_examined", String(64), nullable=False),
    Column("instance_count", Integer, nullable=False),
    Column("image_count", Integer, nullable=False),
    # Attributes of the first image by keyword, values as lists of text: what rules match on.
    Column("attributes", Data, nullable=False),
    # What pipelines found out about it, by name.
    Column("facts", Data, nullable=False),
    _at("first_received_at", nullable=False),
    _at("last_received_at", nullable=False),
    Index("ix_series_study_id", "study_id"),
)

instances = _rows(
    "instances",
    _link("study_id", "studies"),
    _link("series_id", "series"),
    Column("sop_instance_uid", Exact(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("role", String(8), nullable=False, server_default="source"),
    Column("study_instance_uid", Exact(64), nullable=False),
    Column("series_instance_uid", Exact(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("path", Text, nullable=False),  # below `in`
    Column("byte_count", BigInteger, nullable=False),  # of the file
    Column("digest", String(64), nullable=False),  # SHA-256 of the data set's bytes as received
    Column("is_image", Boolean, nullable=False),
    Column("peer", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("association_id", Id),
    _at("received_at", nullable=False),
    # Identity and geometry as `dicomnode.dicom.headers.Header` reads them.
    Column("header", Data, nullable=False),
    _at("purged_at"),
    UniqueConstraint("sop_instance_uid", "revision"),
    Index("ix_instances_study", "study_id", "series_id"),
    Index("ix_instances_series", "series_id"),
    Index("ix_instances_path", "path"),
    Index("ix_instances_association", "association_id", "study_id"),
    _partial("ix_instances_pending", "study_id", "id", where="state = 'pending'"),
    _partial("uq_instances_current", "sop_instance_uid", where="state = 'current'", unique=True),
)

jobs = _rows(
    "jobs",
    _link("study_id", "studies"),
    _link("series_id", "series", nullable=True),  # of the only or first input series
    Column("pipeline", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("mode", String(8), nullable=False),
    Column("line", Exact(300), nullable=False),
    Column("key", Exact(64), nullable=False, unique=True),
    Column("run", Integer, nullable=False, server_default="0"),
    Column("settings", Data, nullable=False),
    Column("weights", Data, nullable=False),  # bundle -> digest
    Column("inputs", Data, nullable=False),  # ids of instances, series by series
    Column("input_count", Integer, nullable=False),
    Column("generation", Integer, nullable=False),  # of the study when it was made
    Column("state", String(16), nullable=False),
    *_reason(),
    *_lease(),
    Column("device", String(32)),
    Column("stage", String(16)),  # load, analyse, encode, check, store
    Column("progress", SmallInteger, nullable=False, server_default="0"),  # percent
    Column("stage_times", Data),  # seconds by stage, of the last attempt
    Column("checks", Data),  # what the gate said of the last attempt
    Column("summary", Text),  # the pipeline's own sentence
    Column("finding_count", Integer),
    Column("segment_count", Integer),
    Column("urgency", String(24)),
    Column("is_current", Boolean, nullable=False, server_default=text("false")),
    _link("superseded_by", "jobs", nullable=True),
    _at("created_at", nullable=False),
    _at("started_at"),
    _at("finished_at"),
    Index("ix_jobs_study", "study_id"),
    Index("ix_jobs_series", "series_id"),
    Index("ix_jobs_superseded_by", "superseded_by"),
    Index("ix_jobs_line", "line", "id"),
    _partial("ix_jobs_claim", "state", "priority", "due_at", "id", where="state = 'queued'"),
    _partial("ix_jobs_held", "state", "due_at", where="state = 'held'"),
    _partial("ix_jobs_lease", "state", "lease_until", where="state = 'running'"),
    Index("ix_jobs_state", "state", "created_at", "id"),
    Index("ix_jobs_pipeline", "pipeline", "state", "finished_at"),
    _partial(
        "uq_jobs_open_line", "line", where="state IN ('held','queued','running')", unique=True
    ),
    _partial("uq_jobs_current_line", "line", where="is_current", unique=True),
)

routes = _rows(
    "routes",
    _link("study_id", "studies"),
    _link("series_id", "series", nullable=True),
    Column("pipeline", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("decision", String(16), nullable=False),
    *_reason(),
    Column("trace", Data, nullable=False),  # rule by rule: keyword, found, wanted, ok
    _link("job_id", "jobs", nullable=True),
    _at("due_at"),
    _at("decided_at", nullable=False),
    Index("ix_routes_study", "study_id", "pipeline"),
    Index("ix_routes_series", "series_id"),
    Index("ix_routes_job", "job_id"),
    _partial("ix_routes_due", "due_at", where="decision = 'waiting'"),
)

attempts = _rows(
    "attempts",
    _link("job_id", "jobs", nullable=True),
    Column("delivery_id", Id, ForeignKey("deliveries.id")),
    Column("number", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner", String(64), nullable=False),
    _at("started_at", nullable=False),
    _at("ended_at"),
    Column("stage_times", Data),
    Column("device", String(32)),
    Column("outcome", String(16)),  # the state it led to, "retry", "lost", "drained"
    *_reason(),
    Index("ix_attempts_job", "job_id"),
    Index("ix_attempts_delivery", "delivery_id"),
)

results = _rows(
    "results",
    _link("job_id", "jobs"),
    _link("study_id", "studies"),
    Column("kind", String(8), nullable=False),  # of `dicomnode.rules.states.ResultKind`
    Column("form", Exact(64), nullable=False),
    Column("number", Integer, nullable=False),  # order in which it is sent
    Column("sop_class_uid", String(64), nullable=False),
    Column("sop_instance_uid", Exact(64), nullable=False, unique=True),
    Column("series_instance_uid", Exact(64), nullable=False),
    Column("series_number", Integer),
    Column("path", Text, nullable=False),  # below `out`
    Column("byte_count", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("checks", Data, nullable=False),  # {"passed": n, "failed": 0}
    _at("created_at", nullable=False),
    _at("purged_at"),
    Index("ix_results_job", "job_id"),
    Index("ix_results_study", "study_id"),
    Index("ix_results_path", "path"),
    _partial("ix_results_kept", "created_at", "id", where="purged_at IS NULL"),
)

deliveries = _rows(
    "deliveries",
    _link("job_id", "jobs"),
    _link("study_id", "studies"),
    Column("line", Exact(300), nullable=False),
    Column("peer", String(64), nullable=False),
    Column("form", Exact(64), nullable=False),
    _link("after_id", "deliveries", nullable=True),
    Column("state", String(16), nullable=False),
    *_reason(),
    *_lease(),
    # Something of it stands at the peer, or may: it is a predecessor, and it is withdrawn only
    # where it failed and a newer set arrived.
    Column("begun", Boolean, nullable=False, server_default=text("false")),
    # One entry per result in order: see `dicomnode.worklist.deliveries.ObjectStatus`.
    Column("objects", Data, nullable=False),
    _at("created_at", nullable=False),
    _at("sent_at"),
    _at("confirm_at"),  # when the peer is asked next whether it keeps them; none: never
    _at("finished_at"),
    UniqueConstraint("job_id", "peer"),
    Index("ix_deliveries_study", "study_id"),
    Index("ix_deliveries_after", "after_id"),
    Index("ix_deliveries_line", "line", "peer", "id"),
    _partial(
        "ix_deliveries_claim", "state", "peer", "priority", "due_at", "id", where="state = 'queued'"
    ),
    _partial("ix_deliveries_lease", "state", "lease_until", where="state = 'sending'"),
    _partial(
        "ix_deliveries_confirm",
        "state",
        "peer",
        "confirm_at",
        where="state = 'sent' AND confirm_at IS NOT NULL",
    ),
    Index("ix_deliveries_state", "state", "created_at", "id"),
)

commitments = _rows(
    "commitments",
    Column("transaction_uid", Exact(64), nullable=False, unique=True),
    _link("delivery_id", "deliveries", nullable=True),
    Column("peer", String(64), nullable=False),
    Column("asked_by_us", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("objects", Data, nullable=False),
    *_reason(),
    *_lease(),
    _at("created_at", nullable=False),
    _at("answered_at"),
    Index("ix_commitments_state", "state", "due_at"),
    Index("ix_commitments_delivery", "delivery_id"),
)

notifications = _rows(
    "notifications",
    Column("channel", String(16), nullable=False),  # log, webhook
    Column("target", String(64), nullable=False),  # its name in the TOML
    _link("study_id", "studies", nullable=True),
    _link("job_id", "jobs", nullable=True),
    Column("what", String(48), nullable=False),
    Column("body", Data, nullable=False),
    Column("state", String(16), nullable=False),
    *_reason(),
    *_lease(),
    _at("created_at", nullable=False),
    _at("finished_at"),
    Index("ix_notifications_study", "study_id"),
    Index("ix_notifications_job", "job_id"),
    _partial(
        "ix_notifications_claim", "state", "priority", "due_at", "id", where="state = 'queued'"
    ),
    _partial("ix_notifications_lease", "state", "lease_until", where="state = 'sending'"),
)

events = _rows(
    "events",
    _at("at", nullable=False),
    Column("what", String(48), nullable=False),
    # No foreign keys: what happened outlives the rows that it happened to.
    Column("study_id", Id),
    Column("job_id", Id),
    Column("delivery_id", Id),
    Column("actor", String(64), nullable=False),
    *_reason(),
    Column("data", Data),
    Index("ix_events_study", "study_id", "id"),
    Index("ix_events_what", "what", "at", "id"),
)

quarantine = _rows(
    "quarantine",
    _at("at", nullable=False),
    Column("why", String(48), nullable=False),  # code of the catalogue
    Column("parameters", Data, nullable=False),
    Column("peer", String(64), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("association_id", Id),
    Column("path", Text),  # below `in`; none where nothing could be kept
    Column("byte_count", BigInteger, nullable=False),
    Column("digest", String(64)),
    Column("sop_instance_uid", Exact(64)),
    Column("study_instance_uid", Exact(64)),
    Column("study_id", Id),  # the study that it collides with
    Column("arrival", Data),  # as `dicomnode.worklist.instances.Arrival`; none where unreadable
    Column("state", String(16), nullable=False),  # held, released, deleted
    _at("settled_at"),
    Index("ix_quarantine_state", "state", "at", "id"),
    Index("ix_quarantine_path", "path"),
)

users = _rows(
    "users",
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", Text),
    Column("enabled", Boolean, nullable=False),
    _at("created_at", nullable=False),
    _at("last_seen_at"),
)

tokens = _rows(
    "tokens",
    _link("user_id", "users"),
    Column("digest", String(64), nullable=False, unique=True),
    Column("purpose", String(16), nullable=False),
    Column("scope", Data),
    _at("created_at", nullable=False),
    _at("expires_at", nullable=False),
)

looks = _rows(
    "looks",
    _at("at", nullable=False),
    _link("user_id", "users"),
    Column("study_id", Id, nullable=False),
    Index("ix_looks_study", "study_id", "at"),
)

associations = _rows(
    "associations",
    Column("process_id", Id),
    Column("peer", String(64)),  # name in the TOML, none for a stranger
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("accepted", Boolean, nullable=False),
    *_reason(),  # why it was refused or cut
    # Presentation contexts: abstract syntax, proposed transfer syntaxes, accepted one or reason.
    Column("contexts", Data, nullable=False),
    Column("object_count", Integer, nullable=False, server_default="0"),
    Column("refused_count", Integer, nullable=False, server_default="0"),
    Column("byte_count", BigInteger, nullable=False, server_default="0"),
    _at("opened_at", nullable=False),
    _at("last_at", nullable=False),
    _at("closed_at"),
    Index("ix_associations_opened", "opened_at", "id"),
    _partial("ix_associations_open", "id", where="state = 'open'"),
)

processes = _rows(
    "processes",
    Column("kind", String(16), nullable=False),  # receive, dispatch, work, deliver, web, serve
    Column("name", String(64), nullable=False),
    Column("host", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", String(32)),
    Column("version", String(32), nullable=False),
    _at("started_at", nullable=False),
    _at("heartbeat_at", nullable=False),
    Column("now", Text, nullable=False),
    _at("ended_at"),
    Index("ix_processes_kind", "kind", "heartbeat_at"),
)

peers = Table(
    "peers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("suspended", Boolean, nullable=False, server_default=text("false")),
    Column("suspended_by", String(64)),
    _at("suspended_at"),
    Column("down", Boolean, nullable=False, server_default=text("false")),
    *_reason(),  # what it last answered or did not
    _at("down_since_at"),
    _at("next_try_at"),
    Column("back_off", Integer, nullable=False, server_default="0"),  # failures in a row
    _at("echoed_at"),
    _at("last_in_at"),
    _at("last_out_at"),
    # What the peer accepted when last asked: presentation contexts by SOP class.
    Column("accepts", Data),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("broken", Text),  # why it could not be loaded
    Column("match", Data, nullable=False),
    Column("select", Data, nullable=False),
    Column("takes", String(16), nullable=False),  # volume, images, either, volumes
    Column("settings", Data, nullable=False),  # effective
    Column("weights", Data, nullable=False),  # bundle -> digest
    Column("described_at", BigInteger, nullable=False),
    # What an admin switched; null follows the TOML.
    Column("suspended", Boolean),
    Column("suspended_by", String(64)),
    _at("suspended_at"),
    Column("mode", String(8)),
    Column("priority", String(8)),
)
