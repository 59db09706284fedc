#!lua flags=allow-oom
-- How many entries were deleted from each stream by somebody else than trimming: those added, less those there, less those
-- trimmed. A stream that was deleted whole and made anew counts from nothing again: that its first entry is another one,
-- although none was deleted or trimmed, tells it.
--
-- KEYS: how many were trimmed by stream, then the streams
-- ARGV: the streams' names
-- Returns 'deleted:trimmed:first entry' of each, separated by commas; '0-0' where there is no entry
local counts = {}
for i = 2, #KEYS do
  local trimmed, deleted, first = tonumber(redis.call('HGET', KEYS[1], ARGV[i - 1]) or 0), 0, '0-0'
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    deleted = field(info, 'entries-added') - field(info, 'length')
    local entry = field(info, 'first-entry')
    if entry then first = entry[1] end
  end
  counts[#counts + 1] = string.format('%d:%d:%s', deleted - trimmed, trimmed, first)
end
return table.concat(counts, ',')
