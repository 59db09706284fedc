#!lua flags=allow-oom
-- Hands a failed entry to its group again, with a new count of attempts. Only an event that stands failed can be redriven,
-- so a second call does nothing; sent again, as its reply was lost, it answers as it did. A replay that failed goes on as that
-- replay.
--
-- KEYS: progress, parked, attempts, ids of replays, the failed entry's stream, what this run has redriven
-- ARGV: event id, its redis id, id of the replay that failed ('' for none), only look (1|0)
-- Returns 'redriven', 'not_failed', 'lost' or 'gone'
local REMEMBERED_S = 60
if redis.call('SISMEMBER', KEYS[6], ARGV[1]) == 1 then return 'redriven' end
local state = redis.call('HGET', KEYS[1], 'state')
local is_replay = ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'replayFailed') == ARGV[1]
if state == 'lost' then return 'lost' end
if state ~= 'failed' and not is_replay then return 'not_failed' end
if #redis.call('XRANGE', KEYS[5], ARGV[2], ARGV[2]) == 0 then return 'gone' end
if ARGV[4] == '1' then return 'redriven' end
redis.call('HDEL', KEYS[1], is_replay and 'replayFailed' or 'state')
redis.call('HDEL', KEYS[3], ARGV[1])
if is_replay then redis.call('HSET', KEYS[4], ARGV[1], ARGV[3]) end
redis.call('ZADD', KEYS[2], now_ms(), ARGV[1])
redis.call('SADD', KEYS[6], ARGV[1])
redis.call('EXPIRE', KEYS[6], REMEMBERED_S)
return 'redriven'
