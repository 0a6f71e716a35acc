-- Puts the changes of a partition in place and moves its watermark, in one step.
-- KEYS: watermark, meta, contexts, decisions, decision-ids, trades, totals, parents, markets, followed, series, then the rows
-- ARGV: fingerprint of the fold, token, last (1: the write is whole after this part),
--       since decisions, trades, candles, next decisions, trades, candles,
--       then JSON: for each hash from contexts on a list of fields and values to set, and one of fields to delete
-- With a token: part of a rewrite, accepted while nobody else began one since.
-- Answer: code, as consumer/ports.py words it.
local mark = redis.call('HMGET', KEYS[1], 'decisions', 'trades', 'candles', 'rebuild')
local d, t, c = tonumber(mark[1] or nil), tonumber(mark[2] or nil), tonumber(mark[3] or '0')
local token, last = ARGV[2], ARGV[3] == '1'
local since_d, since_t, since_c = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local next_d, next_t, next_c = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])

if token ~= '' then
  if mark[4] ~= token then return -3 end
else
  if not d or not t then return -1 end
  if redis.call('HGET', KEYS[2], 'fingerprint') ~= ARGV[1] then return -2 end
  if d >= next_d and t >= next_t and c >= next_c then return 0 end
  if d < since_d or t < since_t or c < since_c then return -1 end
  if d > next_d or t > next_t or c > next_c then return -3 end
end

local function take(command, key, list)
  -- unpack is limited by the interpreter's stack: a thousand arguments at a time
  for at = 1, #list, 1000 do
    redis.call(command, key, unpack(list, at, math.min(at + 999, #list)))
  end
end
local changes = cjson.decode(ARGV[10])
for i = 3, #KEYS do
  take('HSET', KEYS[i], changes[i - 2][1])
  take('HDEL', KEYS[i], changes[i - 2][2])
end

if token == '' or last then
  if token ~= '' then redis.call('HDEL', KEYS[1], 'rebuild') end
  redis.call('HSET', KEYS[1], 'decisions', ARGV[7], 'trades', ARGV[8])
  if next_c > 0 then redis.call('HSET', KEYS[1], 'candles', ARGV[9]) end
end
return 1
