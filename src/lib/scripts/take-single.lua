#!lua flags=allow-oom
-- Lets so many failures have a message of their own. One that was let through may ask again.
--
-- KEYS: the failures that were let through
-- ARGV: the failure's id, how many, how long that is remembered (s)
-- Returns 1 where it may
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 1 end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], '')
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
