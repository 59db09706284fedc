#!lua flags=allow-oom
-- Pauses a provider for all workers; the first to say so writes `provider.paused`. A configuration fault found during an
-- outage is a pause of its own, as it takes a person to mend it, and the end of the outage, as the provider has answered. What a probe tells sets the pace of those that come; the
-- next one was fixed when it began, and is put off only where the provider asks for it: a probe that hangs must hold up
-- none.
--
-- KEYS: pause, events:health
-- ARGV: provider, kind, reason, probe every (ms), wait that the provider asks for (ms, 0 for none), told by a probe (1|0)
-- Returns 1 when the pause began with this call
local now = now_ms()
local every_ms, asked_ms = tonumber(ARGV[4]), tonumber(ARGV[5])
local kind = redis.call('HGET', KEYS[1], 'kind')
if kind and (kind == 'configuration' or ARGV[2] == 'outage') then
  if ARGV[6] == '1' then redis.call('HSET', KEYS[1], 'probeMs', every_ms) end
  if asked_ms > 0 then
    local probe_at = tonumber(redis.call('HGET', KEYS[1], 'probeAt'))
    redis.call('HSET', KEYS[1], 'probeAt', math.max(probe_at, now + asked_ms))
  end
  return 0
end
local since = iso(now)
local function tell(type, fault)
  fault.provider = ARGV[1]
  add_entry(KEYS[2], now, 'type', type, 'key', 'health:' .. ARGV[1] .. ':' .. fault.since, 'at', since, 'v', '1',
    'data', cjson.encode(fault))
end
if kind then
  local before = redis.call('HMGET', KEYS[1], 'reason', 'since')
  tell('provider.resumed', { kind = kind, reason = before[1], since = before[2] })
end
redis.call('HSET', KEYS[1], 'kind', ARGV[2], 'reason', ARGV[3], 'since', since, 'probeMs', every_ms,
  'probeAt', now + math.max(every_ms, asked_ms))
tell('provider.paused', { kind = ARGV[2], reason = ARGV[3], since = since })
return 1
