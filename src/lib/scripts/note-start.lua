#!lua flags=allow-oom
-- Notes that an entry which was in a crash before begins to run, as usual or in the isolation slot: if its worker dies now,
-- that is held against it. In the isolation slot nothing starts while it is looked whether workers die without it as well.
--
-- KEYS: stream, strikes, alive
-- ARGV: group, consumer, id, event id, 'begun' or 'alone'
-- Returns 1, 0 where the claim was lost, or for how long it has to wait, as a negative number (ms)
local now, state = now_ms(), ARGV[5]
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
local control = state == 'alone' and tonumber(redis.call('HGET', KEYS[3], '*control') or 0) or 0
if control > now then return now - control end
local strikes = parse_strikes(redis.call('HGET', KEYS[2], ARGV[4]))
if strikes then
  strikes.state, strikes.owner, strikes.since = state, ARGV[2], now
  redis.call('HSET', KEYS[2], ARGV[4], strikes_text(strikes))
end
return 1
