#!lua flags=allow-oom
-- Hands a failed entry to its group again, with a new count of attempts. Only an event that stands failed can be redriven,
-- so a second call does nothing.
--
-- KEYS: progress, parked, attempts, the failed entry's stream
-- ARGV: event id, its redis id
-- Returns 'redriven', 'not_failed' or 'gone'
if redis.call('HGET', KEYS[1], 'state') ~= 'failed' then return 'not_failed' end
if #redis.call('XRANGE', KEYS[4], ARGV[2], ARGV[2]) == 0 then return 'gone' end
redis.call('HDEL', KEYS[1], 'state')
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], now_ms(), ARGV[1])
return 'redriven'
