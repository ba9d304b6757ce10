-- The task store, version 1. States and arrows:
--   queued -> processing (claimed)            processing -> completed | failed | cancelled
--   queued -> cancelled                       processing -> queued (its worker died or was told to stop)

CREATE TABLE tasks (
  seq             INTEGER PRIMARY KEY AUTOINCREMENT,
  id              TEXT NOT NULL UNIQUE CHECK (length(id) = 8 AND id NOT GLOB '*[^0-9a-z]*'),
  idempotency_key TEXT UNIQUE,
  spec            TEXT NOT NULL,               -- TaskSpec, JSON
  kind            TEXT NOT NULL CHECK (kind IN ('image', 'video')),
  model           TEXT NOT NULL,
  frames          INTEGER NOT NULL,            -- of the input
  pixels          INTEGER NOT NULL,            -- of one output frame
  priority        INTEGER NOT NULL DEFAULT 0,  -- higher runs first
  state           TEXT NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
  attempt         INTEGER NOT NULL DEFAULT 0,  -- counted at claim, so a task that kills its worker is bounded
  token           INTEGER NOT NULL DEFAULT 0,  -- fencing: bumped at claim; a worker with an older one writes nothing
  slot            TEXT,                        -- whose worker runs it
  cancel          INTEGER NOT NULL DEFAULT 0,  -- asked for; read back by the heartbeat
  progress        TEXT NOT NULL DEFAULT '{}',  -- Progress, JSON
  created_at      REAL NOT NULL,
  started_at      REAL,
  heartbeat_at    REAL,
  completed_at    REAL,
  failure         TEXT,                        -- Failure, JSON
  result          TEXT,                        -- Result, JSON
  CHECK ((state = 'failed') = (failure IS NOT NULL)),
  CHECK ((state = 'completed') = (result IS NOT NULL)),
  CHECK ((state = 'processing') = (slot IS NOT NULL))
) STRICT;

CREATE INDEX tasks_waiting ON tasks (priority DESC, seq) WHERE state = 'queued';
CREATE INDEX tasks_ended ON tasks (completed_at DESC) WHERE completed_at IS NOT NULL;

CREATE TRIGGER tasks_arrows BEFORE UPDATE OF state ON tasks
WHEN old.state IS NOT new.state AND old.state || '>' || new.state NOT IN (
  'queued>processing', 'queued>cancelled', 'processing>completed', 'processing>failed',
  'processing>cancelled', 'processing>queued')
BEGIN
  SELECT RAISE(ABORT, 'this task state change is not allowed');
END;

-- One row a slot (a GPU, or the CPU). The slot's OS lock says whether a worker is alive; this row says what it does.
CREATE TABLE workers (
  slot          TEXT PRIMARY KEY,
  pid           INTEGER NOT NULL,
  version       TEXT NOT NULL,
  state         TEXT NOT NULL CHECK (state IN ('idle', 'loading', 'busy', 'exiting')),
  device        TEXT NOT NULL,
  model         TEXT,                          -- resident
  loading_model TEXT,
  wanted_model  TEXT,                          -- asked for by switch
  load_error    TEXT,                          -- Failure of the last wanted_model, JSON
  stop          INTEGER NOT NULL DEFAULT 0,    -- exit as soon as nothing is queued
  started_at    REAL NOT NULL
) STRICT;

-- What tasks really took: the source of every time estimate.
CREATE TABLE throughput (
  model   TEXT NOT NULL,
  device  TEXT NOT NULL,
  pixels  INTEGER NOT NULL,                    -- of one output frame
  frames  INTEGER NOT NULL,
  seconds REAL NOT NULL,
  at      REAL NOT NULL
) STRICT;

CREATE INDEX throughput_recent ON throughput (model, at DESC);
