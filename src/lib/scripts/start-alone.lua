#!lua flags=allow-oom
-- Notes that a suspect begins to run in the isolation slot: if its worker dies now, that is held against it.
--
-- KEYS: stream, strikes
-- ARGV: group, consumer, id, event id
-- Returns 1, or 0 where the claim was lost
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
local strikes = parse_strikes(redis.call('HGET', KEYS[2], ARGV[4]))
if strikes then
  strikes.state, strikes.owner = 'alone', ARGV[2]
  redis.call('HSET', KEYS[2], ARGV[4], strikes_text(strikes))
end
return 1
