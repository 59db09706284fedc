#!lua flags=allow-oom
-- Ends a storm in which nothing has failed for a while. It is handed to one who asks, and to that one again where this is
-- sent again as the reply was lost.
--
-- KEYS: storm, its failures, the storm that was ended last
-- ARGV: the last failure must be no later (ms), who asks, how long that is remembered (s)
-- Returns {since, failures}, or nothing where there is none or it goes on
local ended = redis.call('HMGET', KEYS[3], 'by', 'since', 'failures')
if ended[1] == ARGV[2] then return { ended[2], tonumber(ended[3]) } end
local storm = redis.call('HMGET', KEYS[1], 'since', 'last')
if not storm[1] or tonumber(storm[2]) > tonumber(ARGV[1]) then return end
local failures = redis.call('SCARD', KEYS[2])
redis.call('HSET', KEYS[3], 'by', ARGV[2], 'since', storm[1], 'failures', failures)
redis.call('EXPIRE', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[1], KEYS[2])
return { storm[1], failures }
