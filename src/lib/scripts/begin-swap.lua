#!lua flags=allow-oom
-- Begins to put rebuilt states in the place of the live ones. From now on nothing is folded into the live projection, nor is
-- what was begun before saved (`project.lua`), until all is swapped: readers find each state of before or of after, and
-- the position of before, from which they read the rest themselves. So the rebuilt one must have folded all that the
-- live one has. Without the lease, or where the checkpoint has moved, a trim may have taken entries away unread; in another
-- server the states that differ may not all have been found.
--
-- A former release knows nothing of swaps. What it has begun to fold it saves only from the position it has read: so the
-- rebuilt position must be beyond that, or nothing be left to fold. What it has not begun it leaves to a newer version.
--
-- KEYS: swaps, live position, rebuilt position, position of the checkpoint, lease, then the streams
-- ARGV: name of the projection, owner of the lease, id of the server, then for each stream its name and where the checkpoint
--       was in it
-- Returns 1 when begun, 0 where something must be folded first, -1 where something may be missing, -2 in another server
local NEWER_THAN_ALL = 'Infinity'
local name = ARGV[1]
if redis.call('GET', KEYS[5]) ~= ARGV[2] then return -1 end
-- Sent twice: it is begun, or over already.
if redis.call('EXISTS', KEYS[3]) == 0 or is_swapping(KEYS[1], name) then return 1 end
if server_id() ~= ARGV[3] then return -2 end
local is_ahead, is_at_end = false, true
for i = 6, #KEYS do
  local stream, trimmed_to = ARGV[4 + (i - 6) * 2], ARGV[5 + (i - 6) * 2]
  if (redis.call('HGET', KEYS[4], stream) or '0-0') ~= trimmed_to then return -1 end
  local live_at = redis.call('HGET', KEYS[2], stream) or '0-0'
  local rebuilt_at = redis.call('HGET', KEYS[3], stream) or '0-0'
  local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
  local has_more = last and is_after(last[1], rebuilt_at)
  if is_after(live_at, rebuilt_at) and has_more then return 0 end
  if is_after(rebuilt_at, live_at) then is_ahead = true end
  if has_more then is_at_end = false end
end
if not (is_ahead or is_at_end) then return 0 end
redis.call('HSET', KEYS[2], 'version', NEWER_THAN_ALL)
redis.call('HINCRBY', KEYS[1], name, 1)
return 1
