#!lua flags=allow-oom
-- Goes on with a swap that was begun: some of the rebuilt states take the place of the live ones, and after the last of them
-- the position does. Whoever finds a swap begun may go on with it, as often as it likes.
--
-- KEYS: swaps, live position, rebuilt position, ids of the states to take over
-- ARGV: key prefix, name of the projection
-- Returns how many states are left, -1 where no swap is under way any more
local prefix, name = ARGV[1], ARGV[2]
if not is_swapping(KEYS[1], name) then return -1 end
local ids = redis.call('ZRANGE', KEYS[4], 0, PART - 1)
for _, id in ipairs(ids) do
  local rebuilt, live = prefix .. 'rebuild:' .. name .. ':' .. id, prefix .. name .. ':' .. id
  if redis.call('EXISTS', rebuilt) == 1 then redis.call('RENAME', rebuilt, live) else redis.call('DEL', live) end
end
if #ids > 0 then redis.call('ZREM', KEYS[4], unpack(ids)) end
local left = redis.call('ZCARD', KEYS[4])
if left > 0 then return left end
if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('RENAME', KEYS[3], KEYS[2]) end
redis.call('HINCRBY', KEYS[1], name, 1)
return -1
