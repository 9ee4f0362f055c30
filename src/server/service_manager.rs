//! What the hub reports to the service manager that started it (`sd_notify(3)`): ready, reloading,
//! stopping. Without `NOTIFY_SOCKET` in the environment it reports nothing.
//!
//! Reports are datagrams, sent without waiting: a service manager that does not read delays nothing.

use std::{
    env,
    ffi::OsStr,
    io,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt, net::UnixDatagram},
    time::Duration,
};

/// The hub accepts connections.
pub(super) fn ready(addresses: &[SocketAddr]) {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    report(&format!("READY=1\nSTATUS=listening on {}", addresses.join(", ")));
}

/// The hub reads something anew that it was asked to; [`reloaded`] follows.
pub(super) fn reloading() {
    report("RELOADING=1");
}

/// The reload is through, whether it changed anything or not.
pub(super) fn reloaded() {
    report("READY=1");
}

/// The hub stops, which takes it `time` at most: the service manager waits so long, whatever its own
/// limit is.
pub(super) fn stopping(time: Duration) {
    report(&format!("STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={}", time.as_micros()));
}

fn report(state: &str) {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, "the service manager at {SOCKET} cannot be reached");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    match socket.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
            let address = SocketAddr::from_abstract_name(name)?;
            datagram.send_to_addr(state.as_bytes(), &address)?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        None => {
            datagram.send_to(state.as_bytes(), socket)?;
        }
    }
    Ok(())
}

/// The variable with the service manager's socket: a path, or an abstract name after `@`.
const SOCKET: &str = "NOTIFY_SOCKET";
