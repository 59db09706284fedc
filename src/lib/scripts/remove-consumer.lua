#!lua flags=allow-oom
-- Takes a consumer that stops out of its group. Where it still holds something it stays, as that would be gone without trace.
--
-- KEYS: alive, then the streams
-- ARGV: group, consumer
-- Returns 1 when it is gone
local is_gone = 1
for i = 2, #KEYS do
  if cursor_of(KEYS[i], ARGV[1]) then
    if #redis.call('XPENDING', KEYS[i], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[i], ARGV[1], ARGV[2])
    else
      is_gone = 0
    end
  end
end
if is_gone == 1 then redis.call('HDEL', KEYS[1], ARGV[2]) end
return is_gone
