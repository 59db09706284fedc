-- Does one command on what is being rebuilt, for the one who rebuilds: not while it takes the place of the live states,
-- which a Redis that has gone back may have to do again; not for one that was frozen and has lost its lease; and, where
-- that is asked for, only in the server that the others were done in. It is not `allow-oom`: what takes memory is refused,
-- what gives it back is not.
--
-- KEYS: lease, swaps
-- ARGV: owner of the lease, name of the projection, id of the server ('' for any), then the command
-- Returns the id of the server, or 'refused'
local server = server_id()
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'refused' end
if is_swapping(KEYS[2], ARGV[2]) then return 'refused' end
if ARGV[3] == '' or ARGV[3] == server then redis.call(unpack(ARGV, 4)) end
return server
