-- Version 2: what submit learnt of the input.

ALTER TABLE tasks ADD COLUMN facts TEXT;  -- Facts, JSON; NULL in rows of older programs
