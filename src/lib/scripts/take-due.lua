#!lua flags=allow-oom
-- Takes back entries that were parked for a retry and are due, and entries that wait for a provider which is up again.
-- While a provider is paused, one waiting entry at each interval is let through as a probe. Beyond that what is parked and what
-- waits for each provider take turns to be first, as any of them may be long.
-- A parked entry is acknowledged and stands in no pending list: XCLAIM FORCE makes it pending again, owned by the caller.
-- An entry that is suspected to crash workers is only taken for the isolation slot; without one it stays where it is.
--
-- KEYS: parked, attempts, strikes, cursors, then for each provider: its pause, the entries waiting for it
-- ARGV: group, consumer, limit, key prefix, whether a vanished entry is reported (1|0), room in the isolation slot, number of
--       the turn, then for each provider its name, how many that wait for it there is room for, and whether a probe may begin
-- Returns {now, next due or -1, entries of {event id, fields, done, attempts record, strikes, provider probed}, whether any
-- wait for room alone (1|0), event ids of those that have vanished}
local group, consumer, limit, prefix, alone_room = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6])
local now = now_ms()
local taken, passed_over, vanished, bytes = {}, {}, {}, 0
-- A longer wait was noted before the clock went back (`provider-health.ts`).
local PROBE_WAIT_MS_MAX = 75000
-- So many may have to be passed over.
local suspects

local function claim(event_id, set, strikes, probing)
  local stream, id = split_event_id(event_id)
  local claimed = redis.call('XCLAIM', prefix .. stream, group, consumer, 0, id, 'FORCE', 'RETRYCOUNT', 1)[1]
  redis.call('ZREM', set, event_id)
  if not claimed or not claimed[2] then
    vanished[#vanished + 1] = event_id
    redis.call('HDEL', KEYS[2], event_id)
    redis.call('HDEL', KEYS[3], event_id)
    redis.call('HDEL', prefix .. 'replay:' .. group, event_id)
    if ARGV[5] == '1' then report_lost(prefix, event_id, group) end
    return
  end
  reopen(KEYS[4], stream, id)
  local fields = claimed[2]
  bytes = bytes + bytes_of(fields)
  with_replay(prefix, group, event_id, fields)
  local done = redis.call('EXISTS', mark_of(fields, prefix))
  taken[#taken + 1] = { event_id, fields, done, redis.call('HGET', KEYS[2], event_id) or '', strikes_told(strikes), probing }
end

-- Takes up to `count` of these.
local function take(event_ids, set, probing, count)
  for _, event_id in ipairs(event_ids) do
    if count < 1 or bytes >= BYTES_MAX then return end
    local strikes = suspects > 0 and parse_strikes(redis.call('HGET', KEYS[3], event_id)) or nil
    local is_suspect = strikes and strikes.crashes >= SUSPECT_CRASHES
    if is_suspect and alone_room < 1 then
      passed_over[event_id] = true
    else
      if is_suspect then
        alone_room = alone_room - 1
        set_put_off(KEYS[3], event_id, strikes)
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
if not is_due and not is_waiting then return { now, first[2] and tonumber(first[2]) or -1, {}, 0, {} } end

suspects = redis.call('HLEN', KEYS[3])
local sources = { { set = KEYS[1], from = '-inf', to = now, room = math.huge } }
for i = 8, #ARGV, 3 do
  local place = 5 + (i - 8) / 3 * 2
  local pause, waiting, room, may_probe = KEYS[place], KEYS[place + 1], tonumber(ARGV[i + 1]), ARGV[i + 2] == '1'
  if limit > #taken and redis.call('EXISTS', waiting) == 1 then
    local probe_at = tonumber(redis.call('HGET', pause, 'probeAt'))
    if not probe_at then
      sources[#sources + 1] = { set = waiting, from = '-inf', to = '+inf', room = room }
    elseif may_probe and (probe_at <= now or probe_at > now + PROBE_WAIT_MS_MAX) then
      local wait, before = tonumber(redis.call('HGET', pause, 'probeMs')), #taken
      take(redis.call('ZRANGE', waiting, 0, suspects), waiting, ARGV[i], 1)
      -- A turn that nothing could take is left to the other groups.
      if #taken > before then redis.call('HSET', pause, 'probeAt', now + wait) end
    end
  end
end

for n = 1, #sources do
  local source = sources[(n + tonumber(ARGV[7])) % #sources + 1]
  local room, before = math.min(limit - #taken, source.room), #taken
  if room > 0 then
    take(redis.call('ZRANGEBYSCORE', source.set, source.from, source.to, 'LIMIT', 0, room + suspects), source.set, '', room)
    source.room = source.room - (#taken - before)
  end
end
-- When the first that is left may be taken.
local next_due, wait_for_room = -1, 0
for i, source in ipairs(sources) do
  first = redis.call('ZRANGE', source.set, 0, suspects, 'WITHSCORES')
  for n = 1, #first, 2 do
    local at = i == 1 and tonumber(first[n + 1]) or now
    if not passed_over[first[n]] then
      if source.room < 1 then wait_for_room = 1
      elseif next_due < 0 or at < next_due then next_due = at end
    end
  end
end
return { now, next_due, taken, wait_for_room, vanished }
