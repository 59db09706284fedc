#!lua flags=allow-oom
-- Takes over entries that nobody has kept alive for a while: of dead workers, and of reads whose reply was lost.
--
-- KEYS: stream, attempts
-- ARGV: group, consumer, least idle time (ms), cursor, count, key prefix, whether a vanished entry is reported (1|0),
--       the stream's short name
-- Returns {next cursor, entries of {id, fields, done, deliveries, attempts record}, vanished ids}
local group, consumer, prefix = ARGV[1], ARGV[2], ARGV[6]
local reply = redis.call('XAUTOCLAIM', KEYS[1], group, consumer, ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local cursor, entries, vanished = reply[1], reply[2], reply[3] or {}
for _, id in ipairs(vanished) do
  if ARGV[7] == '1' then report_lost(prefix, ARGV[8] .. '-' .. id, group) end
end
if #entries > 0 then
  for _, entry in ipairs(entries) do with_replay(prefix, group, ARGV[8] .. '-' .. entry[1], entry[2]) end
  with_marks(entries, prefix)
  local deliveries = owned(KEYS[1], group, consumer, entries[1][1], entries[#entries][1], 10000)
  for _, entry in ipairs(entries) do
    entry[4] = deliveries[entry[1]] or 1
    entry[5] = redis.call('HGET', KEYS[2], ARGV[8] .. '-' .. entry[1]) or ''
  end
end
return { cursor, entries, vanished }
