#!lua flags=allow-oom
-- Puts rebuilt states, and the position they were folded to, in the place of the live ones. A fold of the old states may be
-- under way in a worker that has lost its lease: it saves only from the position it has read. So the rebuilt position must
-- be beyond the live one, or nothing be left to fold. Without the lease a trim may have taken entries away unread.
--
-- KEYS: live position, rebuilt position, ids of the states to take over, lease, then the streams
-- ARGV: key prefix, name of the projection, owner of the lease, then the streams' names
-- Returns 1 when done, 0 where something must be folded first, -1 where the lease was lost
local prefix, name = ARGV[1], ARGV[2]
if redis.call('GET', KEYS[4]) ~= ARGV[3] then return -1 end
if redis.call('EXISTS', KEYS[2]) == 0 then return 1 end
local is_ahead, is_at_end = false, true
for i = 5, #KEYS do
  local rebuilt_at = redis.call('HGET', KEYS[2], ARGV[i - 1]) or '0-0'
  local live_at = redis.call('HGET', KEYS[1], ARGV[i - 1]) or '0-0'
  if is_after(live_at, rebuilt_at) then return 0 end
  if is_after(rebuilt_at, live_at) then is_ahead = true end
  local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
  if last and is_after(last[1], rebuilt_at) then is_at_end = false end
end
if not (is_ahead or is_at_end) then return 0 end
for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local rebuilt, live = prefix .. 'rebuild:' .. name .. ':' .. id, prefix .. name .. ':' .. id
  if redis.call('EXISTS', rebuilt) == 1 then redis.call('RENAME', rebuilt, live) else redis.call('DEL', live) end
end
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('DEL', KEYS[3])
return 1
