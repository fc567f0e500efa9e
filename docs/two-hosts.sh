#!/bin/sh
# Two hosts of trustvlm over one PostgreSQL database, with nginx in front, all on this machine
# (docs/hosts.md). TRUSTVLM_DATABASE_URL says where the database is; ctrl-C ends everything.
#
#   sh two-hosts.sh FOLDER [PORT]      nginx listens at PORT (8080), the hosts at PORT + 1 and + 2
set -eu

mkdir -p "$1/temp" "$1/snapshots"
folder=$(cd "$1" && pwd)
port=${2:-8080}
here=$(cd "$(dirname "$0")" && pwd)
: "${TRUSTVLM_DATABASE_URL:?is not set: give the URL of a PostgreSQL database}"
export TRUSTVLM_SERVE_HOSTS=2                        # a key's rate is divided among them
export TRUSTVLM_SERVE_KEEP_ALIVE_S=75                # longer than nginx keeps a connection
export TRUSTVLM_SNAPSHOT_STORE="$folder/snapshots"   # or s3://…: the second host need not read all labels

trustvlm --home "$folder/host-1" db create
(umask 077 && trustvlm --home "$folder/host-1" key create --scope admin > "$folder/key")

started=
trap 'kill $started 2> /dev/null; wait' EXIT
trap 'exit 0' INT TERM

for number in 1 2; do
    trustvlm --home "$folder/host-$number" serve --port $((port + number)) --require-key \
        --root-path /trust 2> "$folder/host-$number.log" &
    echo $! > "$folder/host-$number.pid"
    started="$started $!"
done
sed -e "s/8080/$port/" -e "s/8081/$((port + 1))/" -e "s/8082/$((port + 2))/" \
    "$here/two-hosts.nginx.conf" > "$folder/nginx.conf"
nginx -p "$folder/" -c nginx.conf -e "$folder/nginx.log" -g 'daemon off;' &
started="$started $!"

for number in 1 2; do
    until curl --silent --fail --output "$folder/ready" "http://127.0.0.1:$((port + number))/readyz"; do
        kill -0 "$(cat "$folder/host-$number.pid")" || exit 1
        sleep 0.2
    done
done
echo "ready: http://127.0.0.1:$port/trust/, the key is in $folder/key"
wait
