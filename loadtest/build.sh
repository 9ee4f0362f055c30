# Sourced: builds the hub and the load tool in $PROFILE (release), and says in $bin where they are. `build no`
# only says where.
build() {
  local profile="${PROFILE:-release}"
  case $profile in
    release | ci) bin=${CARGO_TARGET_DIR:-target}/$profile ;;
    dev) bin=${CARGO_TARGET_DIR:-target}/debug ;;
    *) echo 'PROFILE is release, ci or dev' >&2; return 2 ;;
  esac
  if [ "${1:-}" = no ]; then
    return
  elif [ "$profile" = release ]; then
    # The hub by itself, as it is shipped: built together they would share the features of libraries.
    cargo build --locked --release
    cargo build --locked --release -p visnyk-loadtest
  else
    # With the benches, as tests/run builds them: without them dependencies have other features, and all
    # would be built again.
    cargo build --locked --workspace --profile "$profile" --bins --benches
  fi
}
