-- Version 3: who watches a worker, and what its device did wrong.

ALTER TABLE workers ADD COLUMN keeper_pid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN drain INTEGER NOT NULL DEFAULT 0;  -- exit after the present task: a newer Upres takes over

-- Each time a slot's worker was ended by its device, stood still, or could not be started.
CREATE TABLE faults (
  slot    TEXT NOT NULL,
  task_id TEXT,                                -- what it ran then
  what    TEXT NOT NULL,
  at      REAL NOT NULL
) STRICT;

CREATE INDEX faults_recent ON faults (slot, at DESC);
