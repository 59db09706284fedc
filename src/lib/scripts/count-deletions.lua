#!lua flags=allow-oom
-- How many entries were deleted from each stream by somebody else than trimming: those added, less those there, less those trimmed.
--
-- KEYS: how many were trimmed by stream, then the streams
-- ARGV: the streams' names
-- Returns the counts, separated by commas
local counts = {}
for i = 2, #KEYS do
  local count = 0
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    local trimmed = tonumber(redis.call('HGET', KEYS[1], ARGV[i - 1]) or 0)
    count = field(info, 'entries-added') - field(info, 'length') - trimmed
  end
  counts[#counts + 1] = string.format('%d', count)
end
return table.concat(counts, ',')
