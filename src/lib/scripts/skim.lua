#!lua flags=no-writes
-- Entries of a range without their data, which may be large and is not asked for. XRANGE copies it all the same: so they are
-- looked at one by one, and one call ends after some megabytes.
--
-- KEYS[1] stream
-- ARGV: first, last, count, a text ('' for none): entries whose data does not hold it are passed over
-- Returns {1 at the end of the range, 0 where it goes on; id of the last entry that was looked at; {id, flat fields} for each}
local BYTES_MAX = 4194304
local first, left, text, bytes, entries, seen = ARGV[1], tonumber(ARGV[3]), ARGV[4], 0, {}, ''
while left > 0 and bytes < BYTES_MAX do
  local entry = redis.call('XRANGE', KEYS[1], first, ARGV[2], 'COUNT', 1)[1]
  if not entry then return { 1, seen, entries } end
  local slim, is_wanted = {}, text == ''
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    bytes = bytes + #value
    if name == 'data' then
      is_wanted = is_wanted or string.find(value, text, 1, true) ~= nil
    else
      slim[#slim + 1] = name
      slim[#slim + 1] = value
    end
  end
  if is_wanted then entries[#entries + 1] = { entry[1], slim } end
  seen = entry[1]
  first, left = '(' .. seen, left - 1
end
return { 0, seen, entries }
