#!lua flags=allow-oom
-- Takes over entries that nobody has kept alive for a while: of dead workers, of workers that have stopped, and of reads
-- whose reply was lost. Only what a dead worker had started counts as a crash. After the first an entry runs as usual, its
-- start being noted from then on; after more it is a suspect and is only taken for the isolation slot, those with the fewest
-- crashes first. What crashed its worker alone, again and again, is condemned, but not while workers die without it as well:
-- then something else kills them. That is found out by keeping the slot empty for a while after each crash in it.
--
-- KEYS: stream, attempts, alive, strikes
-- ARGV: group, consumer, visibility timeout (ms), cursor, count, key prefix, whether a vanished entry is reported (1|0),
--       the stream's short name, room in the isolation slot, crashes after which an entry may be condemned, all groups
--       separated by commas
-- Returns {next cursor, entries of {id, fields, done, attempts record, strikes}, {vanished ids, suspects left behind,
-- whether others were left behind for want of room (1|0)}}
local stream, attempts, alive, strikes_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer, visibility_ms, room, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5]), ARGV[6]
local short, alone_room, crashes_max = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local PAGE, SCAN_MAX = 200, 600
-- Twice alone may be chance, and no worker may have died since without it.
local ALONE_CRASHES = 3

local now, beats, may_be_dead

-- The strikes after this delivery; nothing where there is none.
local function judge(event_id, died)
  local strikes = parse_strikes(redis.call('HGET', strikes_key, event_id))
  if not strikes and not died then return end
  strikes = strikes or { crashes = 0, alone = 0, longest = 0, deaths = 0, state = 'run' }
  if strikes.state == 'condemned' then return strikes end
  if died and strikes.state == 'alone' then
    -- As a rule that was counted when the death was seen.
    count_alone(strikes, tonumber(beats['*deaths'] or 0), 0)
  elseif died and (strikes.crashes == 0 or strikes.state == 'begun') then
    -- At its first crash it is not known whether it had begun: what is handed out begins within the same moment.
    strikes.crashes = strikes.crashes + 1
  end
  strikes.state = strikes.crashes >= SUSPECT_CRASHES and 'wait' or 'run'
  local is_in_row = strikes.deaths == tonumber(beats['*deaths'] or 0)
  if is_in_row and strikes.crashes >= crashes_max and strikes.alone >= ALONE_CRASHES then strikes.state = 'condemned' end
  return strikes
end

local entries, vanished, suspects, emptied, is_behind, bytes = {}, {}, {}, false, 0, 0

local function take(row)
  local event_id = short .. '-' .. row.id
  local count = row.deliveries + (row.died and 1 or 0)
  local claimed = redis.call('XCLAIM', stream, group, consumer, 0, row.id, 'RETRYCOUNT', count)[1]
  if row.owner == HANDED_BACK then emptied = true end
  if not claimed or not claimed[2] then
    vanished[#vanished + 1] = row.id
    redis.call('HDEL', attempts, event_id)
    redis.call('HDEL', strikes_key, event_id)
    if ARGV[7] == '1' then report_lost(prefix, event_id, group) end
    return false
  end
  bytes = bytes + bytes_of(claimed[2])
  if row.strikes then redis.call('HSET', strikes_key, event_id, strikes_text(row.strikes)) end
  with_replay(prefix, group, event_id, claimed[2])
  entries[#entries + 1] = { row.id, claimed[2], 0, redis.call('HGET', attempts, event_id) or '', strikes_told(row.strikes) }
  return true
end

local function consider(row)
  if not now then
    now = now_ms()
    beats, may_be_dead = look_around(prefix, ARGV[11], group, consumer, now, visibility_ms)
  end
  row.died = row.owner ~= HANDED_BACK and row.owner ~= consumer and is_dead(beats[row.owner], now, visibility_ms)
  if row.died and not may_be_dead then return end
  row.strikes = judge(short .. '-' .. row.id, row.died)
  if row.strikes and row.strikes.state == 'wait' then
    suspects[#suspects + 1] = row
  elseif room < 1 or bytes >= BYTES_MAX then
    is_behind = 1
  elseif take(row) then
    room = room - 1
  end
end

-- Of what was delivered in the future, as it seems since the clock went back, Redis tells no idle time for as long as it
-- went. A dead worker's is delivered anew, so that it is found a visibility timeout later: at once would be too early for one
-- that is late.
local is_gone = {}
local function rebase(id, owner, deliveries)
  if is_gone[owner] == nil then is_gone[owner] = redis.call('HGET', alive, owner) == 'dead' end
  if not is_gone[owner] then return end
  redis.call('XCLAIM', stream, group, owner, 0, id, 'IDLE', 1, 'RETRYCOUNT', deliveries, 'JUSTID')
end

local cursor, scanned = ARGV[4], 0
repeat
  local start = cursor == '0-0' and '-' or '(' .. cursor
  local page = redis.call('XPENDING', stream, group, start, '+', PAGE)
  for _, item in ipairs(page) do
    local id, owner, idle_ms, deliveries = item[1], item[2], item[3], item[4]
    if idle_ms >= visibility_ms then consider({ id = id, owner = owner, deliveries = deliveries })
    elseif idle_ms <= 0 then rebase(id, owner, deliveries) end
    cursor = item[1]
  end
  scanned = scanned + #page
  if #page < PAGE then cursor = '0-0' end
until cursor == '0-0' or scanned >= SCAN_MAX or (room < 1 and alone_room < 1)

table.sort(suspects, function(a, b) return a.strikes.crashes < b.strikes.crashes end)
local left = #suspects
for _, row in ipairs(suspects) do
  if alone_room > 0 then
    if take(row) then alone_room = alone_room - 1 end
    left = left - 1
  end
end
if emptied and #redis.call('XPENDING', stream, group, '-', '+', 1, HANDED_BACK) == 0 then
  remove_consumer(stream, group, HANDED_BACK)
end
return { cursor, with_marks(entries, prefix), { vanished, left, is_behind } }
