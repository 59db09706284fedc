#!lua flags=allow-oom
-- Hands new entries of one stream to a consumer, no more than it has slots for, and says of each whether the pipeline is
-- done with its event already.
--
-- KEYS[1] stream
-- ARGV: group, consumer, count, key prefix
local fresh = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
if not fresh then return {} end
return with_marks(fresh[1][2], ARGV[4])
