-- Known to every script: the server's clock, and how it is written.

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
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

-- Which of the ids between `first` and `last` this consumer still owns: id to delivery count. Only an owner may act.
local function owned(stream, group, consumer, first, last, count)
  local mine = {}
  for _, entry in ipairs(redis.call('XPENDING', stream, group, first, last, count, consumer)) do
    mine[entry[1]] = entry[4]
  end
  return mine
end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

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
  if #entries == 0 then return {} end
  local marks = {}
  for i, entry in ipairs(entries) do marks[i] = mark_of(entry[2], prefix) end
  local done = redis.call('MGET', unpack(marks))
  for i, entry in ipairs(entries) do entry[3] = done[i] and 1 or 0 end
  return entries
end

-- Records that an entry vanished from under a group: reported, never passed over in silence.
local function report_lost(prefix, event_id, group)
  local key = 'lost:' .. event_id
  local short = string.match(event_id, '^(%a+)%-')
  local data = cjson.encode({ eventId = event_id, stream = 'events:' .. short, group = group, key = key, attempts = 0,
    error = { code = 'entry_lost', message = 'The entry was deleted from its stream before ' .. group .. ' was done with it' } })
  local id = redis.call('XADD', prefix .. 'events:failed', '*', 'type', 'event.failed', 'key', key, 'at', iso(now_ms()),
    'v', '1', 'cause', event_id, 'data', data, 'attempts', '0', 'ms', '0', 'waited', '0')
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

-- Last delivered id of each group of a stream.
local function delivered_by_group(stream)
  local found = {}
  if redis.call('EXISTS', stream) == 0 then return found end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do found[field(info, 'name')] = field(info, 'last-delivered-id') end
  return found
end

-- What a group still has to do with an entry: 'undelivered', 'pending', 'waiting', or nothing.
local function unfinished_in(prefix, group, stream, id, delivered)
  if not delivered or is_after(id, delivered) then return 'undelivered' end
  if #redis.call('XPENDING', stream, group, id, id, 1) > 0 then return 'pending' end
  local event_id = string.sub(stream, #prefix + #'events:' + 1) .. '-' .. id
  for _, set in ipairs({ 'parked:' .. group, 'waiting:' .. group .. ':gemini', 'waiting:' .. group .. ':zoho',
    'waiting:' .. group .. ':slack' }) do
    if redis.call('ZSCORE', prefix .. set, event_id) then return 'waiting' end
  end
end
