#!lua flags=allow-oom
-- Forgets intents whose receipts stand in the stream, where nobody has added to them since.
--
-- KEYS[1] intents
-- ARGV: email, what was saved for it, email, …
local emails, expected = {}, {}
for i = 1, #ARGV, 2 do
  emails[#emails + 1] = ARGV[i]
  expected[#expected + 1] = ARGV[i + 1]
end
local dropped = {}
for i, now in ipairs(redis.call('HMGET', KEYS[1], unpack(emails))) do
  if now == expected[i] then dropped[#dropped + 1] = emails[i] end
end
if #dropped > 0 then redis.call('HDEL', KEYS[1], unpack(dropped)) end
return #dropped
