//! The accept loops: one for each shard and address, on the shard's thread; and the sockets that
//! a shard gives back after it has answered a poll.

use std::{future::Future, io, net, pin::Pin, rc::Rc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinSet, spawn_local, yield_now},
};

use super::{
    accept_queue::AcceptQueue,
    connection::Connections,
    connection_limits::ConnectionLimiter,
    idle_sockets::IdleSockets,
    preface::Protocol,
    rejections::Rejections,
    socket_budget::{Exhausted, SocketBudget, is_no_file},
    tls::Acceptor,
};
use crate::{
    actors::{Front, LocalShard, ReturnedSocket, Socket, Tcp},
    core::{Http2Limits, RequestLimits},
    http::{Dispatcher, TrustedProxies},
    hub::Hub,
};

/// The HTTP server as the shards run it: the listeners of each shard, and what serves their
/// connections.
pub(super) struct HttpFront {
    /// By shard, then by address. They stay open while a shard is restarted, so that new
    /// connections wait in the kernel's accept queue.
    pub(super) listeners: Vec<Vec<net::TcpListener>>,
    pub(super) hub: Hub,
    pub(super) dispatcher: Dispatcher,
    pub(super) header_read_timeout: Duration,
    pub(super) keep_alive: Duration,
    pub(super) write_stall: Duration,
    pub(super) budget: SocketBudget,
    pub(super) rejections: Rejections,
    pub(super) tls: Option<Acceptor>,
    pub(super) proxies: TrustedProxies,
    pub(super) http2: Http2Limits,
    pub(super) limiter: ConnectionLimiter,
    pub(super) request_limits: RequestLimits,
    /// Becomes true when the accept loops are to stop.
    pub(super) accepts_no_more: watch::Receiver<bool>,
    /// Becomes true when idle connections are to be closed.
    pub(super) closing: watch::Receiver<bool>,
}

impl Front for HttpFront {
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
        let listeners: io::Result<Vec<AcceptQueue>> = self.listeners[shard.index()]
            .iter()
            .map(|listener| AcceptQueue::new(listener.try_clone()?))
            .collect();
        let connections = Rc::new(Connections {
            hub: self.hub.clone(),
            dispatcher: self.dispatcher.clone(),
            shard: shard.clone(),
            header_read_timeout: self.header_read_timeout,
            keep_alive: self.keep_alive,
            closing: self.closing.clone(),
            write_stall: self.write_stall,
            budget: self.budget.clone(),
            tls: self.tls.clone(),
            proxies: self.proxies.clone(),
            http2: self.http2.clone(),
            request_limits: self.request_limits.clone(),
            idle: IdleSockets::new(),
        });
        let returning = Rc::clone(&connections);
        let limiter = self.limiter.clone();
        shard.on_returned(move |ReturnedSocket { io, read_ahead, counted, keep_alive }| {
            // `getpeername` fails if the client has closed the connection already.
            let Ok(addrs) = io.addrs() else { return };
            let permits =
                (returning.budget.acquire_unchecked(), limiter.count_existing(addrs.peer));
            drop(counted);
            match io {
                io if !keep_alive => {
                    drop(spawn_local(Rc::clone(&returning).flush_and_close(io, permits)))
                }
                Socket::Plain(io) if read_ahead.is_empty() => returning.idle.watch(io, permits),
                io => {
                    let (protocol, timeout) = (Some(Protocol::Http1), returning.keep_alive);
                    let connections = Rc::clone(&returning);
                    spawn_local(
                        connections.serve_until_gone(io, read_ahead, protocol, timeout, permits),
                    );
                }
            }
        });
        let (rejections, limiter) = (self.rejections.clone(), self.limiter.clone());
        let accepts_no_more = self.accepts_no_more.clone();
        Box::pin(async move {
            let listeners = match listeners {
                Ok(listeners) => listeners,
                Err(error) => {
                    tracing::error!(%error, "a shard cannot listen");
                    return;
                }
            };
            let mut loops = JoinSet::new();
            let serving = Rc::clone(&connections);
            loops.spawn_local(async move {
                let (keep_alive, closing) = (serving.keep_alive, serving.shutdown_requested());
                let connections = Rc::clone(&serving);
                let serve = move |io: Tcp, request, permits| {
                    Rc::clone(&connections).serve_next(io, request, permits)
                };
                serving.idle.serve(keep_alive, closing, serve).await;
            });
            for listener in listeners {
                loops.spawn_local(accept_loop(
                    listener,
                    Rc::clone(&connections),
                    rejections.clone(),
                    limiter.clone(),
                    accepts_no_more.clone(),
                ));
            }
            while let Some(ended) = loops.join_next().await {
                if ended.is_err() {
                    // One loop has panicked. Without it the connections in its listener's queue
                    // would never be accepted, so the shard ends, and is restarted with all loops.
                    return;
                }
            }
        })
    }
}

/// Accepts connections until `accepts_no_more` is true.
async fn accept_loop(
    listener: AcceptQueue,
    connections: Rc<Connections>,
    rejections: Rejections,
    limiter: ConnectionLimiter,
    mut accepts_no_more: watch::Receiver<bool>,
) {
    let mut is_full = false;
    let mut in_a_row = 0;
    loop {
        if in_a_row >= ACCEPTS_IN_A_ROW {
            in_a_row = 0;
            yield_now().await;
        }
        in_a_row += 1;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The result of `wait_for` holds the lock of the watch channel: drop it at once.
            () = async { drop(accepts_no_more.wait_for(|no_more| *no_more).await) } => {
                drop(listener);
                return std::future::pending().await;
            }
        };
        let io = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_no_file(&error) => {
                if !rejections.accept_and_reject(&listener).await {
                    rejections.log_accept_error(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                rejections.log_accept_error(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let counted = match limiter.admit(io.addrs().peer) {
            Ok(counted) => counted,
            Err(why) => {
                rejections.reject_over_limit(io, why);
                continue;
            }
        };
        // Only the first connection that finds the budget exhausted waits for a permit. Those
        // behind it in the queue are rejected at once, until there is a permit again.
        let budget = &connections.budget;
        let permit = match rejections.fill_reserve() {
            false => Err(Exhausted::Files),
            true if is_full => budget.try_acquire(),
            true => budget.acquire_within_grace().await,
        };
        is_full = permit.is_err();
        match permit {
            Ok(permit) => {
                spawn_local(Rc::clone(&connections).serve_accepted(io, (permit, counted)));
            }
            Err(why) => rejections.reject_over_budget(io, why).await,
        }
    }
}

/// Connections accepted before the loop yields to those it has accepted.
const ACCEPTS_IN_A_ROW: usize = 16;
/// Pause of an accept loop after an error that would repeat at once, such as the file limit.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
