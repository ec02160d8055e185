-- Never edited once released; what changes later is a file of its own.

-- Gossip is told in the order in which it was learned, a page at a time from wherever the asker stands (node.answering).
CREATE INDEX gossip_learned ON gossip (kind, at, key);
