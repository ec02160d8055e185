-- Never edited once released; what changes later is a file of its own.

-- Payments of ours to ourselves, from one channel to another (node.rebalancing). Payment and invoice of the same hash
-- stand in their own tables; the invoice was told to nobody.
CREATE TABLE rebalances (
    hash        BLOB PRIMARY KEY,
    out_channel BLOB NOT NULL,
    in_channel  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
