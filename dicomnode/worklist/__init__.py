"""The worklist: the node's only memory, on SQLite or PostgreSQL by the same statements.

Every function takes a connection first and plain values after; what comes back is frozen. A
function that changes rows is called inside ``with worklist.write() as tx`` (or through
``worklist.transact``), one unit of work at a time, without files or network inside. Whatever moves
a job, a delivery or an instance locks the study's row first (the functions here do); a write of a
claimed row carries its fence and raises `LeaseLostError` where that was raised by another.

==================  ================================================================================
`database`          `Worklist`: ``open(url, now=, password=)``, ``upgrade()``, ``check()``,
                    ``write()``, ``read()``, ``transact(fn)``, ``now()``, ``node_id``,
                    ``wait(timeout_s, *channels)``, ``wake(tx, channel)``, ``ring()``,
                    ``optimise()``, ``close()``
`engines`           the two engines and their settings; `versions` the migrations
`signals`           `Channel`, `wake`
`schema`, `rows`    the tables; rows as values; `keys` what is searched by
`claims`            the statements behind every claim and guarded move
`arrivals`          `Arrival`, `Taken`
`instances`         `take_in`, `get`, `of_ids`, `of_series`, `of_study`; `intake` its parts
`revisions`         `next_pending`, `settle_pending`
`reconciliation`    `known_names`, `named_files`, `report_missing`, `restore`
`studies`           `get`, `find`, `lock`, `refresh_outcome`, `hold`, `set_priority`,
                    `complete_by_hand`, `unrouted`, `mark_routed`, `unroute`, `waiting_on`,
                    `refresh_waiting`; those of `completion` by the same name
`completion`        `due`, `completeness`, `complete`, `wait_for`, `expect`, `look_at`
`outcomes`          `refresh_outcome`, `standing`
`series`            `of_study`, `get`, `add_facts`
`jobs`              `NewJob`, `create`, `analysed`, `get`, `of_study`, `cancel`, `retry`,
                    `reprocess`, `set_priority`, `queue_ahead`
`work`              a worker's side: `claim_next`, `heartbeat`, `retry_later`, `release`,
                    `is_held`, `tend`, `free_expired`, `promote_held`, `release_owner`
`ends`              `JobEnd`, `NewResult`, `finish`
`results`           `of_job`, `of_study`, `of_ids`, `known_paths`, `is_ours`
`deliveries`        `NewDelivery`, `ObjectStatus`, `predecessors`, `get`, `of_study`, `of_job`,
                    `resend`, `stored_count`, `open_peers`, `waiting_count`
`sending`           a sender's side: `claim_next`, `heartbeat`, `record`, `finish`, `retry_later`,
                    `release`, `claim_confirmation`, `confirm`, `free_expired`, `release_owner`
`attempts`          `of_jobs`, `of_deliveries`
`routes`            `NewRoute`, `replace`, `of_study`, `due`
`notifications`     `NewNotification`, `create`, `claim_next`, `finish`, `retry_later`
`commitments`       `NewCommitment`, `ask`, `find`, `settle`, `overdue`
`quarantine`        `NewQuarantine`, `put`, `get`, `listed`, `count`, `delete`
`release`           `release`: out of quarantine into its study
`events`            `Act`, `Subject`, `add`, `of_study`, `after`, `newest`
`associations`      `NewAssociation`, `open_one`, `progress`, `close`, `lose_open`, `recent`
`processes`         `NewProcess`, `register`, `heartbeat`, `end`, `alive`, `silent`, `of_host`
`peers`             `get`, `all_of`, `suspend`, `resume`, `try_now`, `failed`, `answered`,
                    `echoed`, `seen_in`
`pipelines`         `Description`, `describe`, `get`, `all_of`, `suspend`, `resume`, `set_mode`,
                    `set_priority`
`accounts`          users, tokens, looks
`search`            `Filters`, `list_studies`, `find_studies`, `counts`, `list_jobs`
`story`             `of_study`: one study with everything below it; `why` it is waiting
`retention`         `purgeable`, `purge_images`, `purge_results`, `delete_study`
==================  ================================================================================
"""

from dicomnode.worklist.database import Worklist

__all__ = ["Worklist"]
