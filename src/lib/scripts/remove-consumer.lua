#!lua flags=allow-oom
-- Removes a consumer that holds nothing; with pending entries it stays, as they would be gone without trace.
--
-- KEYS[1] stream
-- ARGV: group, consumer
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])) do
  if entry then return 0 end
end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) and 1
