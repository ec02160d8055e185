-- Never edited once released; what changes later is a file of its own.

-- Who may write: each start raises the epoch, and each transaction asks whether it is still its own (storage.sqlite).
-- `place`: where the file stood when it was last opened (storage.place), so that a copy is told from the original.
CREATE TABLE owner (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    place BLOB NOT NULL
) STRICT;
INSERT INTO owner VALUES (1, 0, x'');
CREATE TRIGGER owner_only_grows BEFORE UPDATE ON owner WHEN new.epoch <= old.epoch
BEGIN SELECT raise(ABORT, 'the owner''s epoch only grows'); END;
CREATE TRIGGER owner_is_kept BEFORE DELETE ON owner
BEGIN SELECT raise(ABORT, 'there is always an owner'); END;

-- What the saved channel says of itself, where the database can see it. Filled in from `saved` by storage.sqlite.
ALTER TABLE channels ADD COLUMN phase TEXT NOT NULL DEFAULT 'OPENING';
ALTER TABLE channels ADD COLUMN recovering INTEGER NOT NULL DEFAULT 0;
-- SHA-256 of `saved`: a byte that has changed is noticed, even where any byte would be a channel.
ALTER TABLE channels ADD COLUMN sum BLOB NOT NULL DEFAULT x'';
CREATE TRIGGER channels_known_phase_new BEFORE INSERT ON channels
WHEN new.phase NOT IN ('OPENING', 'OPEN', 'FROZEN', 'CLOSING', 'SETTLED', 'CLOSED') OR new.recovering NOT IN (0, 1)
BEGIN SELECT raise(ABORT, 'no such phase'); END;
CREATE TRIGGER channels_known_phase BEFORE UPDATE ON channels
WHEN new.phase NOT IN ('OPENING', 'OPEN', 'FROZEN', 'CLOSING', 'SETTLED', 'CLOSED') OR new.recovering NOT IN (0, 1)
BEGIN SELECT raise(ABORT, 'no such phase'); END;
-- Only FROZEN and CLOSING may follow each other both ways: a reorg can take a close away (R16).
CREATE TRIGGER channels_one_way BEFORE UPDATE OF phase ON channels
WHEN CASE new.phase WHEN 'OPENING' THEN 0 WHEN 'OPEN' THEN 1 WHEN 'SETTLED' THEN 3 WHEN 'CLOSED' THEN 4 ELSE 2 END
   < CASE old.phase WHEN 'OPENING' THEN 0 WHEN 'OPEN' THEN 1 WHEN 'SETTLED' THEN 3 WHEN 'CLOSED' THEN 4 ELSE 2 END
BEGIN SELECT raise(ABORT, 'a channel does not go back'); END;
CREATE TRIGGER channels_recover_for_good BEFORE UPDATE OF recovering ON channels
WHEN new.recovering < old.recovering
BEGIN SELECT raise(ABORT, 'in recovery for good'); END;
CREATE TRIGGER channels_keep_their_name BEFORE UPDATE OF id ON channels WHEN new.id <> old.id
BEGIN SELECT raise(ABORT, 'a channel keeps its name'); END;
CREATE TRIGGER channels_are_kept BEFORE DELETE ON channels
BEGIN SELECT raise(ABORT, 'a channel is never forgotten'); END;
CREATE TRIGGER signed_keeps_its_channel BEFORE UPDATE OF channel ON signed WHEN new.channel <> old.channel
BEGIN SELECT raise(ABORT, 'what was signed is never forgotten'); END;

-- A known preimage makes failing impossible, durably.
CREATE TRIGGER preimages_stand BEFORE UPDATE ON preimages
BEGIN SELECT raise(ABORT, 'a preimage is known for good'); END;
CREATE TRIGGER preimages_are_kept BEFORE DELETE ON preimages
BEGIN SELECT raise(ABORT, 'a preimage is known for good'); END;

-- No status but those the program knows, and no way round a one-way status by deleting its row.
CREATE TRIGGER forwards_known_new BEFORE INSERT ON forwards WHEN new.state NOT IN ('offered', 'fulfilled', 'returned')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER forwards_known BEFORE UPDATE OF state ON forwards
WHEN new.state NOT IN ('offered', 'fulfilled', 'returned')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER forwards_are_kept BEFORE DELETE ON forwards
BEGIN SELECT raise(ABORT, 'a forward is never forgotten'); END;

CREATE TRIGGER attempts_known_new BEFORE INSERT ON attempts WHEN new.state NOT IN ('offered', 'fulfilled', 'returned')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER attempts_known BEFORE UPDATE OF state ON attempts
WHEN new.state NOT IN ('offered', 'fulfilled', 'returned')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER attempts_are_kept BEFORE DELETE ON attempts
BEGIN SELECT raise(ABORT, 'an attempt is never forgotten'); END;

CREATE TRIGGER transfers_known_new BEFORE INSERT ON transfers WHEN new.state NOT IN ('pending', 'succeeded', 'failed')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER transfers_known BEFORE UPDATE OF state ON transfers
WHEN new.state NOT IN ('pending', 'succeeded', 'failed')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER transfers_are_kept BEFORE DELETE ON transfers
BEGIN SELECT raise(ABORT, 'a transfer is never forgotten'); END;

CREATE TRIGGER invoices_known_new BEFORE INSERT ON invoices WHEN new.state NOT IN ('open', 'paid')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER invoices_known BEFORE UPDATE OF state ON invoices WHEN new.state NOT IN ('open', 'paid')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER invoices_are_kept BEFORE DELETE ON invoices WHEN old.state <> 'open'
BEGIN SELECT raise(ABORT, 'a paid invoice is never forgotten'); END;

CREATE TRIGGER payments_known_new BEFORE INSERT ON payments WHEN new.state NOT IN ('pending', 'succeeded', 'failed')
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER payments_known BEFORE UPDATE OF state ON payments
WHEN new.state NOT IN ('pending', 'succeeded', 'failed')
BEGIN SELECT raise(ABORT, 'no such state'); END;
-- One that failed may be asked for again: nothing was paid.
CREATE TRIGGER payments_are_kept BEFORE DELETE ON payments WHEN old.state <> 'failed'
BEGIN SELECT raise(ABORT, 'a payment is never forgotten'); END;

-- An intent of the sender: `open` is 1 until it is over. One that failed may begin anew, one that is buried is done.
-- Intents that were buried before this schema are 0 until they are saved again.
ALTER TABLE intents ADD COLUMN buried INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER intents_known_new BEFORE INSERT ON intents WHEN new.open NOT IN (0, 1) OR new.buried NOT IN (0, 1)
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER intents_known BEFORE UPDATE ON intents WHEN new.open NOT IN (0, 1) OR new.buried NOT IN (0, 1)
BEGIN SELECT raise(ABORT, 'no such state'); END;
CREATE TRIGGER intents_one_way BEFORE UPDATE ON intents WHEN old.buried = 1 AND (new.buried = 0 OR new.open = 1)
BEGIN SELECT raise(ABORT, 'what is done on chain is done once'); END;
CREATE TRIGGER intents_are_kept BEFORE DELETE ON intents
BEGIN SELECT raise(ABORT, 'an intent is never forgotten'); END;
