#!lua flags=allow-oom
-- Keeps in mind how far a group is, for the case that it is destroyed or its cursor moved by hand, and who stands in it: what a
-- consumer held that is removed by hand is nobody's, so what the group may have had since all was done is looked at again.
-- Asked by every worker, done once in a while.
--
-- KEYS: cursors, then the streams
-- ARGV: group, how often (ms), then the streams' names
-- Returns the consumers that were removed by hand
local group, now = ARGV[1], now_ms()
local age = now - tonumber(redis.call('HGET', KEYS[1], 'at') or 0)
-- Less than nothing where the clock went back since.
if age >= 0 and age < tonumber(ARGV[2]) then return {} end
local changes, removed = { 'at', now }, {}

local stood = {}
for _, field_name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local name, consumer = string.match(field_name, '^in:(events:%a+):(.*)$')
  if name then
    stood[name] = stood[name] or {}
    stood[name][consumer] = true
  end
end

local function forget_removed(stream, name)
  local gone = stood[name] or {}
  for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local consumer = field(info, 'name')
    -- Of one that never held anything Redis may forget that it was there, as its file and its replicas are not told.
    if not gone[consumer] and field(info, 'pending') > 0 then
      changes[#changes + 1] = 'in:' .. name .. ':' .. consumer
      changes[#changes + 1] = ''
    end
    gone[consumer] = nil
  end
  for consumer in pairs(gone) do
    redis.call('HDEL', KEYS[1], 'in:' .. name .. ':' .. consumer)
    removed[#removed + 1] = consumer
  end
  return next(gone) ~= nil
end

for i = 2, #KEYS do
  local name = ARGV[i + 1]
  local delivered, came_by_reading = cursor_of(KEYS[i], group)
  local span = delivered and repeated_span(KEYS[1], name, KEYS[i], group, delivered, came_by_reading)
  if delivered and forget_removed(KEYS[i], name) then
    begin_span(KEYS[1], name, KEYS[i], group, redis.call('HGET', KEYS[1], 'done:' .. name) or '0-0', span and span.upto or delivered)
  elseif delivered and not span then
    local first = redis.call('XPENDING', KEYS[i], group)[2]
    local done = first and not is_after(first, delivered) and before_id(first) or delivered
    for _, change in ipairs({ 'done:' .. name, done, 'high:' .. name, delivered }) do changes[#changes + 1] = change end
  end
end
redis.call('HSET', KEYS[1], unpack(changes))
return removed
