-- Never edited once released; what changes later is a file of its own.
-- Amounts and other wide integers are blobs of 16 big-endian bytes (SQLite's integers end at 63 bits).

CREATE TABLE channels (
    id      BLOB PRIMARY KEY,
    saved   BLOB NOT NULL              -- core.saved
) STRICT;

-- The highest version we ever signed, per channel: the last line against signing one version twice.
CREATE TABLE signed (
    channel BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    digest  BLOB NOT NULL
) STRICT;
CREATE TRIGGER signed_only_grows BEFORE UPDATE ON signed
WHEN new.version < old.version OR (new.version = old.version AND new.digest <> old.digest)
BEGIN SELECT raise(ABORT, 'a version would be signed twice'); END;
CREATE TRIGGER signed_is_kept BEFORE DELETE ON signed
BEGIN SELECT raise(ABORT, 'what was signed is never forgotten'); END;

-- Channels as they were agreed: the memo a deposit must carry, and what we mean to put in ourselves.
CREATE TABLE openings (
    id     BLOB PRIMARY KEY,           -- channel
    memo   BLOB NOT NULL,
    amount BLOB NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

-- Locks that arrived in `current` and await our decision; their onions are kept no longer.
CREATE TABLE arrivals (
    channel BLOB NOT NULL,
    lock    INTEGER NOT NULL,
    onion   BLOB NOT NULL,
    PRIMARY KEY (channel, lock)
) STRICT;

-- A lock that came in, tied to the one that went out.
CREATE TABLE forwards (
    in_channel  BLOB NOT NULL,
    in_lock     INTEGER NOT NULL,
    out_channel BLOB NOT NULL,
    out_lock    INTEGER NOT NULL,
    key         BLOB NOT NULL,
    amount_in   BLOB NOT NULL,
    amount_out  BLOB NOT NULL,
    secret      BLOB NOT NULL,         -- shared with the payer, to wrap an error
    state       TEXT NOT NULL,         -- offered, fulfilled, returned
    reason      BLOB NOT NULL DEFAULT x'',
    at          INTEGER NOT NULL,
    PRIMARY KEY (in_channel, in_lock)
) STRICT;
CREATE UNIQUE INDEX forwards_out ON forwards (out_channel, out_lock);
CREATE TRIGGER forwards_one_way BEFORE UPDATE OF state ON forwards
WHEN old.state <> 'offered' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'a forward has one outcome'); END;

CREATE TABLE preimages (
    key      BLOB PRIMARY KEY,
    preimage BLOB NOT NULL
) STRICT;

-- Direct transfers, each way.
CREATE TABLE transfers (
    n         INTEGER PRIMARY KEY,
    channel   BLOB NOT NULL,
    id        BLOB NOT NULL,
    outgoing  INTEGER NOT NULL,
    amount    BLOB NOT NULL,
    state     TEXT NOT NULL,           -- pending, succeeded, failed
    version   INTEGER NOT NULL DEFAULT 0,
    receipt   BLOB NOT NULL DEFAULT x'',
    at        INTEGER NOT NULL,
    settled_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (channel, id, outgoing)
) STRICT;
CREATE TRIGGER transfers_one_way BEFORE UPDATE OF state ON transfers
WHEN old.state <> 'pending' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'a transfer has one outcome'); END;

CREATE TABLE invoices (
    hash      BLOB PRIMARY KEY,
    n         INTEGER NOT NULL UNIQUE,
    preimage  BLOB NOT NULL,
    secret    BLOB NOT NULL,
    text      TEXT NOT NULL,
    token     BLOB NOT NULL,
    amount    BLOB,                    -- null: the payer chooses
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    state     TEXT NOT NULL,           -- open, paid
    received  BLOB,
    paid_at   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TRIGGER invoices_one_way BEFORE UPDATE OF state ON invoices
WHEN old.state <> 'open' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'an invoice is paid once'); END;

-- Locks that were claimed for an invoice of ours.
CREATE TABLE parts (
    channel BLOB NOT NULL,
    lock    INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    amount  BLOB NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (channel, lock)
) STRICT;

CREATE TABLE payments (
    hash      BLOB PRIMARY KEY,
    n         INTEGER NOT NULL UNIQUE,
    invoice   TEXT NOT NULL,
    token     BLOB NOT NULL,
    payee     BLOB NOT NULL,
    amount    BLOB NOT NULL,
    fee       BLOB NOT NULL,
    max_fee   BLOB NOT NULL,
    give_up   INTEGER NOT NULL,        -- no new attempt after this
    hops      INTEGER NOT NULL DEFAULT 0,
    state     TEXT NOT NULL,           -- pending, succeeded, failed
    preimage  BLOB NOT NULL DEFAULT x'',
    code      TEXT NOT NULL DEFAULT '',
    text      TEXT NOT NULL DEFAULT '',
    at        INTEGER NOT NULL,
    settled_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TRIGGER payments_one_way BEFORE UPDATE OF state ON payments
WHEN old.state <> 'pending' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'a payment has one outcome'); END;

CREATE TABLE attempts (
    channel BLOB NOT NULL,
    lock    INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    route   BLOB NOT NULL,             -- node.payments: hops and their shared secrets
    state   TEXT NOT NULL,             -- offered, fulfilled, returned
    reason  BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (channel, lock)
) STRICT;
CREATE INDEX attempts_hash ON attempts (hash);
CREATE TRIGGER attempts_one_way BEFORE UPDATE OF state ON attempts
WHEN old.state <> 'offered' AND new.state <> old.state
BEGIN SELECT raise(ABORT, 'an attempt has one outcome'); END;

-- What was asked under a caller's key, and the answer, so that asking again does nothing again.
CREATE TABLE asked (
    key     TEXT PRIMARY KEY,
    request TEXT NOT NULL,
    answer  TEXT NOT NULL
) STRICT;

CREATE TABLE intents (
    n     INTEGER PRIMARY KEY,
    key   TEXT NOT NULL UNIQUE,
    saved BLOB NOT NULL,
    open  INTEGER NOT NULL
) STRICT;

CREATE TABLE facts (                   -- of channels, from the chain, kept for showing
    channel BLOB NOT NULL,
    name    TEXT NOT NULL,
    value   BLOB NOT NULL,
    PRIMARY KEY (channel, name)
) STRICT;

CREATE TABLE notes (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;

CREATE TABLE peers (node BLOB PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL) STRICT;

CREATE TABLE towers (node BLOB PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, saved BLOB NOT NULL) STRICT;

CREATE TABLE receipts (
    tower   BLOB NOT NULL,
    channel BLOB NOT NULL,
    saved   BLOB NOT NULL,
    PRIMARY KEY (tower, channel)
) STRICT;

CREATE TABLE gossip (
    kind  INTEGER NOT NULL,
    key   BLOB NOT NULL,
    at    INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

CREATE TABLE events (
    n    INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    at   INTEGER NOT NULL,
    data TEXT NOT NULL
) STRICT;
