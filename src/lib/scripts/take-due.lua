#!lua flags=allow-oom
-- Takes back entries that were parked for a retry and are due, and entries that wait for a provider which is up again.
-- While a provider is paused, one waiting entry at a time is let through as a probe.
-- A parked entry is acknowledged and stands in no pending list: XCLAIM FORCE makes it pending again, owned by the caller.
--
-- KEYS: parked, attempts, then for each provider: its pause, the entries waiting for it
-- ARGV: group, consumer, limit, key prefix, whether a vanished entry is reported (1|0), then the providers' names
-- Returns {now, next due or -1, entries of {event id, fields, done, attempts record, provider probed}}
local group, consumer, limit, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local now = now_ms()
local taken = {}

local function take(event_id, set, probing)
  local short, id = string.match(event_id, '^(%a+)%-(%d+%-%d+)$')
  local stream = prefix .. 'events:' .. short
  local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'FORCE', 'RETRYCOUNT', 1)[1]
  redis.call('ZREM', set, event_id)
  if not claimed or not claimed[2] then
    redis.call('HDEL', KEYS[2], event_id)
    redis.call('HDEL', prefix .. 'replay:' .. group, event_id)
    if ARGV[5] == '1' then report_lost(prefix, event_id, group) end
    return
  end
  local fields = claimed[2]
  with_replay(prefix, group, event_id, fields)
  local done = redis.call('EXISTS', mark_of(fields, prefix))
  taken[#taken + 1] = { event_id, fields, done, redis.call('HGET', KEYS[2], event_id) or '', probing }
end

for i = 6, #ARGV do
  local pause, waiting = KEYS[3 + (i - 6) * 2], KEYS[4 + (i - 6) * 2]
  local room = limit - #taken
  if room > 0 and redis.call('EXISTS', waiting) == 1 then
    local probe_at = redis.call('HGET', pause, 'probeAt')
    if not probe_at then
      for _, event_id in ipairs(redis.call('ZRANGE', waiting, 0, room - 1)) do take(event_id, waiting, '') end
    elseif tonumber(probe_at) <= now then
      local wait = tonumber(redis.call('HGET', pause, 'probeMs'))
      redis.call('HSET', pause, 'probeAt', now + wait)
      take(redis.call('ZRANGE', waiting, 0, 0)[1], waiting, ARGV[i])
    end
  end
end

local room = limit - #taken
if room > 0 then
  for _, event_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, room)) do
    take(event_id, KEYS[1], '')
  end
end
local next_due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
return { now, next_due and tonumber(next_due) or -1, taken }
