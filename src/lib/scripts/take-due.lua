#!lua flags=allow-oom
-- Takes back entries that were parked for a retry and are due, and entries that wait for a provider which is up again.
-- While a provider is paused, one waiting entry at a time is let through as a probe.
-- A parked entry is acknowledged and stands in no pending list: XCLAIM FORCE makes it pending again, owned by the caller.
-- An entry that is suspected to crash workers is only taken for the isolation slot; without one it stays where it is.
--
-- KEYS: parked, attempts, strikes, cursors, then for each provider: its pause, the entries waiting for it
-- ARGV: group, consumer, limit, key prefix, whether a vanished entry is reported (1|0), room in the isolation slot, then the
--       providers' names
-- Returns {now, next due or -1, entries of {event id, fields, done, attempts record, strikes, provider probed}}
local group, consumer, limit, prefix, alone_room = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6])
local now = now_ms()
local taken, passed_over = {}, {}
-- So many may have to be passed over.
local suspects

local function claim(event_id, set, strikes, probing)
  local stream, id = split_event_id(event_id)
  local claimed = redis.call('XCLAIM', prefix .. stream, group, consumer, 0, id, 'FORCE', 'RETRYCOUNT', 1)[1]
  redis.call('ZREM', set, event_id)
  if not claimed or not claimed[2] then
    redis.call('HDEL', KEYS[2], event_id)
    redis.call('HDEL', KEYS[3], event_id)
    redis.call('HDEL', prefix .. 'replay:' .. group, event_id)
    if ARGV[5] == '1' then report_lost(prefix, event_id, group) end
    return
  end
  reopen(KEYS[4], stream, id)
  local fields = claimed[2]
  with_replay(prefix, group, event_id, fields)
  local done = redis.call('EXISTS', mark_of(fields, prefix))
  taken[#taken + 1] = { event_id, fields, done, redis.call('HGET', KEYS[2], event_id) or '', strikes_told(strikes), probing }
end

-- Takes up to `count` of these.
local function take(event_ids, set, probing, count)
  for _, event_id in ipairs(event_ids) do
    if count < 1 then return end
    local strikes = suspects > 0 and parse_strikes(redis.call('HGET', KEYS[3], event_id)) or nil
    local is_suspect = strikes and strikes.crashes >= SUSPECT_CRASHES
    if is_suspect and alone_room < 1 then
      passed_over[event_id] = true
    else
      if is_suspect then
        alone_room = alone_room - 1
        set_waiting(KEYS[3], event_id, strikes)
      end
      claim(event_id, set, strikes, probing)
      count = count - 1
    end
  end
end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local waiting_sets = {}
for i = 6, #KEYS, 2 do waiting_sets[#waiting_sets + 1] = KEYS[i] end
local is_waiting = redis.call('EXISTS', unpack(waiting_sets)) > 0
local is_due = first[2] and tonumber(first[2]) <= now
if not is_due and not is_waiting then return { now, first[2] and tonumber(first[2]) or -1, {} } end

suspects = redis.call('HLEN', KEYS[3])
for i = 7, #ARGV do
  local pause, waiting = KEYS[5 + (i - 7) * 2], KEYS[6 + (i - 7) * 2]
  local room = limit - #taken
  if room > 0 and redis.call('EXISTS', waiting) == 1 then
    local probe_at = redis.call('HGET', pause, 'probeAt')
    if not probe_at then
      take(redis.call('ZRANGE', waiting, 0, room + suspects - 1), waiting, '', room)
    elseif tonumber(probe_at) <= now then
      local wait = tonumber(redis.call('HGET', pause, 'probeMs'))
      redis.call('HSET', pause, 'probeAt', now + wait)
      take(redis.call('ZRANGE', waiting, 0, suspects), waiting, ARGV[i], 1)
    end
  end
end

local room = limit - #taken
if room > 0 then
  take(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, room + suspects), KEYS[1], '', room)
end
local next_due = -1
first = redis.call('ZRANGE', KEYS[1], 0, suspects, 'WITHSCORES')
for i = 1, #first, 2 do
  if next_due < 0 and not passed_over[first[i]] then next_due = tonumber(first[i + 1]) end
end
return { now, next_due, taken }
