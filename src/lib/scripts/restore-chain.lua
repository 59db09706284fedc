#!lua flags=allow-oom
-- Sets the progress and the marks of one key to what its entries say, unless an entry came meanwhile that the caller has
-- not read.
--
-- KEYS: progress, idem:seen
-- ARGV: key prefix, all that there is was read (1|0), fields, the fields and values of the progress, value of idem:seen ('' for
--       none), when it expires (ms), JSON of the groups that read each stream; then for each mark its key without prefix and
--       when it expires (ms)
-- Returns 'same', 'restored' or 'behind'
local prefix, is_all_read, ours, count, at = ARGV[1], ARGV[2] == '1', {}, tonumber(ARGV[3]), 4
local function next_arg()
  at = at + 1
  return ARGV[at - 1]
end
for _ = 1, count / 2 do
  local name = next_arg()
  ours[name] = next_arg()
end
local seen, seen_until, readers = next_arg(), next_arg(), cjson.decode(next_arg())

local live, flat = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do live[flat[i]] = flat[i + 1] end
local function is_unread(name)
  local stream, id = split_event_id(string.match(name, '^changed%-(.*)$') or name)
  if stream then return #redis.call('XRANGE', prefix .. stream, id, id) > 0 end
  return not is_all_read and string.match(name, '^[qh]:') ~= nil
end
for name in pairs(live) do
  if not ours[name] and is_unread(name) then return 'behind' end
end
local has_more = (tonumber(live.rev) or 0) > (tonumber(ours.rev) or 0)
if has_more and not is_all_read then return 'behind' end

-- A trim drops a chain whole, and may have done so since the caller was killed and read it.
local function has_entry()
  for name in pairs(ours) do
    local stream, id = split_event_id(name)
    if stream and #redis.call('XRANGE', prefix .. stream, id, id) > 0 then return true end
  end
end
if not next(live) and not has_entry() then return 'same' end

-- A trim takes a chain whole: of what is known and gone somebody has deleted the entry. That it was there must stay known, or
-- nobody is told of it, and what is delivered again is taken for new.
local gone = {}
for name, value in pairs(live) do
  if ours[name] == nil and (split_event_id(name) or string.match(name, '^[qh]:')) then gone[name] = value end
end
if (next(gone) or has_more) and has_entry() then
  for name, value in pairs(gone) do ours[name] = value end
  if has_more then ours.rev = live.rev end
  local _, try = split_event_id(live.id or '')
  local _, our_try = split_event_id(ours.id or '')
  if try and gone[live.id] and (not our_try or is_after(try, our_try)) then ours.id = live.id end
  ours.hash = ours.hash or live.hash
end

-- A redrive or a replay leaves no entry: what stood failed is then held by a worker or put off, or was and has gone on. What
-- is only undelivered tells nothing: a group that is missing or was set back has handed it out before, and passes over what
-- stands failed. Then it is as is known, and failed where that is lost.
local knows_failures = true
for name in pairs(ours) do
  if string.find(name, '^failed%-') and not live[name] then knows_failures = false end
end
local delivered = {}
local function is_with_its_group(event_id, is_known_to_stand)
  local short, id = split_event_id(event_id)
  if not short then return false end
  delivered[short] = delivered[short] or delivered_by_group(prefix .. short)
  local is_undelivered = false
  for _, group in ipairs(readers[short] or {}) do
    if group ~= 'alert' then
      local last = delivered[short][group]
      local is_pending = last and #redis.call('XPENDING', prefix .. short, group, id, id, 1) > 0
      if is_pending or is_put_off(prefix, group, event_id) then return true end
      if not last or is_after(id, last) then is_undelivered = true end
    end
  end
  return is_undelivered and knows_failures and not is_known_to_stand
end
if ours.replayFailed and is_with_its_group(ours.replayFailed, live.replayFailed == ours.replayFailed) then
  ours.replayFailed = nil
end
local unreadable = string.match(KEYS[1], 'progress:lost:(%a+%-%d+%-%d+)$')
if ours.state == 'failed' then
  local is_known_to_stand = live.state == 'failed'
  local is_open = unreadable and is_with_its_group(unreadable, is_known_to_stand)
  for name in pairs(ours) do is_open = is_open or is_with_its_group(name, is_known_to_stand) end
  if is_open then ours.state = nil end
end

local answer = 'same'
local function is_equal(a, b)
  for name, value in pairs(a) do
    if b[name] ~= value then return false end
  end
  return true
end
if not (is_equal(ours, live) and is_equal(live, ours)) then
  answer = 'restored'
  redis.call('DEL', KEYS[1])
  for name, value in pairs(ours) do redis.call('HSET', KEYS[1], name, value) end
end

local now = now_ms()
local function set_mark(mark, value, until_ms)
  if until_ms <= now then return end
  local difference = math.abs(redis.call('PEXPIRETIME', mark) - until_ms)
  if redis.call('GET', mark) == value and difference < 1000 then return end
  redis.call('SET', mark, value, 'PXAT', string.format('%d', until_ms))
  answer = 'restored'
end
if seen ~= '' then set_mark(KEYS[2], seen, tonumber(seen_until)) end
-- A mark that no entry bears out, as somebody set it by hand: with it what is redriven would be taken for done. Where an entry
-- is gone nobody knows what it said.
local has_marks = at <= #ARGV
if not has_marks and not next(gone) then
  local key = string.sub(KEYS[1], #prefix + #'progress:' + 1)
  if redis.call('DEL', prefix .. 'idem:processed:' .. key) == 1 then answer = 'restored' end
end
while at <= #ARGV do
  local mark = prefix .. next_arg()
  set_mark(mark, '1', tonumber(next_arg()))
end
return answer
