-- Takes in one webhook: the guards, the entry and what is remembered of it change in this one step, or nothing does.
-- XADD is the first write. At Redis' memory limit it is refused, and so the whole script, before anything was written;
-- without a shebang line a known event, which writes nothing, is still answered then.
--
-- KEYS  1 stream  2 idem:seen  3 idem:processed  4 progress (2 to 4 of the key, or of the first of its revisions)
-- ARGV  1 mode  2 lifetime of idem:seen in seconds  3 what event ids of the stream begin with  4 type  5 key  6 version
--       7 data  8 content hash ('' for none)
-- mode 'once':      a body kept for a fix.           ARGV 9 source  10 reason
-- mode 'unchanged': other content is kept for a fix. ARGV 9 delivery  10 group that reads it  11 source
--                   12 key of the kept body  13 version of its type
--                   KEYS 5 rejected stream  6 its idem:seen  7 its progress
-- mode 'revisions': other content is a new revision. ARGV 9 delivery  10 group that reads it
--                   11 hash of the request id ('' for none)
--                   KEYS 5 request ids of duplicates
-- A delivery makes one entry, however often it is sent: its name stands in that. Another one of an
-- event that has failed, or of which an entry was deleted before its end, is a new try. One without a name is only asked
-- about: the answer is the same, without the id of what would be made, and nothing changes.
-- Answers {'accepted' | 'duplicate', event id of the current try or '', key, 'changed' or ''}.
local mode, lifetime, data, hash = ARGV[1], ARGV[2], ARGV[7], ARGV[8]
local prefix = string.sub(KEYS[4], 1, #KEYS[4] - #('progress:' .. ARGV[5]))

local function append(entry, ...)
  require_rights(entry.stream)
  local now = now_ms()
  local id = add_entry(entry.stream, now, 'type', entry.type, 'key', entry.key, 'at', iso(now), 'v', entry.version,
    'data', data, ...)
  local event_id = entry.stream_name .. '-' .. id
  redis.call('SET', entry.seen, event_id, 'EX', lifetime)
  redis.call('HSET', entry.progress, 'id', event_id, event_id, '')
  return event_id
end

-- While `idem:seen` lives both say the same; afterwards the progress answers.
local function current_try(entry)
  return redis.call('HGET', entry.progress, 'id') or redis.call('GET', entry.seen)
end

local function reject(entry, source, reason, ...)
  local event_id = append(entry, 'source', source, 'reason', reason, ...)
  redis.call('HSET', entry.progress, 'state', 'rejected')
  return event_id
end

-- The first revision's progress also holds `rev`, the latest revision's number, and which revision each accepted request
-- id (`q:`) and each content (`h:`) belongs to. Request ids of duplicates stand in no entry, so they are kept apart.
local function find_revision(request)
  if request ~= '' then
    local known = redis.call('HGET', KEYS[4], 'q:' .. request) or redis.call('HGET', KEYS[5], request)
    if known then return tonumber(known) end
  end
  local latest = tonumber(redis.call('HGET', KEYS[4], 'rev')) or 0
  local same = tonumber(redis.call('HGET', KEYS[4], 'h:' .. hash))
  if same and (same == latest or request == '') then return same end
  return latest + 1
end

local function remember_revision(revision, request)
  local latest = tonumber(redis.call('HGET', KEYS[4], 'rev')) or 0
  local same = tonumber(redis.call('HGET', KEYS[4], 'h:' .. hash)) or 0
  redis.call('HSET', KEYS[4], 'rev', math.max(latest, revision), 'h:' .. hash, math.max(same, revision))
  if request ~= '' then redis.call('HSET', KEYS[4], 'q:' .. request, revision) end
end

local function remember_duplicate(revision, request)
  if request == '' or redis.call('HEXISTS', KEYS[4], 'q:' .. request) == 1 then return end
  redis.call('HSET', KEYS[5], request, revision)
  -- They are trimmed with the meeting; of one that only a mark is left of there is nothing to trim.
  if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('EXPIRE', KEYS[5], lifetime) end
end

-- Whether a try of the event is this very delivery's. Its entries are asked, so that nothing more is kept of each event; it
-- is seldom asked.
local function has_made_entry(entry, delivery)
  for _, event_id in ipairs(redis.call('HKEYS', entry.progress)) do
    local stream, id = split_event_id(event_id)
    local try = stream == 'events:' .. entry.stream_name and redis.call('XRANGE', entry.stream, id, id)[1]
    if try and field(try[2], 'delivery') == delivery then return true end
  end
  return false
end

-- Event ids of what came of the current try. In its own stream there is but that; others there are earlier ones.
local function later_steps(entry, try)
  local steps = {}
  for _, event_id in ipairs(redis.call('HKEYS', entry.progress)) do
    local stream, id = split_event_id(event_id)
    if id and stream ~= 'events:' .. entry.stream_name and is_of_try(id, try) then steps[#steps + 1] = event_id end
  end
  return steps
end

-- What was deleted before it came to its end comes to none any more: its entry, or a later step, of which that was told.
-- Where nothing but `idem:seen` is left it has ended. Returns whether that is so, and the entry where nobody has done it.
local function find_vanished(entry)
  local own = redis.call('HGET', entry.progress, 'id') or ''
  local _, try = split_event_id(own)
  if not try or redis.call('EXISTS', entry.processed) == 1 then return false end
  local steps = later_steps(entry, try)
  if #redis.call('XRANGE', entry.stream, try, try) == 0 then return true, #steps == 0 and own or nil end
  for _, step in ipairs(steps) do
    if redis.call('HGET', prefix .. 'progress:lost:' .. step, 'state') == 'lost' then return true end
  end
  return false
end

-- Other content under a known key, kept once for each body; each says of the other that there is one.
local function keep_changed(entry)
  local first = redis.call('HGET', entry.progress, 'hash')
  if not first or first == hash or has_made_entry(entry, ARGV[9]) then return '' end
  local kept = { stream = KEYS[5], seen = KEYS[6], progress = KEYS[7], stream_name = 'rejected',
    type = 'webhook.rejected', key = ARGV[12], version = ARGV[13] }
  if not current_try(kept) then
    redis.call('HSET', entry.progress, 'changed-' .. reject(kept, ARGV[11], 'changed', 'of', entry.key), '')
  end
  return 'changed'
end

local is_question = mode ~= 'once' and ARGV[9] == ''
local revision = mode == 'revisions' and find_revision(ARGV[11]) or 1
local suffix = revision > 1 and ':r' .. revision or ''
local entry = { stream = KEYS[1], seen = KEYS[2] .. suffix, progress = KEYS[4] .. suffix, stream_name = ARGV[3],
  processed = KEYS[3] .. suffix, type = ARGV[4], key = ARGV[5] .. suffix, version = ARGV[6] }

local event_id = current_try(entry)
local is_known = event_id or redis.call('EXISTS', entry.processed) == 1
local state = redis.call('HGET', entry.progress, 'state')
local has_vanished, undone = false, nil
if not state then has_vanished, undone = find_vanished(entry) end
local has_failed = state == 'failed' or has_vanished
if is_known and (not has_failed or has_made_entry(entry, ARGV[9])) then
  if is_question then return { 'duplicate', event_id or '', entry.key, '' } end
  if mode == 'revisions' then remember_duplicate(revision, ARGV[11]) end
  return { 'duplicate', event_id or '', entry.key, mode == 'unchanged' and keep_changed(entry) or '' }
end

if is_question then return { 'accepted', '', entry.key, '' } end
if mode == 'once' then return { 'accepted', reject(entry, ARGV[9], ARGV[10]), entry.key, '' } end

if mode == 'revisions' and ARGV[11] ~= '' then
  event_id = append(entry, 'hash', hash, 'delivery', ARGV[9], 'request', ARGV[11])
else
  event_id = append(entry, 'hash', hash, 'delivery', ARGV[9])
end
if undone then report_lost(prefix, undone, ARGV[10]) end
redis.call('HSETNX', entry.progress, 'hash', hash)
redis.call('HDEL', entry.progress, 'state')
if mode == 'revisions' then remember_revision(revision, ARGV[11]) end
return { 'accepted', event_id, entry.key, '' }
