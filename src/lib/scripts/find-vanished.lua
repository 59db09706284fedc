#!lua flags=allow-oom
-- Reports what was deleted from a stream before a group came to it: of chains that have come to no end, each entry that is
-- gone, unless a group holds it still and will find that itself, or it was reported before.
--
-- KEYS: progress of some chains
-- ARGV: key prefix, JSON of the groups that read each stream, JSON of the streams in the order of the pipeline
-- Returns {{event id, group} of each that was reported, how many are held still}: who holds one may find out without a word,
-- as Redis takes a deleted entry out of what is pending when its claim is renewed
local prefix, readers = ARGV[1], cjson.decode(ARGV[2])
local reported, held = {}, 0

local function is_held(group, stream, id, event_id)
  local delivered = redis.call('EXISTS', prefix .. stream) == 1 and delivered_by_group(prefix .. stream)[group]
  local is_pending = delivered and #redis.call('XPENDING', prefix .. stream, group, id, id, 1) > 0
  return is_pending or is_put_off(prefix, group, event_id)
end

local depth = {}
for place, stream in ipairs(cjson.decode(ARGV[3])) do depth[stream] = place end

-- What came before the last step of the current try was done with: it led there. Within a millisecond ids of two streams do
-- not tell which was first, the pipeline does.
local function last_step(key)
  local last_stream, last_id
  local _, try = split_event_id(redis.call('HGET', key, 'id') or '')
  for _, event_id in ipairs(try and redis.call('HKEYS', key) or {}) do
    local stream, id = split_event_id(event_id)
    local is_step = stream and readers[stream] and readers[stream][1] ~= 'alert'
    local is_own = is_step and is_of_try(id, try)
    local is_deeper = is_own and (not last_id or depth[stream] > depth[last_stream])
    if is_deeper or (is_own and stream == last_stream and is_after(id, last_id)) then last_stream, last_id = stream, id end
  end
  return last_stream, last_id
end

for _, key in ipairs(KEYS) do
  local stream, id = last_step(key)
  if stream and redis.call('HEXISTS', key, 'state') == 0 and #redis.call('XRANGE', prefix .. stream, id, id) == 0 then
    local event_id = string.sub(stream, #'events:' + 1) .. '-' .. id
    local is_told = redis.call('EXISTS', prefix .. 'progress:lost:' .. event_id) == 1
    local group = readers[stream][1]
    if not is_told and is_held(group, stream, id, event_id) then
      held = held + 1
    elseif not is_told then
      report_lost(prefix, event_id, group)
      reported[#reported + 1] = { event_id, group }
    end
  end
end
return { reported, held }
