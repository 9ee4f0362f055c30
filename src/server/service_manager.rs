//! Reports to the service manager (`sd_notify(3)`) that the hub is ready, reloading or stopping.
//! Without `NOTIFY_SOCKET` in the environment it does nothing.
//!
//! Reports are datagrams, sent without blocking, so a service manager that does not read them
//! delays nothing.

use std::{
    env,
    ffi::OsStr,
    io,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt, net::UnixDatagram},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Reports that the hub accepts connections.
pub(super) fn ready(addresses: &[SocketAddr]) {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    report(&format!("READY=1\nSTATUS=listening on {}", addresses.join(", ")));
}

/// Reports that a reload of the settings has begun; [`reloaded`] must follow. A hub that is
/// stopping reports no reload, since it would seem to be ready again.
pub(super) fn reloading() {
    if !IS_STOPPING.load(Ordering::Relaxed) {
        report("RELOADING=1");
    }
}

/// Reports that a reload has ended. The protocol has no state for a refused reload, so the status
/// text says that.
pub(super) fn reloaded(is_applied: bool) {
    let status = match is_applied {
        true => "the settings were read again",
        false => "a reload was refused, the log says why; the settings have not changed",
    };
    if !IS_STOPPING.load(Ordering::Relaxed) {
        report(&format!("READY=1\nSTATUS={status}"));
    }
}

/// Reports that the hub is stopping, which takes at most `time`: the service manager waits that
/// long, even if its own timeout is shorter.
pub(super) fn stopping(time: Duration) {
    IS_STOPPING.store(true, Ordering::Relaxed);
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

/// Whether [`stopping`] was reported.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);
/// The variable with the service manager's socket: a path, or an abstract name after `@`.
const SOCKET: &str = "NOTIFY_SOCKET";
