#!lua flags=allow-oom
-- Ends a provider's pause; the one who ends it writes `provider.resumed`.
--
-- KEYS: pause, events:health
-- ARGV: provider
-- Returns 1 when the pause ended with this call
local pause = redis.call('HMGET', KEYS[1], 'kind', 'reason', 'since')
if not pause[3] then return 0 end
redis.call('DEL', KEYS[1])
local data = cjson.encode({ provider = ARGV[1], kind = pause[1], reason = pause[2], since = pause[3] })
local now = now_ms()
add_entry(KEYS[2], now, 'type', 'provider.resumed', 'key', 'health:' .. ARGV[1] .. ':' .. pause[3], 'at', iso(now), 'v', '1',
  'data', data)
return 1
