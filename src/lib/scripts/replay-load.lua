#!lua flags=no-writes
-- How much waits in a group that is replayed to, and in the groups that go on with what it writes: put off or, in the latter,
-- not yet read. New entries of the former do not count: they take turns with the replay's.
--
-- KEYS[1] parked entries of the first group
-- ARGV: key prefix, count that need not be exceeded, then for each group its name and the streams (JSON) that count
-- Returns for each group {entries that wait, ms since a worker of it was heard (-1: never), paused providers that entries
-- wait for}
local prefix, enough, now = ARGV[1], tonumber(ARGV[2]), now_ms()
-- What is looked at to be counted is copied.
local BYTES_MAX = 4194304

local function count_after(stream, id)
  local count, bytes = 0, 0
  while count < enough do
    local entry = redis.call('XRANGE', stream, '(' .. id, '+', 'COUNT', 1)[1]
    if not entry then return count end
    for _, text in ipairs(entry[2]) do bytes = bytes + #text end
    if bytes > BYTES_MAX then return enough end
    id, count = entry[1], count + 1
  end
  return count
end

-- Counted, as what Redis says of it is too high from a restart on (`unread.ts`): a replay would wait for ever.
local function unread(stream, group)
  if redis.call('EXISTS', stream) == 0 then return 0 end
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if field(info, 'name') == group then
      return count_after(stream, field(info, 'last-delivered-id'))
    end
  end
  return redis.call('XLEN', stream)
end

local loads = {}
for i = 3, #ARGV, 2 do
  local group, count, paused = ARGV[i], 0, {}
  for _, stream in ipairs(cjson.decode(ARGV[i + 1])) do count = count + unread(prefix .. stream, group) end
  count = count + redis.call('ZCARD', prefix .. 'parked:' .. group)
  for _, provider in ipairs({ 'gemini', 'zoho', 'slack' }) do
    local waiting = redis.call('ZCARD', prefix .. 'waiting:' .. group .. ':' .. provider)
    count = count + waiting
    if waiting > 0 and redis.call('EXISTS', prefix .. 'pause:' .. provider) == 1 then paused[#paused + 1] = provider end
  end
  local heard_at = redis.call('HGET', prefix .. 'alive:' .. group, '*last')
  loads[#loads + 1] = { count, heard_at and now - tonumber(heard_at) or -1, paused }
end
return loads
