#!/usr/bin/env bash
# Checks Node and installs the npm packages, where they are missing or older than package-lock.json; through a node_modules
# that is a link it installs nothing.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
  echo 'Node.js 20.12 or newer and npm are needed: https://nodejs.org, or "nvm install 20".' >&2
  exit 1
fi

# package.json's "engines" is a minimum; loadEnvFile came with 20.12.
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 12) ? 0 : 1)'; then
  echo "Node.js 20.12 or newer is needed, this is $(node --version): https://nodejs.org, or \"nvm install 20\"." >&2
  exit 1
fi

if [ -L node_modules ]; then
  # Other work trees share what it points to, and npm ci would empty that. The times of files tell nothing there.
  if ! npm ls --loglevel=silent >/dev/null 2>&1; then
    echo "node_modules is a link to $(readlink node_modules), and what is there is not what package.json wants:" >&2
    npm ls 2>&1 | grep -E 'missing|invalid' >&2 || true
    echo 'Run npm ci there, or remove the link: then this work tree gets packages of its own.' >&2
    exit 1
  fi
elif [ ! -f node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo 'Installing the npm packages …'
  # Types and tools are needed too, whatever NODE_ENV says.
  npm ci --include=dev --no-audit --no-fund --loglevel=error
  # An archive may date package-lock.json later than what npm has just written.
  touch node_modules/.package-lock.json
fi
