#!lua flags=allow-oom
-- Records what was done, once: sent again after a lost reply it finds its entry among the latest.
--
-- KEYS[1] stream of operations
-- ARGV: key of the entry, version of its type, data
-- Returns the id of the entry
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 100)) do
  if field(entry[2], 'key') == ARGV[1] then return entry[1] end
end
local now = now_ms()
return add_entry(KEYS[1], now, 'type', 'operation.done', 'key', ARGV[1], 'at', iso(now), 'v', ARGV[2], 'data', ARGV[3])
