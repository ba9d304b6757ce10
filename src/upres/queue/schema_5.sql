-- Version 5: how much of a task's time does not grow with its length.

ALTER TABLE throughput ADD COLUMN overhead_s REAL;  -- NULL: not told apart; in rows of older programs too
