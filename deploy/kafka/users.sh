#!/usr/bin/env bash
# Makes the four users, or gives them new passwords; existing connections go on with the old one.
#   users.sh BROKERS DIR [ADMIN_PROPERTIES]
# BROKERS  address of the BROKERS listener, such as kafka:9094
# DIR      holds a file `<user>.password` for each user; a missing one is made. The worker's is KAFKA_SASL_PASSWORD_FILE
# Kafka's bin directory must be on the PATH. No password ever stands in an argument.
set -euo pipefail
if [ $# -lt 2 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
command -v kafka-configs.sh > /dev/null || { echo "kafka-configs.sh is not on the PATH: add Kafka's bin directory" >&2; exit 1; }
servers=$1 directory=$2 admin=${3:-$(dirname "$0")/admin.properties}
umask 077
mkdir -p "$directory"
config=$(mktemp)
trap 'rm -f "$config"' EXIT

for user in executor selector router operator; do
  file=$directory/$user.password
  [ -s "$file" ] || openssl rand -hex 24 > "$file"
  printf 'SCRAM-SHA-512=iterations=8192,password=%s\n' "$(cat "$file")" > "$config"
  kafka-configs.sh --bootstrap-server "$servers" --command-config "$admin" --alter \
    --entity-type users --entity-name "$user" --add-config-file "$config"
done

# who may write signals may not fill the disk with them: 2 MiB/s on each broker are some 2,000 signals a second
kafka-configs.sh --bootstrap-server "$servers" --command-config "$admin" --alter \
  --entity-type users --entity-name executor --add-config producer_byte_rate=2097152
