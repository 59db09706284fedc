#!lua flags=allow-oom
-- Hands new entries to a consumer, no more than it has slots for, and says of each whether the pipeline is done with its
-- event already. Where a group's cursor is not where its reading brought it (made again, or moved by hand) each entry that
-- it may have had before, or was moved past, is looked at first: what is held is left to its owner, what is put off or done is passed over.
--
-- KEYS: cursors, attempts, strikes, then the streams
-- ARGV: group, consumer, count, key prefix, room in the isolation slot, then for each stream its name and up to where this
--       worker knows it to be read ('' where it does not)
-- Returns {place of the stream, {id, fields, done, attempts record, strikes}} for each entry; where there is none the
-- cursors separated by spaces, 'again' where more is to be looked at, or 'hold' where that must wait
local group, consumer, room, prefix, alone_room = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
-- Of what is looked at again in one call, and of what is read in one step.
local LOOK_MAX, READ_STEP = 100, 4
local delivered, spans, taken, fresh = {}, {}, {}, {}
local answer

local function name_at(i) return ARGV[6 + (i - 4) * 2] end

local function add(i, entry)
  taken[#taken + 1] = { i - 4, entry }
  room = room - 1
end

-- Claims an entry that nobody holds. A suspect without a slot is left where the next reclaim finds it.
local function claim(i, id, event_id, fields)
  local strikes = parse_strikes(redis.call('HGET', KEYS[3], event_id))
  if strikes and strikes.crashes >= SUSPECT_CRASHES then
    if alone_room < 1 then
      redis.call('XCLAIM', KEYS[i], group, HANDED_BACK, 0, id, 'FORCE', 'IDLE', A_DAY_MS, 'RETRYCOUNT', 1, 'JUSTID')
      return
    end
    alone_room = alone_room - 1
  end
  if strikes then set_put_off(KEYS[3], event_id, strikes) end
  redis.call('XCLAIM', KEYS[i], group, consumer, 0, id, 'FORCE', 'RETRYCOUNT', 1, 'JUSTID')
  with_replay(prefix, group, event_id, fields)
  add(i, { id, fields, 0, redis.call('HGET', KEYS[2], event_id) or '', strikes_told(strikes) })
end

local function take_again(i, span)
  if left_of(span.hold, now_ms(), HOLD_MS) > 0 then
    answer = answer or 'hold'
    return
  end
  local from, short = cursor_of(KEYS[i], group), string.sub(name_at(i), #'events:' + 1)
  local looked, bytes, is_end = 0, 0, false
  while room > 0 and looked < LOOK_MAX and bytes < BYTES_MAX do
    local entry = redis.call('XRANGE', KEYS[i], '(' .. from, span.upto, 'COUNT', 1)[1]
    if not entry then
      is_end = true
      break
    end
    local id, fields = entry[1], entry[2]
    looked, bytes = looked + 1, bytes + bytes_of(fields)
    local event_id = short .. '-' .. id
    local is_ours = #redis.call('XPENDING', KEYS[i], group, id, id, 1) == 0 and not is_put_off(prefix, group, event_id)
      and not was_finished(prefix, group, event_id, fields)
    if is_ours then claim(i, id, event_id, fields) end
    from = id
  end
  redis.call('XGROUP', 'SETID', KEYS[i], group, is_end and span.upto or from)
  if is_end then
    redis.call('HDEL', KEYS[1], 'upto:' .. name_at(i), 'hold:' .. name_at(i))
    redis.call('HSET', KEYS[1], 'high:' .. name_at(i), span.upto)
  end
  answer = 'again'
end

local function read_fresh(i)
  local bytes, last_read = 0, nil
  while room > 0 and bytes < BYTES_MAX do
    local count = math.min(room, READ_STEP)
    local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', KEYS[i], '>')
    local entries = read and read[1][2] or {}
    for _, entry in ipairs(entries) do
      bytes, last_read = bytes + bytes_of(entry[2]), entry[1]
      fresh[#fresh + 1] = entry
      add(i, entry)
    end
    if #entries < count then break end
  end
  -- Or its cursor would look as if it had been moved ahead by hand.
  if last_read and not select(2, cursor_of(KEYS[i], group)) then redis.call('HSET', KEYS[1], 'high:' .. name_at(i), last_read) end
end

-- All are looked at before any is read: what was read would be nobody's if a later one were missing.
for i = 4, #KEYS do
  local cursor, came_by_reading = cursor_of(KEYS[i], group)
  if not cursor then return redis.error_reply('NOGROUP There is no group ' .. group) end
  local known = ARGV[7 + (i - 4) * 2]
  delivered[i] = cursor
  if not came_by_reading or known == '' or is_after(known, cursor) then
    spans[i] = repeated_span(KEYS[1], name_at(i), KEYS[i], group, cursor, came_by_reading, known ~= '' and known)
  end
end

for i = 4, #KEYS do
  if room > 0 and spans[i] then
    take_again(i, spans[i])
  else
    read_fresh(i)
  end
end
with_marks(fresh, prefix)
if #taken > 0 then return taken end
if answer then return answer end
local cursors = {}
for i = 4, #KEYS do cursors[#cursors + 1] = delivered[i] end
return table.concat(cursors, ' ')
