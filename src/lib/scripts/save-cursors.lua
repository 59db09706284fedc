#!lua flags=allow-oom
-- Keeps in mind how far a group is, for the case that it is destroyed or its cursor moved by hand. Asked by every worker,
-- done once in a while.
--
-- KEYS: cursors, then the streams
-- ARGV: group, how often (ms), then the streams' names
local group, now = ARGV[1], now_ms()
local age = now - tonumber(redis.call('HGET', KEYS[1], 'at') or 0)
-- Less than nothing where the clock went back since.
if age >= 0 and age < tonumber(ARGV[2]) then return end
local changes = { 'at', now }
for i = 2, #KEYS do
  local name, delivered = ARGV[i + 1], cursor_of(KEYS[i], group)
  if delivered and not repeated_span(KEYS[1], name, KEYS[i], group, delivered) then
    local first = redis.call('XPENDING', KEYS[i], group)[2]
    local done = first and not is_after(first, delivered) and before_id(first) or delivered
    for _, change in ipairs({ 'done:' .. name, done, 'high:' .. name, delivered }) do changes[#changes + 1] = change end
  end
end
redis.call('HSET', KEYS[1], unpack(changes))
