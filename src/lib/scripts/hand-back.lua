#!lua flags=allow-oom
-- Hands entries back at a shutdown: they stay pending, with their delivery count, but are nobody's and look long idle, so that
-- another worker's next reclaim finds them and takes nobody for dead.
--
-- KEYS[1] stream
-- ARGV: group, consumer, then the ids in ascending order
-- Returns how many were handed back
local mine = owned(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[#ARGV], 10000)
local count = 0
for i = 3, #ARGV do
  local deliveries = mine[ARGV[i]]
  if deliveries then
    hand_back(KEYS[1], ARGV[1], ARGV[2], ARGV[i], deliveries)
    count = count + 1
  end
end
return count
