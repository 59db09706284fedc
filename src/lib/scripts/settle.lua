#!lua flags=allow-oom
-- Finishes entries of one stream, each on its own: what came of it is appended, its progress and marks are set, and it is
-- acknowledged, in one atomic step. Only entries that the consumer still owns are touched, so sending it twice changes
-- nothing the second time, and a worker that lost its claim while paused can change nothing at all. A claim that was lost
-- to nobody, with the whole group, still counts.
-- It may run when Redis is out of memory: finishing is what drains the pipeline.
--
-- KEYS: source stream, attempts, ids of replays, then every other key that the outcomes name by its place in KEYS
-- ARGV: group, consumer, outcomes; then for each outcome:
--   id, event id, kind, had attempts, strikes or a replay's id (1|0), progress key, further by kind:
--     done: mark key (0: none), its TTL in seconds, events; then for each event: stream key, short name, fields, the fields
--     fail: stream key, fields, the fields
--     park | wait: sorted set key, delay in ms, attempts record
--     ack: nothing
-- Returns for each outcome 1, 2 where it stood settled like that before, as when a lost reply made the client send it again,
-- or 0 where the claim was lost, also to somebody who settled it otherwise and is done with it
local source, attempts = KEYS[1], KEYS[2]
local group, consumer, outcomes = ARGV[1], ARGV[2], tonumber(ARGV[3])
local at = 4
local now = now_ms()
local now_iso = iso(now)

local function next_arg()
  at = at + 1
  return ARGV[at - 1]
end
local function next_key() return KEYS[tonumber(next_arg())] end
local function next_fields()
  local count = tonumber(next_arg())
  local fields = {}
  for i = 1, count do fields[i] = next_arg() end
  return fields
end

-- Of the outcome at hand.
local appended = {}

-- The time of the append is the server's, so that the order of entries and their times agree.
local function append(stream, fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'at' then fields[i + 1] = now_iso end
  end
  local id = add_entry(stream, now, unpack(fields))
  appended[#appended + 1] = { stream, id }
  return id
end

local STANDS = { done = 'done', ack = 'done', fail = 'failed', park = 'put off', wait = 'put off' }

local parsed = {}
for i = 1, outcomes do
  local outcome = { id = next_arg(), event_id = next_arg(), kind = next_arg(), had_attempts = next_arg() == '1', progress = next_key() }
  if outcome.kind == 'done' then
    outcome.mark, outcome.ttl, outcome.events = next_key(), next_arg(), {}
    for n = 1, tonumber(next_arg()) do
      outcome.events[n] = { stream = next_key(), short = next_arg(), fields = next_fields() }
    end
  elseif outcome.kind == 'fail' then
    outcome.stream, outcome.fields = next_key(), next_fields()
  elseif outcome.kind == 'park' or outcome.kind == 'wait' then
    outcome.set, outcome.delay, outcome.record = next_key(), tonumber(next_arg()), next_arg()
  end
  parsed[i] = outcome
end

local prefix = string.match(source, '^(.*)events:%a+$')
local strikes_key = prefix .. 'strikes:' .. group
local first, last = ARGV[4], parsed[outcomes].id
local mine = owned(source, group, consumer, first, last, 10000)

local function put_down(outcome)
  if outcome.kind == 'done' then
    local changes, first = {}, outcome.events[1]
    if outcome.mark and first and field(first.fields, 'replay') then redis.call('HDEL', outcome.progress, 'replayFailed') end
    for _, event in ipairs(outcome.events) do
      changes[#changes + 1] = event.short .. '-' .. append(event.stream, event.fields)
      changes[#changes + 1] = ''
    end
    if outcome.mark then
      changes[#changes + 1] = 'state'
      changes[#changes + 1] = 'processed'
    end
    if #changes > 0 then redis.call('HSET', outcome.progress, unpack(changes)) end
    if outcome.mark then redis.call('SET', outcome.mark, '1', 'EX', outcome.ttl) end
  elseif outcome.kind == 'fail' then
    -- A replay that fails does not undo the first time: it stands open beside it.
    local is_repeat = field(outcome.fields, 'replay') and redis.call('HGET', outcome.progress, 'state') == 'processed'
    local name, value = 'state', 'failed'
    if is_repeat then name, value = 'replayFailed', outcome.event_id end
    redis.call('HSET', outcome.progress, 'failed-' .. append(outcome.stream, outcome.fields), '', name, value)
  elseif outcome.kind == 'park' or outcome.kind == 'wait' then
    redis.call('ZADD', outcome.set, now + outcome.delay, outcome.event_id)
    redis.call('HSET', attempts, outcome.event_id, outcome.record)
    -- It runs no more: a death of its worker now is none of its doing.
    local noted = outcome.had_attempts and parse_strikes(redis.call('HGET', strikes_key, outcome.event_id))
    if noted then set_put_off(strikes_key, outcome.event_id, noted) end
  end
end

local acked, cleared, settled = {}, {}, {}
local function settle(outcome)
  local claim = mine[outcome.id] and 'held' or restore_claim(prefix, source, group, consumer, outcome.event_id, outcome.id)
  if claim ~= 'held' and claim ~= 'restored' then return claim == STANDS[outcome.kind] and 2 or 0 end
  put_down(outcome)
  mine[outcome.id] = nil
  acked[#acked + 1] = outcome.id
  if outcome.had_attempts and (outcome.kind == 'done' or outcome.kind == 'fail' or outcome.kind == 'ack') then
    cleared[#cleared + 1] = outcome.event_id
  end
  return 1
end

local function acknowledge()
  if #acked > 0 then redis.call('XACK', source, group, unpack(acked)) end
  if #cleared > 0 then
    redis.call('HDEL', attempts, unpack(cleared))
    redis.call('HDEL', KEYS[3], unpack(cleared))
    redis.call('HDEL', strikes_key, unpack(cleared))
  end
end

require_rights(source)
for i, outcome in ipairs(parsed) do
  appended = {}
  local is_well, result = pcall(settle, outcome)
  -- As where somebody has put a text in the place of a hash. It will be tried again, so what it has appended must go; those
  -- before it are finished.
  if not is_well then
    for _, entry in ipairs(appended) do
      redis.call('XDEL', entry[1], entry[2])
      redis.call('HINCRBY', prefix .. 'trimmed', string.sub(entry[1], #prefix + 1), 1)
    end
    acknowledge()
    error(result)
  end
  settled[i] = result
end
acknowledge()
return settled
