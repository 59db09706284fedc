# shellcheck shell=bash
# Sourced. Installs a program with the package manager at hand.

# install_package <Debian package> <Homebrew arguments…>: fails where there is neither apt (as root) nor Homebrew.
install_package() {
  local debian=$1
  shift
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
    echo "Installing $debian with apt …"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    apt-get install -y -qq --no-install-recommends "$debian" </dev/null >/dev/null
  elif [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null 2>&1; then
    echo "Installing $* with Homebrew …"
    brew install --quiet "$@" </dev/null
  else
    return 1
  fi
}
