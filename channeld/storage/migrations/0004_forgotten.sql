-- Never edited once released; what changes later is a file of its own.

-- A channel that nobody has paid into and in which nothing was signed may be forgotten: agreeing on one costs a stranger
-- a message only (node.unpaid). Any other is kept for good.
DROP TRIGGER channels_are_kept;
CREATE TRIGGER channels_are_kept BEFORE DELETE ON channels
WHEN old.phase NOT IN ('OPENING', 'FROZEN') OR old.recovering <> 0
  OR EXISTS (SELECT 1 FROM signed WHERE channel = old.id)
BEGIN SELECT raise(ABORT, 'a channel is never forgotten'); END;
