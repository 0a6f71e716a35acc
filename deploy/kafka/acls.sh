#!/usr/bin/env bash
# Says who may do what, with the default names of topics and group; all else is refused.
#   acls.sh BROKERS [ADMIN_PROPERTIES]
# BROKERS  address of the BROKERS listener, such as kafka:9094
# Kafka's bin directory must be on the PATH. Rules are added, none is taken away; a change takes about a second.
# Read and Write imply Describe.
set -euo pipefail
if [ $# -lt 1 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
command -v kafka-acls.sh > /dev/null || { echo "kafka-acls.sh is not on the PATH: add Kafka's bin directory" >&2; exit 1; }
servers=$1 admin=${2:-$(dirname "$0")/admin.properties}

allow() { # users, parted by commas; then operations and resources
  local user users=()
  for user in ${1//,/ }; do users+=(--allow-principal "User:$user"); done
  kafka-acls.sh --bootstrap-server "$servers" --command-config "$admin" --force --add "${users[@]}" "${@:2}"
}

# executor: writes what the worker reads
allow executor --operation Write --topic signals --topic trade-closed
# feed: the same for candles; only where KAFKA_CANDLES_TOPIC is set, so make the user first
# allow feed --operation Write --topic candles

# selector, the worker: reads its inputs and, to fold it, what it wrote itself
allow selector --operation Read --topic signals --topic trade-closed --topic candles --topic strategy-decisions
allow selector --operation Write --topic strategy-decisions --topic strategy-dead-letters
# the pool's topic, the same for both; only where KAFKA_POOL_TOPIC is set
allow selector --operation Read --operation Write --operation DescribeConfigs --topic strategy-pool
# it refuses to start on a compacted memory
allow selector --operation DescribeConfigs --topic trade-closed --topic candles --topic strategy-decisions

# router: reads decisions, in groups of its own
allow router --operation Read --topic strategy-decisions
allow router --operation Read --resource-pattern-type prefixed --group router

# operator: makes topics (`topics migrate` adds a suffix to their names), replays dead letters, folds the table anew
allow operator --operation Create --operation Describe --operation DescribeConfigs --operation Alter \
  --operation AlterConfigs --operation Read --operation Write --resource-pattern-type prefixed \
  --topic signals --topic trade-closed --topic candles --topic strategy-decisions --topic strategy-dead-letters \
  --topic strategy-pool

# both go on where the group stands, and shut its former owners out, whose ids are made up anew for each assignment
allow selector,operator --operation Read --group meta-strategy
allow selector,operator --operation Write --resource-pattern-type prefixed --transactional-id meta-strategy-worker-
