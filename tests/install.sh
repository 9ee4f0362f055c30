# Sourced by scripts: installs what they need where it is missing.
#
# Tools that are built once live outside the checkout, so that a clean clone does not build them again:
# in $VISNYK_TOOLS, by default in the user's cache. target/tools leads there.

tools="${VISNYK_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/visnyk-tools}"
mkdir -p "$tools"

# need COMMAND PACKAGE...: Debian's packages, if there is no such command.
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null || install_packages "$@"
}

install_packages() {
  local sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  # One at a time: scripts run beside each other.
  (
    flock 9 && $sudo apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends "$@"
  ) 9>"$tools/.apt-lock"
}

# need_crate CRATE VERSION [ARGUMENT...]: a command from crates.io, compiled as fast as can be.
need_crate() {
  local crate=$1 version=$2
  shift 2
  grep -qs "^\"$crate $version " "$tools/.crates.toml" && return
  CARGO_PROFILE_RELEASE_OPT_LEVEL="${OPT_LEVEL:-0}" CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_DEBUG=false \
    cargo install "$crate@$version" --locked "$@" --root "$tools" --target-dir "$tools/build-$crate"
  rm -rf "$tools/build-$crate"
}

# link_tools ROOT: lets ROOT/target/tools lead to the tools.
link_tools() {
  mkdir -p "$1/target"
  [ -e "$1/target/tools" ] || ln -s "$tools" "$1/target/tools"
}

# need_python PACKAGE VERSION: a package from PyPI, in an environment of its own.
need_python() {
  "$tools/python/bin/pip" show "$1" 2>/dev/null | grep -qx "Version: $2" && return
  [ -x "$tools/python/bin/pip" ] || python3 -m venv "$tools/python" ||
    { install_packages python3-venv && python3 -m venv "$tools/python"; }
  "$tools/python/bin/pip" install -q "$1==$2"
}
