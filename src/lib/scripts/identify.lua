#!lua flags=allow-oom
-- Which server this is: another one after a restart or a fail-over. Written as if it wrote, so that one that takes no writes does
-- not answer. And whether it was emptied since the oldest event that ingest keeps: one that has lost its end holds that, or at
-- least something from before. An entry need not be read for that as long as its progress is there: its body may be large.
--
-- KEYS: the streams, then the progress of that event, where it is known
-- ARGV: how many streams, then its Redis id, or '+' where it is not known, or nothing where nothing is kept
-- Returns {id of this run of the server, 1 where it was emptied (0|1)}
local count, id = tonumber(ARGV[1]), ARGV[2]

local function is_emptied()
  if not id or (#KEYS > count and redis.call('EXISTS', KEYS[#KEYS]) == 1) then return false end
  for i = 1, count do
    -- What was put in a stream's place is no stream, and something.
    local found = redis.pcall('XRANGE', KEYS[i], '-', id, 'COUNT', 1)
    if found.err or #found > 0 then return false end
  end
  return true
end

return { server_id(), is_emptied() and 1 or 0 }
