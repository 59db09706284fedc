#!lua flags=allow-oom
-- Gives a lease back, unless it is another's by now.
--
-- KEYS[1] lease
-- ARGV: owner
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
