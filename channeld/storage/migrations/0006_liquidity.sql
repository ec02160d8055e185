-- Never edited once released; what changes later is a file of its own.

-- What our payments have taught of channels' balances (`routing.liquidity.Belief`); amounts as of `storage.store.wide`.
CREATE TABLE beliefs (
    channel  BLOB PRIMARY KEY,
    capacity BLOB,                     -- NULL: unknown, of a hint
    least    BLOB NOT NULL,
    most     BLOB,                     -- NULL: no bound
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
