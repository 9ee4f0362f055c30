//! Binds the addresses. Every shard has a listener of its own for each address (`SO_REUSEPORT`),
//! and the kernel spreads the connections over them. Inherited listeners get the same socket
//! options.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::core::ConnectionLimits;

/// The listeners of all shards, and the addresses that they are bound to.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) by_shard: Vec<Vec<TcpListener>>,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Binds `addresses` for each of `shards`. The socket options of `limits` are set on the listeners,
/// and accepted connections inherit them. At each listener `backlog` connections may wait to be
/// accepted; the kernel's `somaxconn` caps it.
///
/// Where an address matches `inherited` listeners, which systemd or a predecessor has passed, they
/// are used, so that connections in their queues are accepted.
///
/// A machine without IPv6, like many containers, has no `[::1]` and no `[::]`: these addresses are
/// left out, if there are others.
pub(super) fn bind(
    addresses: &[SocketAddr],
    shards: usize,
    limits: &ConnectionLimits,
    backlog: u32,
    inherited: &[TcpListener],
) -> io::Result<Listeners> {
    let mut by_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for (&address, ours) in addresses.iter().zip(share_out(inherited, addresses)?) {
        let mut address = address;
        if let Some(first) = ours.first() {
            bound.push(first.local_addr()?);
            for listener in &ours {
                let socket = SockRef::from(*listener);
                set_options(&socket, limits)?;
                // `listen` on a socket that already listens only changes the length of its accept
                // queue.
                socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            }
            // Every shard gets at least one listener, and every listener belongs to a shard.
            for index in 0..shards.max(ours.len()) {
                let listener = ours[index % ours.len()].try_clone()?;
                by_shard[index % shards].push(listener);
            }
            continue;
        }
        match refuse_if_taken(address) {
            Err(error) if is_without_ipv6(address, &error) && addresses.len() > 1 => {
                tracing::info!(%address, "not listening there: this machine has no IPv6");
                continue;
            }
            result => result.map_err(|error| named(address, &error))?,
        }
        for listeners in &mut by_shard {
            let listener =
                listen(address, limits, backlog).map_err(|error| named(address, &error))?;
            // With port 0 the kernel chooses a port for the first shard, and all others use that.
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        bound.push(address);
    }
    Ok(Listeners { by_shard, addresses: bound })
}

/// Assigns the inherited listeners to the addresses. An address with port 0 gets the listeners of
/// one port, if no other address names that port.
fn share_out<'a>(
    inherited: &'a [TcpListener],
    addresses: &[SocketAddr],
) -> io::Result<Vec<Vec<&'a TcpListener>>> {
    let mut left = Vec::new();
    for listener in inherited {
        left.push((listener.local_addr()?, listener));
    }
    let mut shares = vec![Vec::new(); addresses.len()];
    let (chosen, exact): (Vec<usize>, Vec<usize>) =
        (0..addresses.len()).partition(|&index| addresses[index].port() == 0);
    for index in exact.into_iter().chain(chosen) {
        let address = addresses[index];
        let fits = |local: &SocketAddr| {
            local.ip() == address.ip() && (local.port() == address.port() || address.port() == 0)
        };
        if let Some(first) = left.iter().map(|(local, _)| *local).find(fits) {
            let ours = left.extract_if(.., |(local, _)| *local == first);
            shares[index].extend(ours.map(|(_, listener)| listener));
        }
    }
    for (address, _) in left {
        tracing::warn!(%address, "an inherited socket is closed: it fits no address of listen");
    }
    Ok(shares)
}

/// Whether an address cannot be bound because the machine has no IPv6: every machine with IPv6 has
/// `[::1]` and `[::]`.
fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    (address.ip() == Ipv6Addr::LOCALHOST || address.ip() == Ipv6Addr::UNSPECIFIED)
        && (error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(EAFNOSUPPORT))
}

/// Fails if another process listens on the address. With `SO_REUSEPORT` a second hub would share
/// the port of the first unnoticed, so this binds the address once without that option. With port 0
/// it only checks that the address exists.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

fn listen(address: SocketAddr, limits: &ConnectionLimits, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    set_options(&socket, limits)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Sets the socket options that accepted connections inherit from their listener.
fn set_options(socket: &Socket, limits: &ConnectionLimits) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if limits.send_buffer_bytes > 0 {
        socket.set_send_buffer_size(limits.send_buffer_bytes as usize)?;
    }
    detect_vanished_clients(socket, limits)
}

/// Sets the options by which the kernel detects a client that vanished without a FIN. Without them
/// it would buffer heartbeats and report no error for a quarter of an hour. `TCP_USER_TIMEOUT`
/// limits how long bytes of a stream stay unacknowledged. On a connection without traffic, such as
/// a waiting poll, the kernel sends a keep-alive probe each heartbeat interval.
fn detect_vanished_clients(socket: &Socket, limits: &ConnectionLimits) -> io::Result<()> {
    let heartbeat = Duration::from_secs(limits.heartbeat_s.into());
    // The kernel allows no more for either option.
    let probes = heartbeat.min(PROBE_INTERVAL_MAX);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(probes).with_interval(probes))?;
    #[cfg(target_os = "linux")]
    {
        let write_stall = Duration::from_secs(limits.write_stall_s.into());
        socket.set_tcp_user_timeout(Some(heartbeat + write_stall))?;
    }
    Ok(())
}

/// The kernel's bound on `TCP_KEEPIDLE` and `TCP_KEEPINTVL`.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(32_767);
/// Linux's number for "address family not supported", which `std` gives no kind.
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_port_0_gets_no_socket_of_another_address() {
        let inherited: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let locals = inherited.iter().map(|listener| listener.local_addr().expect("it is bound"));
        let locals: Vec<SocketAddr> = locals.collect();
        let chosen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let shares = share_out(&inherited, &[chosen, locals[0]]).expect("they are shared out");
        let shared = shares.iter().map(|share| share.iter().map(|l| l.local_addr().ok()).collect());
        let shared: Vec<Vec<_>> = shared.collect();
        assert_eq!(shared, [[Some(locals[1])], [Some(locals[0])]]);
    }

    #[test]
    fn a_listener_that_was_bound_elsewhere_gets_the_options_of_the_hubs_own() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = elsewhere.local_addr().expect("it is bound");
        let limits = ConnectionLimits::default();
        let inherited = [elsewhere.try_clone().expect("a copy")];
        let listeners = bind(&[address], 2, &limits, 16, &inherited).expect("it is used");
        assert_eq!(listeners.addresses, [address]);
        let ours = bind(&["127.0.0.1:0".parse().expect("an address")], 1, &limits, 16, &[]);
        let ours = ours.expect("a port of its own").by_shard.remove(0).remove(0);
        let options = |listener: &TcpListener| {
            let socket = SockRef::from(listener);
            let buffer = socket.send_buffer_size().expect("a size");
            let is_probed = socket.keepalive().expect("a flag");
            (buffer, is_probed, socket.tcp_nodelay().expect("a flag"), user_timeout(&socket))
        };
        assert_eq!(options(&elsewhere), options(&ours));
    }

    fn user_timeout(socket: &SockRef<'_>) -> Option<Duration> {
        #[cfg(target_os = "linux")]
        return socket.tcp_user_timeout().expect("a time");
        #[cfg(not(target_os = "linux"))]
        return None;
    }

    #[test]
    fn only_a_missing_ipv6_loopback_is_left_out() {
        let absent = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let no_family = io::Error::from_raw_os_error(EAFNOSUPPORT);
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert!(is_without_ipv6(address("[::1]:3000"), &absent));
        assert!(is_without_ipv6(address("[::1]:3000"), &no_family));
        assert!(is_without_ipv6(address("[::]:3000"), &no_family));
        assert!(!is_without_ipv6(address("[::1]:3000"), &taken));
        assert!(!is_without_ipv6(address("[2001:db8::1]:3000"), &absent));
        assert!(!is_without_ipv6(address("127.0.0.1:3000"), &absent));
    }
}
