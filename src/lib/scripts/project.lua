#!lua flags=allow-oom
-- Saves a projection's changed states together with its position, in one step and only from the position it was read
-- at: sent twice, or by a projector that lost its lease, it changes nothing.
--
-- KEYS: position, then the keys of the states
-- ARGV: number of streams; for each its name, position expected, new position; then the states
-- Returns 1 when saved
local streams = tonumber(ARGV[1])
for i = 0, streams - 1 do
  local at = redis.call('HGET', KEYS[1], ARGV[2 + i * 3]) or '0-0'
  if at ~= ARGV[3 + i * 3] then return 0 end
end
for i = 0, streams - 1 do
  redis.call('HSET', KEYS[1], ARGV[2 + i * 3], ARGV[4 + i * 3])
end
if #KEYS > 1 then
  local pairs_ = {}
  for i = 2, #KEYS do
    pairs_[#pairs_ + 1] = KEYS[i]
    pairs_[#pairs_ + 1] = ARGV[2 + streams * 3 + i - 2]
  end
  redis.call('MSET', unpack(pairs_))
end
return 1
