#!lua flags=allow-oom
-- Forgets a replay that came to its end or was given up, and those that nobody has gone on with in time.
--
-- KEYS[1] unfinished replays
-- ARGV: id, an unfinished replay is remembered for so long (ms)
redis.call('HDEL', KEYS[1], ARGV[1])
local all, now = redis.call('HGETALL', KEYS[1]), now_ms()
for i = 1, #all, 2 do
  if cjson.decode(all[i + 1]).movedAt <= now - tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], all[i]) end
end
