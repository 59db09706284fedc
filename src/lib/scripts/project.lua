#!lua flags=allow-oom
-- Saves a projection's changed states together with its position, in one step and only from the position it was read
-- at: sent twice, or by a projector that lost its lease, it changes nothing; nor where states were swapped for rebuilt ones
-- meanwhile. A rebuild that lost its lease is told so: what it would fold into may be another one's. The position comes last:
-- Redis takes nothing back of a script that fails, and what a position has passed is never folded again.
--
-- KEYS: position, swaps, lease of a rebuild, then the keys of the states
-- ARGV: name of the projection, owner of the lease ('' where none is needed), swaps expected ('' for none), version expected,
--       and from now on; number of streams; for each its name, position expected, new position; then the states
-- Returns 1 when saved, -1 where the lease was lost
local streams = tonumber(ARGV[6])
local before_states = 6 + streams * 3
if ARGV[2] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[2] then return -1 end
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[3] then return 0 end
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[4] then return 0 end
for i = 0, streams - 1 do
  local at = redis.call('HGET', KEYS[1], ARGV[7 + i * 3]) or '0-0'
  if at ~= ARGV[8 + i * 3] then return 0 end
end
for from = 4, #KEYS, PART do
  local pairs_ = {}
  for i = from, math.min(from + PART - 1, #KEYS) do
    pairs_[#pairs_ + 1] = KEYS[i]
    pairs_[#pairs_ + 1] = ARGV[before_states + i - 3]
  end
  redis.call('MSET', unpack(pairs_))
end
redis.call('HSET', KEYS[1], 'version', ARGV[5])
for i = 0, streams - 1 do
  redis.call('HSET', KEYS[1], ARGV[7 + i * 3], ARGV[9 + i * 3])
end
return 1
