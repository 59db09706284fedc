#!lua flags=no-writes
-- Entries of a range without their data, which may be large and is not asked for. XRANGE copies it all the same: so they are
-- looked at one by one, and one call ends after some megabytes.
--
-- KEYS[1] stream
-- ARGV: first, last, count, text to look for in the data ('' for none)
-- Returns {1 at the end of the range, 0 where it goes on; {id, flat fields, 1 where the text was found or else 0} for each}
local BYTES_MAX = 4194304
local first, left, text, bytes, entries = ARGV[1], tonumber(ARGV[3]), ARGV[4], 0, {}
while left > 0 and bytes < BYTES_MAX do
  local entry = redis.call('XRANGE', KEYS[1], first, ARGV[2], 'COUNT', 1)[1]
  if not entry then return { 1, entries } end
  local slim, found = {}, 0
  for i = 1, #entry[2], 2 do
    bytes = bytes + #entry[2][i + 1]
    if entry[2][i] ~= 'data' then
      slim[#slim + 1] = entry[2][i]
      slim[#slim + 1] = entry[2][i + 1]
    elseif text ~= '' and string.find(entry[2][i + 1], text, 1, true) then found = 1
    end
  end
  entries[#entries + 1] = { entry[1], slim, found }
  first, left = '(' .. entry[1], left - 1
end
return { 0, entries }
