//! New connections, from many source addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

/// A socket on its way to `address`; it does not block. The source is one of
/// [`SOURCES`] addresses of 127.0.0.0/8, the `number`-th, so that each has its own ports and none
/// runs out of them. `receive_buffer_bytes` bounds what the kernel takes for a client that does
/// not read.
pub(crate) fn dial(
    address: SocketAddr,
    number: usize,
    receive_buffer_bytes: Option<usize>,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(bytes) = receive_buffer_bytes {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    if let IpAddr::V4(server) = address.ip()
        && server.is_loopback()
    {
        rustix::net::bind(&socket, &SocketAddr::from((source(number), 0)))?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Connects and waits until that is done; then it does not block.
pub(crate) fn dial_and_wait(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = std::net::TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn source(number: usize) -> Ipv4Addr {
    let number = number % SOURCES;
    Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250 + 1) as u8)
}

/// With the 28,000 ports that Linux gives each by default, far more than a process may open.
const SOURCES: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_are_distinct_and_on_loopback() {
        let sources: HashSet<Ipv4Addr> = (0..2 * SOURCES).map(source).collect();
        assert_eq!(sources.len(), SOURCES);
        assert!(sources.iter().all(|source| source.is_loopback() && source.octets()[3] > 0));
    }
}
