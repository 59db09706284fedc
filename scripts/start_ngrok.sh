#!/usr/bin/env bash
# Opens an ngrok tunnel to the ingest that runs on this machine and prints the two webhook URLs to register.
#   ./scripts/start_ngrok.sh [--allow-unverified] [further options of "ngrok http", such as --url https://hooks.ngrok.app]
# PORT says where ingest listens [8000]. Ctrl-C closes the tunnel.
set -eu

allow_unverified=false
if [ "${1:-}" = --allow-unverified ]; then
  allow_unverified=true
  shift
fi
port=${PORT:-8000}
base="http://127.0.0.1:$port"

die() {
  printf '%s\n' "$@" >&2
  exit 1
}

if ! command -v ngrok >/dev/null 2>&1; then
  die 'ngrok is not on PATH. Get it from https://ngrok.com/download, then: ngrok config add-authtoken <your token>'
fi
if ! curl -fsS -o /dev/null -m 5 "$base/healthz"; then
  die "Nothing answers on $base/healthz: start ./scripts/dev first, and set PORT if it listens elsewhere."
fi

# Asks the process itself, not the settings: an unsigned body that means nothing must be refused as unsigned.
is_open() {
  local status
  status=$(curl -sS -o /dev/null -m 5 -w '%{http_code}' -H 'content-type: application/json' --data '{}' "$base/webhooks/$1")
  [ "$status" != 401 ]
}

open=''
for source in calendly readai; do
  if is_open "$source"; then open="$open $source"; fi
done
if [ -n "$open" ] && [ "$allow_unverified" = false ]; then
  die "Not opened: ingest accepts unsigned webhooks of:$open. Through a tunnel anyone could write leads." \
    'Set CALENDLY_SIGNING_KEY and READAI_SIGNING_KEY (or READAI_SHARED_SECRET) and start it again,' \
    'or, for made-up data and DRY_RUN=true only: ./scripts/start_ngrok.sh --allow-unverified'
fi

log=$(mktemp)
# What ngrok's own inspector keeps are people's data, so it keeps none.
ngrok http "$port" --inspect=false --log stdout --log-format logfmt "$@" >"$log" 2>&1 &
tunnel=$!
trap 'kill "$tunnel" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 0' INT TERM

url=''
for _ in $(seq 150); do
  url=$(sed -n 's/.* url=\(https:[^ ]*\).*/\1/p' "$log" | tail -n 1)
  if [ -n "$url" ] || ! kill -0 "$tunnel" 2>/dev/null; then break; fi
  sleep 0.2
done
if [ -z "$url" ]; then
  tail -n 5 "$log" >&2
  die 'ngrok opened no tunnel; what it said last stands above.'
fi

cat <<MESSAGE

Calendly   $url/webhooks/calendly
Read.ai    $url/webhooks/readai

The tunnel makes this ingest public: both webhooks, /healthz, /readyz and /metrics (figures, no names).
/debug answers 404 through it, or ask for a token where DASHBOARD_TOKEN is set.
ngrok carries the bodies of your webhooks: use it to try things out, not for production.
MESSAGE
if [ -n "$open" ]; then printf 'WARNING: unsigned webhooks are accepted of:%s. Close the tunnel when you are done.\n' "$open"; fi
printf '\nCtrl-C closes it.\n'
wait "$tunnel"
