#!lua flags=no-writes
-- Entries of a range without their data, which may be large and is not asked for.
--
-- KEYS[1] stream
-- ARGV: first, last, count
-- Returns {id, flat fields} for each
local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  local slim = {}
  for i = 1, #entry[2], 2 do
    if entry[2][i] ~= 'data' then
      slim[#slim + 1] = entry[2][i]
      slim[#slim + 1] = entry[2][i + 1]
    end
  end
  entry[2] = slim
end
return entries
