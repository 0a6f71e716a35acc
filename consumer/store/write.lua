-- Puts the changes of a partition in place and moves its watermark, in one step.
-- KEYS: watermark, meta, contexts, decisions, decision-ids, trades, totals, parents, then the rows
-- ARGV: fingerprint of the fold, token, last (1: the write is whole after this part),
--       since decisions, since trades, next decisions, next trades,
--       then for each hash from contexts on: number of fields to set, field, value, ...,
--       number of fields to delete, field, ...
-- With a token: part of a rewrite, accepted while nobody else began one since.
-- Answer: {code, decisions, trades} as consumer/ports.py words it.
local function answer(code, d, t) return {code, tostring(d or -1), tostring(t or -1)} end

local mark = redis.call('HMGET', KEYS[1], 'decisions', 'trades', 'rebuild')
local d, t = tonumber(mark[1] or nil), tonumber(mark[2] or nil)
local token, last = ARGV[2], ARGV[3] == '1'
local since_d, since_t = tonumber(ARGV[4]), tonumber(ARGV[5])
local next_d, next_t = tonumber(ARGV[6]), tonumber(ARGV[7])

if token ~= '' then
  if mark[3] ~= token then return answer(-3, d, t) end
else
  if not d or not t then return answer(-1, d, t) end
  if redis.call('HGET', KEYS[2], 'fingerprint') ~= ARGV[1] then return answer(-2, d, t) end
  if d >= next_d and t >= next_t then return answer(0, d, t) end
  if d < since_d or t < since_t then return answer(-1, d, t) end
  if d > next_d or t > next_t then return answer(-3, d, t) end
end

local at = 8
local function take(count, key, command)
  -- unpack is limited by the interpreter's stack: a thousand arguments at a time
  local stop = at + count - 1
  while at <= stop do
    local upto = math.min(at + 999, stop)
    redis.call(command, key, unpack(ARGV, at, upto))
    at = upto + 1
  end
end
for i = 3, #KEYS do
  local sets = tonumber(ARGV[at]); at = at + 1
  take(2 * sets, KEYS[i], 'HSET')
  local deletes = tonumber(ARGV[at]); at = at + 1
  take(deletes, KEYS[i], 'HDEL')
end

if token == '' or last then
  if token ~= '' then redis.call('HDEL', KEYS[1], 'rebuild') end
  redis.call('HSET', KEYS[1], 'decisions', ARGV[6], 'trades', ARGV[7])
end
return answer(1, next_d, next_t)
