#!/usr/bin/env bash
# Installs Chromium where the page tests would not find a browser.
set -eu

mac_chrome='/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'

has_chromium() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then return 0; fi
  done
  [ -x "$mac_chrome" ]
}

has_chromium && exit 0
# shellcheck source=scripts/lib/install-package.sh
. "$(dirname "$0")/install-package.sh"

if install_package chromium --cask google-chrome && has_chromium; then exit 0; fi

cat >&2 <<'MESSAGE'
The page tests need Chromium, and it could not be installed here:
  Debian, Ubuntu   sudo apt-get install chromium
  macOS            brew install --cask google-chrome
MESSAGE
exit 1
