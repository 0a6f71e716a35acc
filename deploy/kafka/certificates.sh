#!/usr/bin/env bash
# Makes an authority (once) and a server certificate signed by it, for a deployment that has none of its own.
#   certificates.sh DIR NAME HOST...
# DIR/ca.crt          for every client: KAFKA_SSL_CAFILE, or the system's list of authorities
# DIR/ca.key          signs; keep it off the servers
# DIR/NAME.key .crt   the server's, valid for the HOSTs (names or IPv4 addresses)
# DIR/NAME.pem        both in one file, as Kafka wants them
set -euo pipefail
if [ $# -lt 3 ]; then sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
directory=$1 name=$2
shift 2
umask 077
mkdir -p "$directory"
cd "$directory"

make_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# 10 years for the authority, 1 year for a server
if [ ! -e ca.crt ]; then
  make_key ca.key
  openssl req -x509 -new -key ca.key -days 3650 -out ca.crt -subj "/CN=meta-strategy authority" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
fi

names=
for host in "$@"; do
  if [[ $host =~ ^[0-9.]+$ ]]; then names+=,IP:$host; else names+=,DNS:$host; fi
done
make_key "$name.key"
openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -days 365 -out "$name.crt" -extfile <(printf '%s\n' \
  "subjectAltName=${names#,}" basicConstraints=critical,CA:FALSE \
  keyUsage=critical,digitalSignature extendedKeyUsage=serverAuth,clientAuth)
rm "$name.csr"
cat "$name.key" "$name.crt" ca.crt > "$name.pem"
