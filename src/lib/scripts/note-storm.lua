#!lua flags=allow-oom
-- Notes failures as part of a storm, which they begin or keep up. Each counts once, however often it is noted.
--
-- KEYS: storm, its failures
-- ARGV: now (ISO 8601), now (ms), kept for (s), whether they begin one where there is none (1|0), then the failures' ids
if ARGV[4] == '0' and redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('HSETNX', KEYS[1], 'since', ARGV[1])
redis.call('HSET', KEYS[1], 'last', ARGV[2])
for i = 5, #ARGV do redis.call('SADD', KEYS[2], ARGV[i]) end
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[3]) end
