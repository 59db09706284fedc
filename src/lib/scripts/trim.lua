#!lua flags=allow-oom
-- Drops a whole chain with what is kept of it by key, or nothing: only when it came to its end and every entry of it is
-- old, finished in every group, in no unfinished replay, and folded. The revisions of a meeting count as one chain, as the first one's progress
-- knows them all. `idem:*` of so old an event has expired by itself.
--
-- KEYS[1] progress of the chain
-- ARGV: key prefix, key, event id asked about, entries before this time are old (ms), the same while a failure stands
--       open, only look (1|0), JSON of {groups that read each stream, keys that hold up to where each stream is folded}, how
--       long an unfinished replay keeps its range (ms)
-- Returns {verdict, entries dropped}
local prefix, key, asked = ARGV[1], ARGV[2], ARGV[3]
local plan = cjson.decode(ARGV[7])
-- Of these no chain is kept: each entry stands for itself.
local LOOSE = { ['events:health'] = true, ['events:operations'] = true }

local function progress_of(of) return prefix .. 'progress:' .. of end

local function keys_of_unit()
  local base, revision = string.match(key, '^(readai:meeting_completed:.+):r(%d+)$')
  local latest = base and tonumber(redis.call('HGET', progress_of(base), 'rev'))
  local first = latest and latest >= tonumber(revision) and base or key
  local unit = { first }
  for n = 2, tonumber(redis.call('HGET', progress_of(first), 'rev')) or 1 do unit[n] = first .. ':r' .. n end
  return unit
end

local unit, ids, is_open, is_unended = keys_of_unit(), {}, false, false
for _, of in ipairs(unit) do
  local progress, state, current_try = redis.call('HGETALL', progress_of(of)), nil, nil
  for i = 1, #progress, 2 do
    local name, value = progress[i], progress[i + 1]
    if split_event_id(name) then
      ids[name] = true
      -- An entry of the chain vanished: what is left of it belongs to that failure.
      if redis.call('HGET', progress_of('lost:' .. name), 'state') == 'lost' then is_open, state = true, 'lost' end
    elseif name == 'state' then state = value
    elseif name == 'id' then current_try = value
    elseif name == 'replayFailed' then is_open = true end
  end
  if state == 'failed' or state == 'lost' then is_open = true end
  if not state and current_try and plan.readers[split_event_id(current_try)] then is_unended = true end
end
-- An entry without a key is known by its failure alone.
local unreadable = string.match(key, '^lost:(%a+%-%d+%-%d+)$')
if unreadable then ids[unreadable] = true end
local asked_stream, asked_id = split_event_id(asked)
if not ids[asked] then
  if #redis.call('XRANGE', prefix .. asked_stream, asked_id, asked_id) == 0 then return { 'gone', 0 } end
  if not LOOSE[asked_stream] then return { 'unknown', 0 } end
  ids[asked] = true
end

-- Ranges that a replay has begun and not come to the end of; one that has not moved for long was given up.
local pins = {}
for _, json in ipairs(redis.call('HVALS', prefix .. 'replays')) do
  local replay = cjson.decode(json)
  if replay.movedAt > now_ms() - tonumber(ARGV[8]) then pins[#pins + 1] = replay end
end
local function is_pinned(short, id)
  for _, pin in ipairs(pins) do
    for _, group in ipairs(plan.readers[short] or {}) do
      if group == pin.group and not is_after(pin.from, id) and not is_after(id, pin.to) then return true end
    end
  end
end

local function is_folded(short, id)
  for _, position in ipairs(plan.positions[short] or {}) do
    -- Redis may have gone back since they were folded.
    if is_after(id, redis.call('HGET', position, short) or '0-0') then return false end
  end
  return true
end

local delivered = {}
local function verdict_on(event_id)
  local short, id = split_event_id(event_id)
  local stream = prefix .. short
  local ms = tonumber(string.match(id, '^%d+'))
  if ms >= tonumber(ARGV[4]) then return 'young' end
  if is_open and ms >= tonumber(ARGV[5]) then return 'open_failure' end
  if is_pinned(short, id) then return 'replaying' end
  if not is_folded(short, id) then return 'unfolded' end
  delivered[stream] = delivered[stream] or delivered_by_group(stream)
  for _, group in ipairs(plan.readers[short] or {}) do delivered[stream][group] = delivered[stream][group] or '0-0' end
  for group, last in pairs(delivered[stream]) do
    local unfinished = unfinished_in(prefix, group, stream, id, last)
    if unfinished then return unfinished end
  end
end

for event_id in pairs(ids) do
  local verdict = verdict_on(event_id)
  if verdict then return { verdict, 0 } end
end
-- No group holds it and yet it came to no end: somebody took it from its group, by hand.
if is_unended then return { 'unended', 0 } end
if ARGV[6] == '1' then return { 'dropped', 1 } end
local dropped = 0
for event_id in pairs(ids) do
  local stream, id = split_event_id(event_id)
  local kept = stream == 'events:rejected' and redis.call('XRANGE', prefix .. stream, id, id)[1]
  local of = kept and field(kept[2], 'of')
  if of then redis.call('HDEL', progress_of(of), 'changed-' .. event_id) end
  local count = redis.call('XDEL', prefix .. stream, id)
  if count > 0 then redis.call('HINCRBY', prefix .. 'trimmed', stream, count) end
  dropped = dropped + count
end
for _, of in ipairs(unit) do redis.call('DEL', progress_of(of), prefix .. 'requests:' .. of) end
return { 'dropped', dropped }
