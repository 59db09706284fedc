#!lua flags=allow-oom
-- Finds what is pending to a consumer without its knowing: the reply that handed it out was lost with a connection.
--
-- KEYS: stream, attempts, strikes
-- ARGV: group, consumer, count, key prefix, whether a vanished entry is reported (1|0), the stream's short name, room in the
--       isolation slot, then the ids that it holds
-- Returns {entries of {id, fields, done, attempts record, strikes}, vanished ids, how many are left}
local stream, group, consumer, room, prefix = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local short, alone_room = ARGV[6], tonumber(ARGV[7])
local held, entries, vanished, left, bytes = {}, {}, {}, 0, 0
for i = 8, #ARGV do held[ARGV[i]] = true end

local function take(id, deliveries, strikes)
  local event_id = short .. '-' .. id
  local claimed = redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]
  if not claimed or not claimed[2] then
    vanished[#vanished + 1] = id
    redis.call('HDEL', KEYS[2], event_id)
    redis.call('HDEL', KEYS[3], event_id)
    if ARGV[5] == '1' then report_lost(prefix, event_id, group) end
    return
  end
  bytes = bytes + bytes_of(claimed[2])
  with_replay(prefix, group, event_id, claimed[2])
  entries[#entries + 1] = { id, claimed[2], 0, redis.call('HGET', KEYS[2], event_id) or '', strikes_told(strikes) }
end

for _, row in ipairs(redis.call('XPENDING', stream, group, '-', '+', 10000, consumer)) do
  local id = row[1]
  if not held[id] then
    -- It does not run, whatever was noted when it began.
    local strikes = put_off_own(KEYS[3], short .. '-' .. id, consumer)
    local is_suspect = strikes and (strikes.state == 'wait' or strikes.state == 'alone')
    if bytes >= BYTES_MAX then
      left = left + 1
    elseif is_suspect and alone_room > 0 then
      alone_room = alone_room - 1
      take(id, row[4], strikes)
    elseif not is_suspect and room > 0 then
      room = room - 1
      take(id, row[4], strikes)
    else
      left = left + 1
    end
  end
end
return { with_marks(entries, prefix), vanished, left }
