-- Never edited once released; what changes later is a file of its own.

-- What a payment costs must not grow with those before it: an index over random names has each new row on a page of its
-- own. What is kept, why and for how long: .adr/0017-what-is-kept.md.

-- Transfers, their ids first: those that a node makes are in the order of time, so a new one lands where the last did,
-- and one is found by its id alone.
CREATE TABLE transfers_by_id (
    n         INTEGER PRIMARY KEY,
    channel   BLOB NOT NULL,
    id        BLOB NOT NULL,
    outgoing  INTEGER NOT NULL,
    amount    BLOB NOT NULL,
    state     TEXT NOT NULL,           -- pending, succeeded, failed, unknown
    version   INTEGER NOT NULL DEFAULT 0,
    receipt   BLOB NOT NULL DEFAULT x'',
    at        INTEGER NOT NULL,
    settled_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (id, channel, outgoing)
) STRICT;
INSERT INTO transfers_by_id (n, channel, id, outgoing, amount, state, version, receipt, at, settled_at)
SELECT n, channel, id, outgoing, amount, state, version, receipt, at, settled_at FROM transfers ORDER BY n;
DROP TABLE transfers;
ALTER TABLE transfers_by_id RENAME TO transfers;
CREATE TRIGGER transfers_one_way BEFORE UPDATE OF state ON transfers
WHEN old.state <> 'pending' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'a transfer has one outcome'); END;
CREATE TRIGGER transfers_known_new BEFORE INSERT ON transfers
WHEN new.state NOT IN ('pending', 'succeeded', 'failed', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER transfers_known BEFORE UPDATE OF state ON transfers
WHEN new.state NOT IN ('pending', 'succeeded', 'failed', 'unknown')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER transfers_are_kept BEFORE DELETE ON transfers
BEGIN SELECT raise(ABORT, 'a transfer is never forgotten'); END;

-- Only what is still open is looked for by other than its name.
DROP INDEX attempts_hash;
CREATE INDEX attempts_open ON attempts (hash) WHERE state = 'offered';
CREATE INDEX payments_open ON payments (n) WHERE state = 'pending';
CREATE INDEX invoices_open ON invoices (expires) WHERE state = 'open';
CREATE INDEX invoices_paid ON invoices (paid_at, n) WHERE state = 'paid';

-- Each preimage is kept once: with the payment that it proves, with the invoice that it paid, else in `preimages`.
-- Wherever it stands it stands for good.
CREATE VIEW known (key, preimage) AS
SELECT key, preimage FROM preimages
UNION ALL SELECT hash, preimage FROM payments WHERE preimage <> x''
UNION ALL SELECT hash, preimage FROM invoices WHERE state = 'paid';
CREATE TRIGGER payments_keep_their_proof BEFORE UPDATE OF hash, preimage ON payments
WHEN old.preimage <> x'' AND (new.hash <> old.hash OR new.preimage <> old.preimage)
BEGIN SELECT raise(ABORT, 'a preimage is known for good'); END;
CREATE TRIGGER payments_with_proof_are_kept BEFORE DELETE ON payments WHEN old.preimage <> x''
BEGIN SELECT raise(ABORT, 'a preimage is known for good'); END;
CREATE TRIGGER invoices_keep_their_preimage BEFORE UPDATE OF hash, preimage ON invoices
WHEN new.hash <> old.hash OR new.preimage <> old.preimage
BEGIN SELECT raise(ABORT, 'a preimage is known for good'); END;

-- What may go after a while (node.pruning): a lock that was given back is over once it cannot stand upstream any more.
CREATE INDEX forwards_returned ON forwards (at) WHERE state = 'returned';
DROP TRIGGER forwards_are_kept;
CREATE TRIGGER forwards_are_kept BEFORE DELETE ON forwards WHEN old.state <> 'returned'
BEGIN SELECT raise(ABORT, 'a forward is never forgotten'); END;
