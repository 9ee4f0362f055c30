//! The accept loops: one per shard and address, on the shard's thread.

use std::{future::Future, io, net, pin::Pin, time::Duration};

use axum::Router;
use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, spawn_local},
};

use super::connection::{Connections, Served};
use crate::actors::{Finished, Front, LocalShard};

/// The HTTP front of a hub: listeners for each shard, and what serves their connections.
pub(super) struct HttpFront {
    /// By shard, then by address. Kept open here, so that connections wait in the kernel's queue
    /// while a shard is started anew.
    pub(super) listeners: Vec<Vec<net::TcpListener>>,
    pub(super) router: Router,
    pub(super) header_read_timeout: Duration,
    pub(super) served: Served,
    /// Becomes true when no connection is to be kept.
    pub(super) closing: watch::Receiver<bool>,
}

impl Front for HttpFront {
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        let listeners: io::Result<Vec<TcpListener>> = self.listeners[shard.index()]
            .iter()
            .map(|listener| TcpListener::from_std(listener.try_clone()?))
            .collect();
        let connections = Connections {
            router: self.router.clone(),
            shard: shard.clone(),
            header_read_timeout: self.header_read_timeout,
            closing: self.closing.clone(),
            served: self.served.clone(),
        };
        let again = connections.clone();
        shard.on_handed_back(move |Finished { io, early }| {
            spawn_local(again.clone().serve(io, early));
        });
        Box::pin(async move {
            let listeners = match listeners {
                Ok(listeners) => listeners,
                Err(error) => {
                    tracing::error!(%error, "a shard cannot listen");
                    return;
                }
            };
            let mut loops = JoinSet::new();
            for listener in listeners {
                loops.spawn_local(accept(listener, connections.clone()));
            }
            while loops.join_next().await.is_some() {}
        })
    }
}

/// Accepts until it is dropped.
async fn accept(listener: TcpListener, connections: Connections) {
    let mut closing = connections.closing.clone();
    let mut failures = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => {
                drop(listener);
                return std::future::pending().await;
            }
        };
        match accepted {
            Ok((io, _)) => {
                failures = 0;
                spawn_local(connections.clone().serve(prepare(io), Bytes::new()));
            }
            Err(error) => {
                // At the file limit this would spin; wait for connections to end.
                if failures.is_multiple_of(FAILURES_PER_REPORT) {
                    tracing::warn!(%error, "cannot accept connections for now");
                }
                failures += 1;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepare(io: TcpStream) -> TcpStream {
    // Inherited from the listener on Linux; elsewhere not, and failure costs only latency.
    if cfg!(not(target_os = "linux")) {
        let _ = io.set_nodelay(true);
    }
    io
}

/// How long an accept loop waits after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// One failure in so many is logged: about one every ten seconds.
const FAILURES_PER_REPORT: u64 = 200;
