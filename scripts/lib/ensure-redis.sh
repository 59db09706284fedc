#!/usr/bin/env bash
# Installs a redis-server where there is neither redis-server nor valkey-server on PATH.
set -eu

has_redis() { command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1; }

has_redis && exit 0
# shellcheck source=scripts/lib/install-package.sh
. "$(dirname "$0")/install-package.sh"

# Debian starts a server with the package; ours are started by us, on ports of their own.
if install_package redis-server redis && has_redis; then exit 0; fi

cat >&2 <<'MESSAGE'
There is no redis-server here, and it could not be installed. Three ways to get one:
  Debian, Ubuntu   sudo apt-get install redis-server
  macOS            brew install redis
  anywhere else    put redis-server (7 or newer) or valkey-server on PATH: https://redis.io/docs/latest/operate/oss_and_stack/install/
MESSAGE
exit 1
