#!/usr/bin/env bash
# Installs openssl where there is none: a test makes certificates with it.
set -eu

command -v openssl >/dev/null 2>&1 && exit 0
# shellcheck source=scripts/lib/install-package.sh
. "$(dirname "$0")/install-package.sh"
install_package openssl openssl@3 && exit 0
echo 'There is no openssl here, and it could not be installed.' >&2
exit 1
