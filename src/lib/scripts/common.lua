-- Known to every script: the server's clock, and how it is written.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- How long (ms) what ends at `at` still lasts, which is so long at the most: more was noted before the clock went back.
local function left_of(at, now, max_ms)
  local left = tonumber(at or 0) - now
  return left <= max_ms and math.max(0, left) or 0
end

-- ISO 8601 in UTC with milliseconds, from milliseconds since 1970 (days to civil date, proleptic Gregorian).
local function iso(ms)
  local seconds = math.floor(ms / 1000)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day, math.floor(rest / 3600),
    math.floor(rest % 3600 / 60), rest % 60, ms % 1000)
end

-- XADD at the time that stands in the entry, `now`: XADD takes the time by itself, often a millisecond later, and an entry is to
-- be found by its own. Where the clock went back the id follows the stream's last one.
local function add_entry(stream, now, ...)
  local id = redis.pcall('XADD', stream, string.format('%.0f-*', now), ...)
  return type(id) == 'string' and id or redis.call('XADD', stream, '*', ...)
end

-- Redis undoes nothing of a script that fails midway, and whoever has no answer sends it again: what this user may not do to its
-- end is not begun. For scripts that append before they write down that they did.
local WRITES = { { 'XADD', '*', 'f', 'v' }, { 'XDEL', '0-1' }, { 'XACK', 'group', '0-1' }, { 'SET', 'v' }, { 'EXPIRE', '1' },
  { 'HSET', 'f', 'v' }, { 'HSETNX', 'f', 'v' }, { 'HDEL', 'f' }, { 'HINCRBY', 'f', '1' }, { 'ZADD', '1', 'm' } }
local function require_rights(key)
  for _, write in ipairs(WRITES) do
    if not redis.acl_check_cmd(write[1], key, unpack(write, 2)) then
      error(redis.error_reply('NOPERM this user has no permissions to run ' .. write[1]))
    end
  end
end

-- Of this run of this server: another one after a restart or a fail-over. 'unknown' where it is not told.
local function server_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
end

-- Whether rebuilt states of a projection are being put in the place of the live ones: the count is odd meanwhile.
local function is_swapping(swaps, name)
  return tonumber(redis.call('HGET', swaps, name) or '0') % 2 == 1
end

-- Which of the ids between `first` and `last` this consumer still owns: id to delivery count. Only an owner may act.
local function owned(stream, group, consumer, first, last, count)
  local mine = {}
  for _, entry in ipairs(redis.call('XPENDING', stream, group, first, last, count, consumer)) do
    mine[entry[1]] = entry[4]
  end
  return mine
end

-- Lua hands over some thousand values at once and no more: what may be longer goes in parts.
local PART = 1000

-- Of what is handed out by one script: a meeting's transcript may be megabytes, which are copied whole. Some more or less
-- are no matter.
local BYTES_MAX = 4194304

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

local function bytes_of(fields) return #(field(fields, 'data') or '') end

-- The mark that says the pipeline is done with an entry's event; a forced replay has one of its own.
local function mark_of(fields, prefix)
  local replay = field(fields, 'replay')
  return prefix .. 'idem:processed:' .. (field(fields, 'key') or '') .. (replay and ':replay:' .. replay or '')
end

-- An entry that is replayed although its event is processed is handed out with the id of the replay, as if it stood in it.
local function with_replay(prefix, group, event_id, fields)
  local replay = redis.call('HGET', prefix .. 'replay:' .. group, event_id)
  if not replay then return end
  for i = 1, #fields, 2 do
    if fields[i] == 'replay' then
      fields[i + 1] = replay
      return
    end
  end
  fields[#fields + 1] = 'replay'
  fields[#fields + 1] = replay
end

-- {id, fields} pairs to {id, fields, done} triples, in one look-up.
local function with_marks(entries, prefix)
  local marks = {}
  for i, entry in ipairs(entries) do marks[i] = mark_of(entry[2], prefix) end
  for from = 1, #marks, PART do
    local done = redis.call('MGET', unpack(marks, from, math.min(from + PART - 1, #marks)))
    for i, is_done in ipairs(done) do entries[from + i - 1][3] = is_done and 1 or 0 end
  end
  return entries
end

-- Records that an entry vanished from under a group: reported once, never passed over in silence.
local function report_lost(prefix, event_id, group)
  local key = 'lost:' .. event_id
  if redis.call('EXISTS', prefix .. 'progress:' .. key) == 1 then return end
  local short = string.match(event_id, '^(%a+)%-')
  local data = cjson.encode({ eventId = event_id, stream = 'events:' .. short, group = group, key = key, attempts = 0,
    error = { code = 'entry_lost', message = 'The entry was deleted from its stream before ' .. group .. ' was done with it' } })
  local now = now_ms()
  local id = add_entry(prefix .. 'events:failed', now, 'type', 'event.failed', 'key', key, 'at', iso(now), 'v', '1',
    'cause', event_id, 'data', data, 'attempts', '0', 'ms', '0', 'waited', '0')
  redis.call('HSET', prefix .. 'progress:' .. key, 'id', event_id, 'state', 'lost', 'failed-' .. id, '')
end

-- 'events:calendly' and its redis id, from an event id; nothing from any other text.
local function split_event_id(event_id)
  local short, id = string.match(event_id, '^(%a+)%-(%d+%-%d+)$')
  if short then return 'events:' .. short, id end
end

local function is_after(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)%-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) > tonumber(b_ms) end
  return tonumber(a_seq) > tonumber(b_seq)
end

-- Whether an entry of a chain came of this try of it, or of a later one; of two streams within a millisecond that is not told.
local function is_of_try(id, try)
  return tonumber(string.match(id, '^%d+')) >= tonumber(string.match(try, '^%d+'))
end

-- Last delivered id of each group of a stream.
local function delivered_by_group(stream)
  local found = {}
  if redis.call('EXISTS', stream) == 0 then return found end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do found[field(info, 'name')] = field(info, 'last-delivered-id') end
  return found
end

-- Whether an entry waits for its next attempt, or for a provider.
local function is_put_off(prefix, group, event_id)
  for _, set in ipairs({ 'parked:' .. group, 'waiting:' .. group .. ':gemini', 'waiting:' .. group .. ':zoho',
    'waiting:' .. group .. ':slack' }) do
    if redis.call('ZSCORE', prefix .. set, event_id) then return true end
  end
  return false
end

-- What a group still has to do with an entry: 'undelivered', 'pending', 'waiting', or nothing.
local function unfinished_in(prefix, group, stream, id, delivered)
  if not delivered or is_after(id, delivered) then return 'undelivered' end
  if #redis.call('XPENDING', stream, group, id, id, 1) > 0 then return 'pending' end
  local event_id = string.sub(stream, #prefix + #'events:' + 1) .. '-' .. id
  if is_put_off(prefix, group, event_id) then return 'waiting' end
end

-- Whether a group was done with an entry, told by its chain alone: for where its cursor or its pending list is lost. Returns
-- 'done' or 'failed', or nothing. A failure counts while it stands, or where a later try has taken its place; what was
-- redriven is to be done again.
local function was_finished(prefix, group, event_id, fields)
  if redis.call('HEXISTS', prefix .. 'replay:' .. group, event_id) == 1 then return end
  if group ~= 'alert' and redis.call('EXISTS', mark_of(fields, prefix)) == 1 then return 'done' end
  local progress = redis.call('HGETALL', prefix .. 'progress:' .. (field(fields, 'key') or 'lost:' .. event_id))
  local own_try = field(fields, 'cause') or event_id
  local state, current_try, has_failed = nil, nil, false
  for i = 1, #progress, 2 do
    local name = progress[i]
    local stream, id = split_event_id(name)
    if name == 'state' then state = progress[i + 1] end
    if name == 'id' then current_try = progress[i + 1] end
    local entry = stream and name ~= event_id and name ~= own_try and redis.call('XRANGE', prefix .. stream, id, id)[1]
    if entry and field(entry[2], 'cause') == event_id then
      if field(entry[2], 'type') ~= 'event.failed' then return 'done' end
      has_failed = true
    end
  end
  if has_failed and (state ~= nil or (current_try ~= nil and current_try ~= own_try)) then return 'failed' end
end

-- Gives a worker back what it holds and nobody is said to hold: its claim went with the group, or with a consumer that was
-- removed by hand. Returns 'restored', 'own' where it has it still, as when this is sent twice, what stands where there is
-- nothing left to do now ('done', 'failed', 'put off'), and 'lost' where it is another's or gone.
local function restore_claim(prefix, stream, group, consumer, event_id, id)
  local pending = redis.call('XPENDING', stream, group, id, id, 1)[1]
  if pending then return pending[2] == consumer and 'own' or 'lost' end
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if not entry then return 'lost' end
  if is_put_off(prefix, group, event_id) then return 'put off' end
  local finished = was_finished(prefix, group, event_id, entry[2])
  if finished then return finished end
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'FORCE', 'RETRYCOUNT', 1, 'JUSTID')
  return 'restored'
end

-- Where a group stands in a stream, and whether it came there by reading alone; nothing where it is missing.
local function cursor_of(stream, group)
  local infos = redis.pcall('XINFO', 'GROUPS', stream)
  if infos.err then
    if string.find(infos.err, 'no such key', 1, true) then return end
    error(infos)
  end
  for _, info in ipairs(infos) do
    if field(info, 'name') == group then return field(info, 'last-delivered-id'), field(info, 'entries-read') ~= false end
  end
end

local function last_id_of(stream)
  if redis.call('EXISTS', stream) == 0 then return '0-0' end
  return field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id')
end

-- The id before this one.
local function before_id(id)
  local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
  if tonumber(sequence) > 0 then return ms .. '-' .. string.format('%.0f', tonumber(sequence) - 1) end
  if tonumber(ms) == 0 then return '0-0' end
  return string.format('%.0f', tonumber(ms) - 1) .. '-18446744073709551615'
end

-- What is remembered of a group's way through its streams (`cursors:{group}`), for each stream by its name:
--   done  every entry up to here is finished, or put off; what is claimed anew below it brings it back
--   high  up to here entries were handed out when last looked, or read where Redis does not count what is read
--   upto  after the cursor went back: what is handed out up to here may have been handed out before
--   hold  until then nothing of that is handed out, so that those who still work on it can say so (ms)
-- And `in:{stream}:{consumer}` for each consumer that was seen to hold something of it, until we take it out ourselves.
local HOLD_MS = 1500

local function begin_span(cursors, name, stream, group, from, upto)
  -- Set by hand its count is unknown, which tells every worker to look here.
  redis.call('XGROUP', 'SETID', stream, group, from)
  local span = { upto = upto, hold = now_ms() + HOLD_MS }
  redis.call('HSET', cursors, 'upto:' .. name, upto, 'hold:' .. name, span.hold)
  return span
end

-- The span that a group goes through for the second time, {upto, hold}; nothing as a rule. A cursor that is behind where it
-- was once was moved by hand, or Redis has forgotten: then such a span begins, after what is known to be done. So it does
-- where the cursor was moved ahead by hand: what it passed over was never handed out.
local function repeated_span(cursors, name, stream, group, delivered, came_by_reading, known)
  local found = redis.call('HMGET', cursors, 'upto:' .. name, 'hold:' .. name, 'high:' .. name, 'done:' .. name)
  local upto, hold, high, done = found[1], found[2], found[3], found[4]
  local furthest = high or '0-0'
  if known and is_after(known, furthest) then furthest = known end
  -- Of what this stream has lost nothing can be repeated. Seldom asked: with the last id Redis hands out whole entries.
  local last
  if is_after(furthest, delivered) then
    last = last_id_of(stream)
    if is_after(furthest, last) then furthest = last end
  end
  if upto and is_after(upto, delivered) and not is_after(furthest, upto) then return { upto = upto, hold = tonumber(hold) } end
  if high and not came_by_reading and is_after(delivered, furthest) then
    last = last_id_of(stream)
    local to = is_after(delivered, last) and last or delivered
    return begin_span(cursors, name, stream, group, done and not is_after(done, to) and done or '0-0', to)
  end
  if not is_after(furthest, delivered) then return end
  redis.call('HSET', cursors, 'high:' .. name, delivered)
  if not is_after(last, delivered) then return end
  local from = done and is_after(done, delivered) and not is_after(done, last) and done or delivered
  return begin_span(cursors, name, stream, group, from, last)
end

-- What was claimed anew is not done any more.
local function reopen(cursors, name, id)
  local done = redis.call('HGET', cursors, 'done:' .. name)
  if done and not is_after(id, done) then redis.call('HSET', cursors, 'done:' .. name, before_id(id)) end
end

-- Entries that are nobody's but to be done stand under this name: handed back at a shutdown, or kept for the isolation slot.
local HANDED_BACK = 'handed-back'
-- Much longer than any visibility timeout.
local A_DAY_MS = 86400000

-- An entry that was started in so many crashes is a suspect: it runs alone.
local SUSPECT_CRASHES = 2

-- Crashes are kept (`strikes:{group}`) as 'crashes:of these alone, in a row:unexplained deaths before:state:owner@since~longest
-- run of the row (ms)'. The state is 'run' (handed out as usual), 'begun' (its start was noted), 'wait' (for the isolation
-- slot), 'alone' (in it, since then, ms) or 'condemned'. The owner stays known after its death: what it had alone explains
-- that death to every group. Nothing for any other text, as somebody may have put there by hand: crashes are counted anew.
local function parse_strikes(text)
  local crashes, alone, deaths, state, rest = string.match(text or '', '^(%d+):(%d+):(%d+):(%a+):(.*)$')
  if not crashes then return end
  local before, longest = string.match(rest, '^(.*)~(%d+)$')
  local owner, since = string.match(before or rest, '^(.*)@(%d+)$')
  return { crashes = tonumber(crashes), alone = tonumber(alone), deaths = tonumber(deaths), state = state,
    owner = owner or before or rest, since = tonumber(since), longest = tonumber(longest) or 0 }
end

local function strikes_text(strikes)
  local since = strikes.since and string.format('@%d', strikes.since) or ''
  local longest = strikes.longest > 0 and string.format('~%d', strikes.longest) or ''
  return string.format('%d:%d:%d:%s:%s', strikes.crashes, strikes.alone, strikes.deaths, strikes.state,
    (strikes.owner or '') .. since .. longest)
end

-- A crash in the isolation slot, after a run of so many ms. It is one of a row while no worker has died without a suspect
-- since the one before.
local function count_alone(strikes, deaths, ran_ms)
  local is_next = strikes.alone > 0 and strikes.deaths == deaths
  strikes.crashes, strikes.deaths, strikes.state = strikes.crashes + 1, deaths, 'wait'
  strikes.alone = is_next and strikes.alone + 1 or 1
  strikes.longest = is_next and math.max(strikes.longest, ran_ms) or ran_ms
end

-- Until it starts again, no death of a worker is held against it: a suspect is on its way to the isolation slot.
local function set_put_off(strikes_key, event_id, strikes)
  strikes.state, strikes.owner, strikes.since = strikes.crashes >= SUSPECT_CRASHES and 'wait' or 'run', nil, nil
  redis.call('HSET', strikes_key, event_id, strikes_text(strikes))
end

-- The same, where it was this worker that had it.
local function put_off_own(strikes_key, event_id, consumer)
  local strikes = parse_strikes(redis.call('HGET', strikes_key, event_id))
  if strikes and strikes.owner == consumer and strikes.state ~= 'condemned' then set_put_off(strikes_key, event_id, strikes) end
  return strikes
end

-- Takes a consumer out that holds nothing.
local function remove_consumer(stream, group, consumer)
  redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
  local prefix, name = string.match(stream, '^(.*)(events:%a+)$')
  redis.call('HDEL', prefix .. 'cursors:' .. group, 'in:' .. name .. ':' .. consumer)
end

-- Makes an entry nobody's: it stays pending, with its delivery count, and looks long idle.
local function hand_back(stream, group, consumer, id, deliveries)
  redis.call('XCLAIM', stream, group, HANDED_BACK, 0, id, 'IDLE', A_DAY_MS, 'RETRYCOUNT', deliveries, 'JUSTID')
  local prefix, short = string.match(stream, '^(.*)events:(%a+)$')
  put_off_own(prefix .. 'strikes:' .. group, short .. '-' .. id, consumer)
end

-- As the worker is told: nothing, or how many crashes and what to do with it.
local function strikes_told(strikes)
  if not strikes then return '' end
  return strikes.crashes .. ':' .. (strikes.state == 'begun' and 'run' or strikes.state)
end

-- Who is there (`alive:{group}`): consumer to its last heartbeat (ms), or 'dead' once its death was counted;
--   *last     anybody's latest sign of life
--   *quiet    until then nobody is taken for dead
--   *deaths   deaths of workers that had nothing in the isolation slot
--   *control  until then nothing starts in the isolation slot, to see whether workers die without it as well; gone once one has
local DEAD_AFTER = 0.9
-- After Redis was away every worker looks dead to the first who is back: they all get this long to say that they live.
local QUIET_MS = 1200

-- What was heard in the future was noted before the clock went back.
local function is_dead(beat, now, visibility_ms)
  return not beat or beat == 'dead' or tonumber(beat) < now - visibility_ms * DEAD_AFTER
    or tonumber(beat) > now + visibility_ms
end

-- After a suspect's worker died the slot stays empty for so many times as long as the suspect had run, as long as it did at
-- the most in the row, and a visibility timeout: a storm that kills every worker after a while has killed another by then.
-- It is longer with each crash of the row, as what may be chance once is not to be chance again, and bounded, as a handler's
-- waits are.
local CONTROL_GROWTH, CONTROL_MS_MAX = 2, 120000

-- By worker: the suspect that it has in the isolation slot, or died with, of whichever group, as a worker has one such slot.
local function suspects_by_owner(prefix, groups)
  local found = {}
  for group in string.gmatch(groups, '[^,]+') do
    local all = redis.call('HGETALL', prefix .. 'strikes:' .. group)
    for i = 1, #all, 2 do
      local strikes = parse_strikes(all[i + 1])
      if strikes and strikes.owner ~= '' and strikes.state ~= 'run' and strikes.state ~= 'begun' then
        local suspect = { group = group, event_id = all[i], strikes = strikes }
        if strikes.state == 'alone' or not found[strikes.owner] then found[strikes.owner] = suspect end
      end
    end
  end
  return found
end

-- Counts the crash of a suspect whose worker has died, once, however many groups see that death: when it is dead in the
-- suspect's own. Returns for how long the slot is to stay empty (ms).
local function note_crash(prefix, suspect, name, now, ran_ms, visibility_ms)
  local strikes, alive = suspect.strikes, prefix .. 'alive:' .. suspect.group
  local found = redis.call('HMGET', alive, name, '*deaths')
  local is_counted = strikes.state ~= 'alone'
  if not is_counted then count_alone(strikes, tonumber(found[2] or 0), ran_ms) end
  if not is_counted and found[1] and is_dead(found[1], now, visibility_ms) then
    redis.call('HSET', prefix .. 'strikes:' .. suspect.group, suspect.event_id, strikes_text(strikes))
  end
  return math.min((strikes.longest + visibility_ms) * CONTROL_GROWTH ^ strikes.alone, CONTROL_MS_MAX)
end

-- Who is there, as {consumer to beat}, and whether anybody may be taken for dead now. Each death is counted once: where that
-- worker had nothing in the isolation slot, it was no suspect's doing. A worker that lived through a time in which nobody was
-- heard, or that is new after it, knows that Redis was away, or everybody dead.
--
-- groups: of all, the names separated by commas
local function look_around(prefix, groups, group, consumer, now, visibility_ms)
  local alive = prefix .. 'alive:' .. group
  local beats, flat = {}, redis.call('HGETALL', alive)
  for i = 1, #flat, 2 do beats[flat[i]] = flat[i + 1] end
  local was_silent = beats['*last'] and is_dead(beats['*last'], now, visibility_ms)
  if was_silent and is_dead(beats[consumer], now, visibility_ms) then
    beats['*quiet'] = now + QUIET_MS
    redis.call('HSET', alive, '*last', now, '*quiet', beats['*quiet'])
  end
  if left_of(beats['*quiet'], now, QUIET_MS) > 0 then return beats, false end
  local control_ms, suspects, died_without = left_of(beats['*control'], now, CONTROL_MS_MAX), nil, false
  -- Nothing may be added to what is walked through.
  beats['*deaths'] = beats['*deaths'] or '0'
  for name, beat in pairs(beats) do
    if string.sub(name, 1, 1) ~= '*' and name ~= consumer and beat ~= 'dead' and is_dead(beat, now, visibility_ms) then
      redis.call('HSET', alive, name, 'dead')
      beats[name] = 'dead'
      suspects = suspects or suspects_by_owner(prefix, groups)
      local suspect = suspects[name]
      if not suspect then
        beats['*deaths'] = redis.call('HINCRBY', alive, '*deaths', 1)
        died_without = true
      elseif suspect.strikes.since then
        local ran_ms = math.max(0, tonumber(beat) - suspect.strikes.since)
        control_ms = math.max(control_ms, note_crash(prefix, suspect, name, now, ran_ms, visibility_ms))
        redis.call('HSET', alive, '*control', now + control_ms)
      end
    end
  end
  -- Workers die without a suspect as well: what the slot is kept empty to see has been seen.
  if died_without then redis.call('HDEL', alive, '*control') end
  return beats, true
end
