//! The accept loops: one per shard and address, on the shard's thread.

use std::{future::Future, io, net, pin::Pin, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinSet, spawn_local},
};

use super::{
    connection::{Beginning, Connections},
    newcomers::Newcomers,
    places::{Full, Places, is_no_file},
    refusals::Refusals,
    tls::Acceptor,
};
use crate::{
    actors::{Finished, Front, LocalShard},
    core::{Http2Limits, RequestLimits},
    http::TrustedProxies,
};

/// The HTTP front of a hub: listeners for each shard, and what serves their connections.
pub(super) struct HttpFront {
    /// By shard, then by address. Kept open here, so that connections wait in the kernel's queue
    /// while a shard is started anew.
    pub(super) listeners: Vec<Vec<net::TcpListener>>,
    pub(super) router: Router,
    pub(super) header_read_timeout: Duration,
    pub(super) write_stall: Duration,
    pub(super) places: Places,
    pub(super) refusals: Refusals,
    pub(super) tls: Option<Acceptor>,
    pub(super) proxies: TrustedProxies,
    pub(super) http2: Http2Limits,
    pub(super) newcomers: Newcomers,
    pub(super) request_limits: RequestLimits,
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
            write_stall: self.write_stall,
            places: self.places.clone(),
            tls: self.tls.clone(),
            proxies: self.proxies.clone(),
            http2: self.http2.clone(),
            request_limits: self.request_limits.clone(),
        };
        let again = connections.clone();
        let newcomers = self.newcomers.clone();
        shard.on_handed_back(move |Finished { io, early }| {
            // Gone already, if it has no address.
            let Ok(peer) = io.peer_addr() else { return };
            let held = (again.places.keep(), newcomers.keep(peer));
            spawn_local(again.clone().serve(Beginning::Http1(io, early), peer, held));
        });
        let (refusals, newcomers) = (self.refusals.clone(), self.newcomers.clone());
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
                loops.spawn_local(accept(
                    listener,
                    connections.clone(),
                    refusals.clone(),
                    newcomers.clone(),
                ));
            }
            while loops.join_next().await.is_some() {}
        })
    }
}

/// Accepts until it is dropped.
async fn accept(
    listener: TcpListener,
    connections: Connections,
    refusals: Refusals,
    newcomers: Newcomers,
) {
    let mut closing = connections.closing.clone();
    let mut is_full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => {
                drop(listener);
                return std::future::pending().await;
            }
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_no_file(&error) => {
                if !refusals.refuse_by_reserve(&listener).await {
                    refusals.report(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                refusals.report(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let counted = match newcomers.welcome(peer) {
            Ok(counted) => counted,
            Err(why) => {
                refusals.turn_away(io, peer.ip(), why);
                continue;
            }
        };
        // While nobody leaves, those that wait in the kernel's queue are refused without delay.
        let places = &connections.places;
        let place = match refusals.has_reserve() {
            false => Err(Full::Files),
            true if is_full => places.take(),
            true => places.take_soon().await,
        };
        is_full = place.is_err();
        match place {
            Ok(place) => {
                spawn_local(connections.clone().accept(prepare(io), peer, (place, counted)));
            }
            Err(why) => refusals.refuse(io, why).await,
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

/// How long an accept loop waits after a failure that would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
