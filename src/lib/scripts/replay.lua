#!lua flags=allow-oom
-- Decides for entries of one stream whether a group is to have them again, and hands them over by parking them as due now.
-- The group's cursor stays where it is, and what a worker holds stays with it.
--
-- KEYS: stream, parked, attempts, ids of replays, unfinished replays
-- ARGV: key prefix, group, name of the stream, id of the replay, even if processed (1|0), even if a dry run (1|0),
--       only look (1|0), JSON of the groups that read each stream; then for each entry its id, key and replay field
-- Returns for each entry
--   'run' | 'failed' | 'again'   handed over: it got stuck; it stood failed; it is processed, and runs as part of the replay
--   'processed' | 'replayed'     done, the latter by this replay, or since it began
--   'queued'                     undelivered, pending or waiting: left to its owner
--   'moving'                     its chain is on its way in a later stage
--   'older'                      a newer entry of its chain stands in the stream
--   'gone'                       not in the stream any more
local prefix, group, stream_name, replay = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local is_forced, takes_dry_runs, only_look = ARGV[5] == '1', ARGV[6] == '1', ARGV[7] == '1'
local readers, now = cjson.decode(ARGV[8]), now_ms()
local delivered = {}

local function unfinished(name, stream, id)
  delivered[stream] = delivered[stream] or delivered_by_group(prefix .. stream)
  return unfinished_in(prefix, name, prefix .. stream, id, delivered[stream][name])
end

local function is_moving(event_id, ids)
  for _, other in ipairs(ids) do
    local stream, id = split_event_id(other)
    for _, reader in ipairs(readers[stream] or {}) do
      local left = other ~= event_id and reader ~= 'alert' and unfinished(reader, stream, id)
      -- What was deleted before it was handed out moves nowhere.
      local is_there = left and (left ~= 'undelivered' or #redis.call('XRANGE', prefix .. stream, id, id) > 0)
      if is_there then return true end
    end
  end
  return false
end

local function newest_outcome(ids)
  local newest
  for _, event_id in ipairs(ids) do
    local stream, id = split_event_id(event_id)
    if stream == 'events:synced' and (not newest or is_after(id, newest)) then newest = id end
  end
  return newest
end

local function is_dry_run(outcome)
  local entry = outcome and redis.call('XRANGE', prefix .. 'events:synced', outcome, outcome)[1]
  return entry and string.find(field(entry[2], 'data') or '', '"outcome":"dry_run"', 1, true) ~= nil
end

-- What had failed, or got stuck, runs without the id of the replay, so no mark tells that it was done: its end does.
local record = redis.call('HGET', KEYS[5], replay)
local began_after = record and cjson.decode(record).beganAfter
local function has_ended_since(outcome) return began_after and outcome and is_after(outcome, began_after) end

-- Done by this replay. An alert sets no mark: its entry says so.
local function was_replayed(event_id, ids, mark)
  if group ~= 'alert' then return redis.call('EXISTS', mark .. ':replay:' .. replay) == 1 end
  for _, other in ipairs(ids) do
    local stream, id = split_event_id(other)
    local entry = stream == 'events:alerted' and redis.call('XRANGE', prefix .. stream, id, id)[1]
    if entry and field(entry[2], 'cause') == event_id and field(entry[2], 'replay') == replay then return true end
  end
  return false
end

local function decide(id, key, own_replay)
  if unfinished(group, stream_name, id) then return 'queued' end
  local event_id, ids, state = string.sub(stream_name, #'events:' + 1) .. '-' .. id, {}, nil
  local progress = redis.call('HGETALL', prefix .. 'progress:' .. key)
  for i = 1, #progress, 2 do
    local stream, other = split_event_id(progress[i])
    if stream then ids[#ids + 1] = progress[i] end
    if stream == stream_name and group ~= 'alert' and is_after(other, id) then return 'older' end
    if progress[i] == 'state' then state = progress[i + 1] end
  end
  if is_moving(event_id, ids) then return 'moving' end
  local mark = prefix .. 'idem:processed:' .. key
  local own_mark = own_replay ~= '' and mark .. ':replay:' .. own_replay or mark
  -- What is acknowledged was told.
  if group == 'alert' or state == 'processed' or redis.call('EXISTS', own_mark) == 1 then
    if was_replayed(event_id, ids, mark) then return 'replayed' end
    if group == 'alert' then return is_forced and 'again' or 'processed' end
    local outcome = newest_outcome(ids)
    if takes_dry_runs and is_dry_run(outcome) then return 'again' end
    if not is_forced then return 'processed' end
    return has_ended_since(outcome) and 'replayed' or 'again'
  end
  return state == 'failed' and 'failed' or 'run'
end

local function hand_over(decision, id, key)
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 then return 'gone' end
  if only_look then return decision end
  local event_id = string.sub(stream_name, #'events:' + 1) .. '-' .. id
  if decision == 'failed' then redis.call('HDEL', prefix .. 'progress:' .. key, 'state') end
  if decision == 'again' then
    redis.call('HSET', KEYS[4], event_id, replay)
    local progress = prefix .. 'progress:' .. key
    if redis.call('HGET', progress, 'replayFailed') == event_id then redis.call('HDEL', progress, 'replayFailed') end
  end
  redis.call('HDEL', KEYS[3], event_id)
  redis.call('ZADD', KEYS[2], now, event_id)
  return decision
end

-- In the same step, so that neither a kill nor a lost reply makes it wrong.
local function count(handed_over)
  local json = redis.call('HGET', KEYS[5], replay)
  if handed_over == 0 or not json then return end
  local record = cjson.decode(json)
  record.handedOver = (record.handedOver or 0) + handed_over
  record.movedAt = now
  redis.call('HSET', KEYS[5], replay, cjson.encode(record))
end

local decisions, handed_over = {}, 0
for i = 9, #ARGV, 3 do
  local decision = decide(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if decision == 'run' or decision == 'failed' or decision == 'again' then
    decision = hand_over(decision, ARGV[i], ARGV[i + 1])
    if decision ~= 'gone' and not only_look then handed_over = handed_over + 1 end
  end
  decisions[#decisions + 1] = decision
end
count(handed_over)
return decisions
