#!lua flags=allow-oom
-- Removes the consumers of dead workers that hold nothing any more: that is looked at and done in one step, as what a removed
-- consumer holds is gone without trace.
--
-- KEYS: alive, then the streams
-- ARGV: group, consumer that asks, idle for at least (ms)
-- Returns how many were removed
local group, own, idle_ms, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), now_ms()
local removed, standing = 0, { [own] = true }
for i = 2, #KEYS do
  local consumers = cursor_of(KEYS[i], group) and redis.call('XINFO', 'CONSUMERS', KEYS[i], group) or {}
  for _, info in ipairs(consumers) do
    local name = field(info, 'name')
    local beat = redis.call('HGET', KEYS[1], name)
    local is_alive = beat and beat ~= 'dead' and now - tonumber(beat) <= idle_ms
    if name ~= own and not is_alive and field(info, 'pending') == 0 and field(info, 'idle') > idle_ms then
      remove_consumer(KEYS[i], group, name)
      removed = removed + 1
    else
      standing[name] = true
    end
  end
end
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(name, 1, 1) ~= '*' and not standing[name] and redis.call('HGET', KEYS[1], name) == 'dead' then
    redis.call('HDEL', KEYS[1], name)
  end
end
return removed
