#!lua flags=allow-oom
-- Makes a group where it is missing: at its start, or after what is known to be done where it was there before and the stream
-- was not emptied. Never at the end, which would pass over what came meanwhile.
--
-- KEYS: cursors, then the streams
-- ARGV: group, then the streams' names
-- Returns {name, where it begins, whether it was there before (1|0)} of each that was made
local group, made = ARGV[1], {}

local function is_never_deleted(stream)
  local info = redis.call('XINFO', 'STREAM', stream)
  return field(info, 'entries-added') == field(info, 'length')
end

for i = 2, #KEYS do
  local name = ARGV[i]
  if not cursor_of(KEYS[i], group) then
    local done, last = redis.call('HGET', KEYS[1], 'done:' .. name), last_id_of(KEYS[i])
    local from = done and not is_after(done, last) and done or '0-0'
    -- A new group of a stream that is whole can be counted from here; one whose count is unknown is looked at more closely.
    local is_whole = not done and (last == '0-0' or is_never_deleted(KEYS[i]))
    redis.call('XGROUP', 'CREATE', KEYS[i], group, from, 'MKSTREAM', 'ENTRIESREAD', is_whole and 0 or -1)
    redis.call('HDEL', KEYS[1], 'upto:' .. name, 'hold:' .. name)
    for _, noted in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.sub(noted, 1, #name + 4) == 'in:' .. name .. ':' then redis.call('HDEL', KEYS[1], noted) end
    end
    redis.call('HSET', KEYS[1], 'done:' .. name, from, 'high:' .. name, from)
    if done and is_after(last, from) then
      redis.call('HSET', KEYS[1], 'upto:' .. name, last, 'hold:' .. name, now_ms() + HOLD_MS)
    end
    made[#made + 1] = { name, from, done and 1 or 0 }
  end
end
return made
