-- Version 4: what waits and runs, and how many tasks are in each state, is found without reading all that ever ended.
CREATE INDEX tasks_by_state ON tasks (state);
