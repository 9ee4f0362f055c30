//! Binding: every shard has a listener of its own for each address (`SO_REUSEPORT`), and the
//! kernel spreads the connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// The listeners of all shards, and the addresses they have.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) by_shard: Vec<Vec<TcpListener>>,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Binds `addresses` for each of `shards`. `send_buffer_bytes` (0: the kernel's own) is set on the
/// listeners and inherited by what they accept.
pub(super) fn bind(
    addresses: &[SocketAddr],
    shards: usize,
    send_buffer_bytes: u32,
) -> io::Result<Listeners> {
    let mut by_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for &address in addresses {
        let mut address = address;
        refuse_if_taken(address).map_err(|error| named(address, &error))?;
        for listeners in &mut by_shard {
            let listener =
                listen(address, send_buffer_bytes).map_err(|error| named(address, &error))?;
            // With port 0 the first shard's choice is everybody's.
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        bound.push(address);
    }
    Ok(Listeners { by_shard, addresses: bound })
}

/// `SO_REUSEPORT` would let a second hub share the port of a first one unnoticed; a bind without it
/// does not.
fn refuse_if_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
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

fn listen(address: SocketAddr, send_buffer_bytes: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if send_buffer_bytes > 0 {
        socket.set_send_buffer_size(send_buffer_bytes as usize)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that may wait to be accepted; the kernel's `somaxconn` caps it.
const BACKLOG: i32 = 65_535;
