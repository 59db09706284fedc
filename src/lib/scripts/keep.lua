#!lua flags=allow-oom
-- The heartbeat of a worker in a group: says that it lives, and keeps alive all that it holds. That resets the idle time and
-- leaves the delivery count as it is. Ownership is checked first: a worker that was paused and lost its claim must not take
-- it back.
--
-- KEYS: alive, then the streams
-- ARGV: group, consumer, visibility timeout (ms), key prefix, all groups separated by commas, then for each stream its short name, how many ids, and the ids in
--       ascending order
-- Returns the event ids that this consumer does not own
local group, consumer = ARGV[1], ARGV[2]
local now, at, not_owned = now_ms(), 6, {}
for i = 2, #KEYS do
  local short, count = ARGV[at], tonumber(ARGV[at + 1])
  local first = at + 2
  at = first + count
  if count > 0 then
    local mine, kept = owned(KEYS[i], group, consumer, ARGV[first], ARGV[at - 1], 10000), {}
    for n = first, at - 1 do
      if mine[ARGV[n]] then kept[#kept + 1] = ARGV[n] else not_owned[#not_owned + 1] = short .. '-' .. ARGV[n] end
    end
    for from = 1, #kept, PART do
      local part = { unpack(kept, from, math.min(from + PART - 1, #kept)) }
      part[#part + 1] = 'JUSTID'
      redis.call('XCLAIM', KEYS[i], group, consumer, 0, unpack(part))
    end
  end
end
look_around(ARGV[4], ARGV[5], group, consumer, now, tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], '*last', now, consumer, now)
return not_owned
