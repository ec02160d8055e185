-- Never edited once released; what changes later is a file of its own.

-- A random word that the file beside the database says too (storage.place): an ordinary copy does not bring it along.
ALTER TABLE owner ADD COLUMN token BLOB NOT NULL DEFAULT x'';

-- Answers that are kept for good: asked again, the same would move money again. All that were kept before are.
ALTER TABLE asked ADD COLUMN lasts INTEGER NOT NULL DEFAULT 1 CHECK (lasts IN (0, 1));

-- In recovery an outcome may have been decided while we did not look: `unknown` claims neither. The only thing that can
-- still follow is a preimage, which proves that it was paid.
DROP TRIGGER attempts_known_new;
DROP TRIGGER attempts_known;
DROP TRIGGER attempts_one_way;
CREATE TRIGGER attempts_known_new BEFORE INSERT ON attempts
WHEN new.state NOT IN ('offered', 'fulfilled', 'returned', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER attempts_known BEFORE UPDATE OF state ON attempts
WHEN new.state NOT IN ('offered', 'fulfilled', 'returned', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER attempts_one_way BEFORE UPDATE OF state ON attempts
WHEN old.state <> 'offered' AND new.state <> old.state AND NOT (old.state = 'unknown' AND new.state = 'fulfilled')
BEGIN SELECT raise(ABORT, 'an attempt has one outcome'); END;

DROP TRIGGER transfers_known_new;
DROP TRIGGER transfers_known;
CREATE TRIGGER transfers_known_new BEFORE INSERT ON transfers
WHEN new.state NOT IN ('pending', 'succeeded', 'failed', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER transfers_known BEFORE UPDATE OF state ON transfers
WHEN new.state NOT IN ('pending', 'succeeded', 'failed', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;

DROP TRIGGER payments_known_new;
DROP TRIGGER payments_known;
DROP TRIGGER payments_one_way;
CREATE TRIGGER payments_known_new BEFORE INSERT ON payments
WHEN new.state NOT IN ('pending', 'succeeded', 'failed', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER payments_known BEFORE UPDATE OF state ON payments
WHEN new.state NOT IN ('pending', 'succeeded', 'failed', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER payments_one_way BEFORE UPDATE OF state ON payments
WHEN old.state <> 'pending' AND new.state <> old.state AND NOT (old.state = 'unknown' AND new.state = 'succeeded')
BEGIN SELECT raise(ABORT, 'a payment has one outcome'); END;
