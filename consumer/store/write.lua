-- Puts the changes of a partition in place and moves its watermark, in one step.
-- KEYS: all of the partition but its rows, the first two watermark and meta; then the rows to write
-- ARGV: fingerprint of the fold, token, last (1: the write is whole after this part),
--       since decisions, trades, candles, next decisions, trades, candles,
--       number of blocks, for each the number of its key, its field and value,
--       then for each JSON text how many keys come before its rows, and the text:
--       number of a key, below 0 of its rows from the first on, HSET or HDEL, its arguments, ...
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

local texts = 11 + 3 * tonumber(ARGV[10])
for at = 11, texts - 1, 3 do
  redis.call('HSET', KEYS[tonumber(ARGV[at])], ARGV[at + 1], ARGV[at + 2])
end
for text = texts, #ARGV, 2 do
  local before, changes = tonumber(ARGV[text]), cjson.decode(ARGV[text + 1])
  for change = 1, #changes, 3 do
    local number, command, list = changes[change], changes[change + 1], changes[change + 2]
    local key = KEYS[number < 0 and before - number or number]
    -- unpack is limited by the interpreter's stack: a thousand arguments at a time
    for at = 1, #list, 1000 do
      redis.call(command, key, unpack(list, at, math.min(at + 999, #list)))
    end
  end
end

if token == '' or last then
  if token ~= '' then redis.call('HDEL', KEYS[1], 'rebuild') end
  redis.call('HSET', KEYS[1], 'decisions', ARGV[7], 'trades', ARGV[8])
  if next_c > 0 then redis.call('HSET', KEYS[1], 'candles', ARGV[9]) end
end
return 1
