#!lua flags=allow-oom
-- Takes a lease that is free, or keeps one that is the owner's: asked and done in one step, so that no lease is lengthened
-- that went to another in between.
--
-- KEYS[1] lease
-- ARGV: owner, lifetime (ms)
-- Returns 1 where the owner has it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
