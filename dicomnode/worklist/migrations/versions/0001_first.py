"""Every table of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def exact(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:  # noqa: PLR0915  one statement for each table and index
    op.create_table(
        "associations",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("process_id", Id, nullable=True),
        sa.Column("peer", sa.String(length=64), nullable=True),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("contexts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("object_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refused_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("byte_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_associations")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_associations_open",
        "associations",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_associations_opened", "associations", ["opened_at", "id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.String(length=48), nullable=False),
        sa.Column("study_id", Id, nullable=True),
        sa.Column("job_id", Id, nullable=True),
        sa.Column("delivery_id", Id, nullable=True),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_study", "events", ["study_id", "id"], unique=False)
    op.create_index("ix_events_what", "events", ["what", "at", "id"], unique=False)
    op.create_table(
        "node",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
    )
    op.create_table(
        "peers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("suspended", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("suspended_by", sa.String(length=64), nullable=True),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("down", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("down_since_at", sa.BigInteger(), nullable=True),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("back_off", sa.Integer(), server_default="0", nullable=False),
        sa.Column("echoed_at", sa.BigInteger(), nullable=True),
        sa.Column("last_in_at", sa.BigInteger(), nullable=True),
        sa.Column("last_out_at", sa.BigInteger(), nullable=True),
        sa.Column("accepts", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_peers")),
    )
    op.create_table(
        "pipelines",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("broken", sa.Text(), nullable=True),
        sa.Column("match", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("select", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("takes", sa.String(length=16), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("weights", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("described_at", sa.BigInteger(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=True),
        sa.Column("suspended_by", sa.String(length=64), nullable=True),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("mode", sa.String(length=8), nullable=True),
        sa.Column("priority", sa.String(length=8), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pipelines")),
    )
    op.create_table(
        "processes",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=True),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("now", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_processes_kind", "processes", ["kind", "heartbeat_at"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.String(length=48), nullable=False),
        sa.Column("parameters", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("association_id", Id, nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("sop_instance_uid", exact(64), nullable=True),
        sa.Column("study_instance_uid", exact(64), nullable=True),
        sa.Column("study_id", Id, nullable=True),
        sa.Column("arrival", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_quarantine_path", "quarantine", ["path"], unique=False)
    op.create_index("ix_quarantine_state", "quarantine", ["state", "at", "id"], unique=False)
    op.create_table(
        "studies",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("study_instance_uid", exact(64), nullable=False),
        sa.Column("identity", exact(400), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer_of_patient_id", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_birth_date", sa.String(length=16), nullable=False),
        sa.Column("patient_sex", sa.String(length=16), nullable=False),
        sa.Column("patient_id_key", exact(64), nullable=False),
        sa.Column("patient_name_key", exact(200), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("accession_key", exact(64), nullable=False),
        sa.Column("study_date", sa.String(length=16), nullable=False),
        sa.Column("study_description", sa.Text(), nullable=False),
        sa.Column("modalities", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=8), server_default="source", nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), server_default="", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("waiting_code", sa.String(length=48), nullable=True),
        sa.Column("waiting_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("routed_generation", sa.Integer(), server_default="0", nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("first_received_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("last_received_at", sa.BigInteger(), nullable=False),
        sa.Column("last_event_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("completed_by", sa.String(length=16), nullable=True),
        sa.Column("by_hand", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("expected_count", sa.Integer(), nullable=True),
        sa.Column("expected_seen", sa.Integer(), server_default="0", nullable=False),
        sa.Column("expected_asked_at", sa.BigInteger(), nullable=True),
        sa.Column("expected_reason", sa.String(length=48), nullable=True),
        sa.Column("hold", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_studies_study_instance_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_studies_accession", "studies", ["accession_key", "id"], unique=False)
    op.create_index(
        "ix_studies_due",
        "studies",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("state = 'receiving'"),
        postgresql_where=sa.text("state = 'receiving'"),
    )
    op.create_index("ix_studies_event", "studies", ["last_event_at", "id"], unique=False)
    op.create_index(
        "ix_studies_modalities", "studies", ["modalities", "last_received_at", "id"], unique=False
    )
    op.create_index(
        "ix_studies_outcome", "studies", ["outcome", "last_received_at", "id"], unique=False
    )
    op.create_index("ix_studies_patient_id", "studies", ["patient_id_key", "id"], unique=False)
    op.create_index("ix_studies_patient_name", "studies", ["patient_name_key", "id"], unique=False)
    op.create_index("ix_studies_peer", "studies", ["peer", "last_received_at", "id"], unique=False)
    op.create_index(
        "ix_studies_purgeable",
        "studies",
        ["last_event_at", "id"],
        unique=False,
        sqlite_where=sa.text("purged_at IS NULL AND state = 'complete'"),
        postgresql_where=sa.text("purged_at IS NULL AND state = 'complete'"),
    )
    op.create_index(
        "ix_studies_reason", "studies", ["reason_code", "last_received_at", "id"], unique=False
    )
    op.create_index("ix_studies_received", "studies", ["last_received_at", "id"], unique=False)
    op.create_index(
        "ix_studies_unrouted",
        "studies",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'complete' AND routed_generation < generation"),
        postgresql_where=sa.text("state = 'complete' AND routed_generation < generation"),
    )
    op.create_table(
        "users",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "looks",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_looks_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_looks")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_looks_study", "looks", ["study_id", "at"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.Column("series_instance_uid", exact(64), nullable=False),
        sa.Column("modality", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=8), server_default="source", nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("series_description", sa.Text(), nullable=False),
        sa.Column("body_part_examined", sa.String(length=64), nullable=False),
        sa.Column("instance_count", sa.Integer(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("attributes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("first_received_at", sa.BigInteger(), nullable=False),
        sa.Column("last_received_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_series_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("series_instance_uid", name=op.f("uq_series_series_instance_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_series_study_id", "series", ["study_id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("scope", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "instances",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.Column("series_id", Id, nullable=False),
        sa.Column("sop_instance_uid", exact(64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=8), server_default="source", nullable=False),
        sa.Column("study_instance_uid", exact(64), nullable=False),
        sa.Column("series_instance_uid", exact(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("is_image", sa.Boolean(), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("association_id", Id, nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("header", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_instances_series_id_series")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_instances_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instances")),
        sa.UniqueConstraint(
            "sop_instance_uid", "revision", name=op.f("uq_instances_sop_instance_uid_revision")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_instances_association", "instances", ["association_id", "study_id"], unique=False
    )
    op.create_index("ix_instances_path", "instances", ["path"], unique=False)
    op.create_index(
        "ix_instances_pending",
        "instances",
        ["study_id", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index("ix_instances_series", "instances", ["series_id"], unique=False)
    op.create_index("ix_instances_study", "instances", ["study_id", "series_id"], unique=False)
    op.create_index(
        "uq_instances_current",
        "instances",
        ["sop_instance_uid"],
        unique=True,
        sqlite_where=sa.text("state = 'current'"),
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.Column("series_id", Id, nullable=True),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("line", exact(300), nullable=False),
        sa.Column("key", exact(64), nullable=False),
        sa.Column("run", sa.Integer(), server_default="0", nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("weights", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("inputs", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("input_count", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_leases", sa.Integer(), server_default="0", nullable=False),
        sa.Column("device", sa.String(length=32), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("progress", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("stage_times", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("checks", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.Column("finding_count", sa.Integer(), nullable=True),
        sa.Column("segment_count", sa.Integer(), nullable=True),
        sa.Column("urgency", sa.String(length=24), nullable=True),
        sa.Column("is_current", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("superseded_by", Id, nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_jobs_series_id_series")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_jobs_study_id_studies")
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by"], ["jobs.id"], name=op.f("fk_jobs_superseded_by_jobs")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("key", name=op.f("uq_jobs_key")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_claim",
        "jobs",
        ["state", "priority", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_jobs_held",
        "jobs",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text("state = 'held'"),
        postgresql_where=sa.text("state = 'held'"),
    )
    op.create_index(
        "ix_jobs_lease",
        "jobs",
        ["state", "lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("ix_jobs_line", "jobs", ["line", "id"], unique=False)
    op.create_index("ix_jobs_pipeline", "jobs", ["pipeline", "state", "finished_at"], unique=False)
    op.create_index("ix_jobs_series", "jobs", ["series_id"], unique=False)
    op.create_index("ix_jobs_state", "jobs", ["state", "created_at", "id"], unique=False)
    op.create_index("ix_jobs_study", "jobs", ["study_id"], unique=False)
    op.create_index("ix_jobs_superseded_by", "jobs", ["superseded_by"], unique=False)
    op.create_index(
        "uq_jobs_current_line",
        "jobs",
        ["line"],
        unique=True,
        sqlite_where=sa.text("is_current"),
        postgresql_where=sa.text("is_current"),
    )
    op.create_index(
        "uq_jobs_open_line",
        "jobs",
        ["line"],
        unique=True,
        sqlite_where=sa.text("state IN ('held','queued','running')"),
        postgresql_where=sa.text("state IN ('held','queued','running')"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("job_id", Id, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.Column("line", exact(300), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("form", exact(64), nullable=False),
        sa.Column("after_id", Id, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_leases", sa.Integer(), server_default="0", nullable=False),
        sa.Column("begun", sa.Boolean(), server_default=sa.text("(false)"), nullable=False),
        sa.Column("objects", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("confirm_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["after_id"], ["deliveries.id"], name=op.f("fk_deliveries_after_id_deliveries")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_deliveries_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_deliveries_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("job_id", "peer", name=op.f("uq_deliveries_job_id_peer")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_after", "deliveries", ["after_id"], unique=False)
    op.create_index(
        "ix_deliveries_claim",
        "deliveries",
        ["state", "peer", "priority", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_deliveries_confirm",
        "deliveries",
        ["state", "peer", "confirm_at"],
        unique=False,
        sqlite_where=sa.text("state = 'sent' AND confirm_at IS NOT NULL"),
        postgresql_where=sa.text("state = 'sent' AND confirm_at IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_lease",
        "deliveries",
        ["state", "lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'sending'"),
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index("ix_deliveries_line", "deliveries", ["line", "peer", "id"], unique=False)
    op.create_index(
        "ix_deliveries_state", "deliveries", ["state", "created_at", "id"], unique=False
    )
    op.create_index("ix_deliveries_study", "deliveries", ["study_id"], unique=False)
    op.create_table(
        "notifications",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("study_id", Id, nullable=True),
        sa.Column("job_id", Id, nullable=True),
        sa.Column("what", sa.String(length=48), nullable=False),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_leases", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_notifications_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_notifications_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_notifications_claim",
        "notifications",
        ["state", "priority", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("ix_notifications_job", "notifications", ["job_id"], unique=False)
    op.create_index(
        "ix_notifications_lease",
        "notifications",
        ["state", "lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'sending'"),
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_index("ix_notifications_study", "notifications", ["study_id"], unique=False)
    op.create_table(
        "results",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("job_id", Id, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("form", exact(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", exact(64), nullable=False),
        sa.Column("series_instance_uid", exact(64), nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("checks", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("purged_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_results_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_results_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_results_sop_instance_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_results_job", "results", ["job_id"], unique=False)
    op.create_index(
        "ix_results_kept",
        "results",
        ["created_at", "id"],
        unique=False,
        sqlite_where=sa.text("purged_at IS NULL"),
        postgresql_where=sa.text("purged_at IS NULL"),
    )
    op.create_index("ix_results_path", "results", ["path"], unique=False)
    op.create_index("ix_results_study", "results", ["study_id"], unique=False)
    op.create_table(
        "routes",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("study_id", Id, nullable=False),
        sa.Column("series_id", Id, nullable=True),
        sa.Column("pipeline", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("trace", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("job_id", Id, nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_routes_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_routes_series_id_series")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["studies.id"], name=op.f("fk_routes_study_id_studies")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routes")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_routes_due",
        "routes",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("decision = 'waiting'"),
        postgresql_where=sa.text("decision = 'waiting'"),
    )
    op.create_index("ix_routes_job", "routes", ["job_id"], unique=False)
    op.create_index("ix_routes_series", "routes", ["series_id"], unique=False)
    op.create_index("ix_routes_study", "routes", ["study_id", "pipeline"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("job_id", Id, nullable=True),
        sa.Column("delivery_id", Id, nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("stage_times", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("device", sa.String(length=32), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.id"], name=op.f("fk_attempts_delivery_id_deliveries")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempts_delivery", "attempts", ["delivery_id"], unique=False)
    op.create_index("ix_attempts_job", "attempts", ["job_id"], unique=False)
    op.create_table(
        "commitments",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("transaction_uid", exact(64), nullable=False),
        sa.Column("delivery_id", Id, nullable=True),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("asked_by_us", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("objects", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("reason_code", sa.String(length=48), nullable=True),
        sa.Column("reason_parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lost_leases", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.id"], name=op.f("fk_commitments_delivery_id_deliveries")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitments")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_commitments_transaction_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_commitments_delivery", "commitments", ["delivery_id"], unique=False)
    op.create_index("ix_commitments_state", "commitments", ["state", "due_at"], unique=False)


def downgrade() -> None:
    op.drop_table("commitments")
    op.drop_table("attempts")
    op.drop_table("routes")
    op.drop_table("results")
    op.drop_table("notifications")
    op.drop_table("deliveries")
    op.drop_table("jobs")
    op.drop_table("instances")
    op.drop_table("tokens")
    op.drop_table("series")
    op.drop_table("looks")
    op.drop_table("users")
    op.drop_table("studies")
    op.drop_table("quarantine")
    op.drop_table("processes")
    op.drop_table("pipelines")
    op.drop_table("peers")
    op.drop_table("node")
    op.drop_table("events")
    op.drop_table("associations")
