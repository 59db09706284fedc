#!lua flags=allow-oom
-- Which server this is: another one after a restart or a fail-over. Written as if it wrote, so that one that takes no writes does
-- not answer.
--
-- KEYS: the streams, then the progress of an event that must be there, or nothing
-- ARGV: how many streams
-- Returns {id of this run of the server, 1 where it was emptied (0|1)}: where there is no stream, or not that event
local count = tonumber(ARGV[1])
local is_emptied = redis.call('EXISTS', unpack(KEYS, 1, count)) == 0
  or (#KEYS > count and redis.call('EXISTS', KEYS[#KEYS]) == 0)
return { server_id(), is_emptied and 1 or 0 }
