#!/usr/bin/env bash
# Writes users.acl with the hashes of passwords, and a URL for each user.
#   users.sh DIR HOST:PORT
# DIR  holds a file `<user>.password` for each user; a missing one is made. In it are written `users.acl` for the
#      server (then restart it, or ACL LOAD) and `<user>.url`: the worker's is REDIS_URL_FILE
set -euo pipefail
if [ $# -ne 2 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
directory=$1 address=$2
umask 077
mkdir -p "$directory"
rules=$(cat "$(dirname "$0")/users.acl")
for user in worker operator dashboards; do
  file=$directory/$user.password
  [ -s "$file" ] || openssl rand -hex 24 > "$file"
  password=$(cat "$file")
  hash=$(printf %s "$password" | openssl dgst -sha256 -r)
  rules=${rules/"{$user}"/${hash%% *}}
  printf 'rediss://%s:%s@%s/0\n' "$user" "$password" "$address" > "$directory/$user.url"
done
printf '%s\n' "$rules" > "$directory/users.acl"
