#!lua flags=allow-oom
-- Keeps entries alive for the worker that holds them: resets their idle time, leaves the delivery count as it is.
-- Ownership is checked first: a worker that was paused and lost its claim must not take it back.
--
-- KEYS[1] stream
-- ARGV: group, consumer, then the ids in ascending order
-- Returns the ids that this consumer no longer owns
local mine = owned(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[#ARGV], 10000)
local kept, lost = {}, {}
for i = 3, #ARGV do
  local list = mine[ARGV[i]] and kept or lost
  list[#list + 1] = ARGV[i]
end
if #kept > 0 then
  kept[#kept + 1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(kept))
end
return lost
