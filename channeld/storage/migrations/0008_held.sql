-- Never edited once released; what changes later is a file of its own.

-- Invoices whose preimage somebody else has (node.holding): open, then held once the whole set stands, then paid, with
-- the preimage, or canceled. Any open invoice can be canceled.
ALTER TABLE invoices ADD COLUMN hold INTEGER NOT NULL DEFAULT 0; -- seconds for which it can be held at least; 0: never is
DROP TRIGGER invoices_one_way;
CREATE TRIGGER invoices_one_way BEFORE UPDATE OF state ON invoices
WHEN new.state <> old.state AND old.state <> 'open' AND NOT (old.state = 'held' AND new.state IN ('paid', 'canceled'))
BEGIN SELECT raise(ABORT, 'an invoice has one outcome'); END;
DROP TRIGGER invoices_known_new;
DROP TRIGGER invoices_known;
CREATE TRIGGER invoices_known_new BEFORE INSERT ON invoices
WHEN new.state NOT IN ('open', 'held', 'paid', 'canceled')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER invoices_known BEFORE UPDATE OF state ON invoices
WHEN new.state NOT IN ('open', 'held', 'paid', 'canceled')
BEGIN SELECT raise(ABORT, 'no such state'); END;
DROP TRIGGER invoices_are_kept;
CREATE TRIGGER invoices_are_kept BEFORE DELETE ON invoices WHEN old.state NOT IN ('open', 'canceled')
BEGIN SELECT raise(ABORT, 'a paid invoice is never forgotten'); END;
DROP TRIGGER invoices_keep_their_preimage;
CREATE TRIGGER invoices_keep_their_preimage BEFORE UPDATE OF hash, preimage ON invoices
WHEN new.hash <> old.hash OR (new.preimage <> old.preimage AND old.preimage <> x'')
BEGIN SELECT raise(ABORT, 'a preimage is known for good'); END;
CREATE TRIGGER invoices_are_paid_by_preimage BEFORE UPDATE OF state, preimage ON invoices
WHEN new.state = 'paid' AND new.preimage = x''
BEGIN SELECT raise(ABORT, 'what is paid has its proof'); END;
CREATE INDEX invoices_held ON invoices (n) WHERE state = 'held';
CREATE INDEX invoices_canceled ON invoices (expires) WHERE state = 'canceled';

-- Payments without an invoice (node.keysend): their payer draws the preimage, and has it here before anything leaves.
-- It is no proof until the payee has taken a lock by it; then it stands in `preimage` as well.
ALTER TABLE payments ADD COLUMN drawn BLOB NOT NULL DEFAULT x'';
CREATE TRIGGER payments_keep_what_was_drawn BEFORE UPDATE OF drawn ON payments WHEN new.drawn <> old.drawn
BEGIN SELECT raise(ABORT, 'a payment is made with one preimage'); END;

-- What they were asked under is kept for good, so those that go have an index of their own (node.pruning).
CREATE INDEX asked_that_go ON asked (lasts) WHERE lasts = 0;
