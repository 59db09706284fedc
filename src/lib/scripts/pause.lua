#!lua flags=allow-oom
-- Pauses a provider for all workers; the first to say so writes `provider.paused`. A configuration fault found during an
-- outage is a pause of its own, as it takes a person to mend it.
--
-- KEYS: pause, events:health
-- ARGV: provider, kind, reason, first probe after (ms), probe every (ms), told by a probe (1|0)
-- Returns 1 when the pause began with this call
local now = now_ms()
local kind = redis.call('HGET', KEYS[1], 'kind')
if kind and (kind == 'configuration' or ARGV[2] == 'outage') then
  if ARGV[6] == '1' then
    redis.call('HSET', KEYS[1], 'probeMs', ARGV[5], 'probeAt', now + tonumber(ARGV[4]))
  end
  return 0
end
local since = iso(now)
redis.call('HSET', KEYS[1], 'kind', ARGV[2], 'reason', ARGV[3], 'since', since, 'probeMs', ARGV[5], 'probeAt', now + tonumber(ARGV[4]))
local data = cjson.encode({ provider = ARGV[1], kind = ARGV[2], reason = ARGV[3], since = since })
redis.call('XADD', KEYS[2], '*', 'type', 'provider.paused', 'key', 'health:' .. ARGV[1] .. ':' .. since, 'at', since,
  'v', '1', 'data', data)
return 1
