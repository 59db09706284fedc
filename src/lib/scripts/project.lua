#!lua flags=allow-oom
-- Saves a projection's changed states together with its position, in one step and only from the position it was read
-- at: sent twice, or by a projector that lost its lease, it changes nothing. The position comes last: Redis takes nothing
-- back of a script that fails, and what a position has passed is never folded again.
--
-- KEYS: position, then the keys of the states
-- ARGV: version of the projection expected, and from now on; number of streams; for each its name, position expected, new
--       position; then the states
-- Returns 1 when saved
local SLICE = 1000
local streams = tonumber(ARGV[3])
local before_states = 3 + streams * 3
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then return 0 end
for i = 0, streams - 1 do
  local at = redis.call('HGET', KEYS[1], ARGV[4 + i * 3]) or '0-0'
  if at ~= ARGV[5 + i * 3] then return 0 end
end
-- Lua can hand over only some thousand values at once.
for from = 2, #KEYS, SLICE do
  local pairs_ = {}
  for i = from, math.min(from + SLICE - 1, #KEYS) do
    pairs_[#pairs_ + 1] = KEYS[i]
    pairs_[#pairs_ + 1] = ARGV[before_states + i - 1]
  end
  redis.call('MSET', unpack(pairs_))
end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
for i = 0, streams - 1 do
  redis.call('HSET', KEYS[1], ARGV[4 + i * 3], ARGV[6 + i * 3])
end
return 1
