#!lua flags=no-writes,allow-stale
-- Which server this is: another one after a restart or a fail-over.
--
-- KEYS: the streams
-- Returns {id of this run of the server, how many of the streams there are}
return { server_id(), redis.call('EXISTS', unpack(KEYS)) }
