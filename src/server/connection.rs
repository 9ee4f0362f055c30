//! One HTTP/1 connection: hyper parses and answers; a stream or a waiting poll is taken back from
//! it and given to the shard, and hyper's buffers are freed.
//!
//! Only a GET without a body is taken: what came late of a body would be read as the next
//! request when a poll's socket goes back. And only when everything written before has gone out.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{pending, poll_fn},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Once,
    task::Poll,
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::{Bytes, BytesMut};
use hyper::{
    Method, Request, Response, Version,
    body::{Body as _, Incoming},
    header,
    http::response,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceExt;

use super::{
    outgoing::{Outgoing, Stall},
    places::{Place, Places},
    rewind::Rewind,
    tls::{Acceptor, Welcome},
};
use crate::{
    actors::{LocalShard, Socket},
    core::Http2Limits,
    http::{CanTake, LocalAddress, Secure, Taken, Takeover, TrustedProxies},
};

/// What every connection of a shard has in common.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) router: Router,
    pub(super) shard: LocalShard,
    pub(super) header_read_timeout: Duration,
    pub(super) closing: tokio::sync::watch::Receiver<bool>,
    /// How long a client may take nothing of an answer.
    pub(super) write_stall: Duration,
    pub(super) places: Places,
    /// Where all connections are encrypted.
    pub(super) tls: Option<Acceptor>,
    /// Who is believed about whom a request comes from.
    pub(super) proxies: TrustedProxies,
    /// The bounds of HTTP/2.
    pub(super) http2: Http2Limits,
}

/// A connection that is to be served.
pub(super) enum Beginning {
    /// Nothing was read of it; its client may speak HTTP/1 or HTTP/2.
    New(Socket),
    /// HTTP/1 is spoken on it; this was read already.
    Http1(Socket, Bytes),
    /// HTTP/2 is spoken on it.
    Http2(Socket),
}

/// How the HTTP server's part of a connection ended.
enum Ended {
    /// By itself.
    Over(hyper::Result<()>),
    /// A response asks for the socket.
    GivenAway,
    /// The client does not read its answer.
    Stalled,
    /// The client speaks HTTP/2.
    Http2,
}

/// Who goes on with a connection after the HTTP/1 server.
enum Next {
    /// Nobody: it is over.
    Nobody,
    /// A shard, for a stream or a poll; the bytes were read too early.
    Shard(Socket, Bytes),
    /// HTTP/2.
    Http2(Socket, Bytes),
}

/// How requests come in on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    local: SocketAddr,
    peer: SocketAddr,
    is_secure: bool,
}

/// A response that asks for its socket.
struct Asking {
    parts: response::Parts,
    taken: Taken,
    keep_alive: bool,
}

impl Connections {
    /// Serves a connection that was just accepted.
    pub(super) async fn accept(self, io: TcpStream, peer: SocketAddr, place: Place) {
        let Some(tls) = self.tls.clone() else {
            return self.serve(Beginning::New(io.into()), peer, place).await;
        };
        match Box::pin(tls.welcome(io)).await {
            None => {}
            Some(Welcome::Http1(io)) => {
                self.serve(Beginning::Http1(io, Bytes::new()), peer, place).await;
            }
            Some(Welcome::Http2(io)) => self.serve(Beginning::Http2(io), peer, place).await,
        }
    }

    /// Serves a connection until it ends, its shard is gone, or it is given away.
    pub(super) async fn serve(self, beginning: Beginning, peer: SocketAddr, _place: Place) {
        let shard = self.shard.clone();
        tokio::select! {
            () = Box::pin(self.speak(beginning, peer)) => {}
            () = shard.gone() => {}
        }
    }

    async fn speak(self, beginning: Beginning, peer: SocketAddr) {
        let (Beginning::New(io) | Beginning::Http1(io, _) | Beginning::Http2(io)) = &beginning;
        let Ok(local) = io.local_addr() else { return };
        let arrival = Arrival { local, peer, is_secure: io.is_secure() };
        let outgoing = Rc::new(Outgoing::new());
        let asking = Rc::default();
        let next = match beginning {
            Beginning::New(io) => {
                let io = Rewind::new_client(io, Rc::clone(&outgoing));
                self.parse(io, outgoing, &asking, arrival).await
            }
            Beginning::Http1(io, early) => {
                let io = Rewind::new(io, early, Rc::clone(&outgoing));
                self.parse(io, outgoing, &asking, arrival).await
            }
            Beginning::Http2(io) => Next::Http2(io, Bytes::new()),
        };
        match next {
            Next::Nobody => {}
            Next::Shard(io, early) => {
                let asking = asking.borrow_mut().take().expect("it is why the socket is here");
                hand_over(&self.shard, asking, io, &early);
            }
            Next::Http2(io, early) => Box::pin(self.serve_http2(io, early, arrival)).await,
        }
    }

    /// Lets hyper serve the connection; gives the socket and the bytes read too early when a
    /// response asks for them.
    async fn parse(
        &self,
        io: Rewind,
        outgoing: Rc<Outgoing>,
        asking: &Rc<RefCell<Option<Asking>>>,
        arrival: Arrival,
    ) -> Next {
        let mut stall = Stall::new(self.write_stall);
        let service = {
            let asking = Rc::clone(asking);
            let (router, proxies) = (self.router.clone(), self.proxies.clone());
            service_fn(move |mut request| {
                arrival.note(&mut request, &proxies);
                Box::pin(respond(router.clone(), request, Rc::clone(&asking)))
            })
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_read_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            // A publisher that ends its side when it has said all (`nc -N`) still gets its answer.
            .half_close(true)
            .serve_connection(io, service);
        let mut closing = self.closing.clone();
        let mut asked_to_close = Box::pin(async move {
            let _ = closing.wait_for(|closing| *closing).await;
        });
        let mut is_closing = false;
        let ended = poll_fn(|context| {
            if !is_closing && Future::poll(asked_to_close.as_mut(), context).is_ready() {
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            match connection.poll_without_shutdown(context) {
                Poll::Ready(result) => Poll::Ready(Ended::Over(result)),
                Poll::Pending if asking.borrow().is_some() && outgoing.is_flushed() => {
                    Poll::Ready(Ended::GivenAway)
                }
                Poll::Pending if outgoing.speaks_http2() => Poll::Ready(Ended::Http2),
                Poll::Pending => stall.poll(outgoing.waiting(), context).map(|()| Ended::Stalled),
            }
        })
        .await;
        match ended {
            Ended::GivenAway => {}
            Ended::Http2 => {
                let (io, early) = connection.into_parts().io.into_inner();
                return Next::Http2(io, early);
            }
            Ended::Stalled => {
                self.places.metrics().answers_stalled.inc();
                return Next::Nobody;
            }
            Ended::Over(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                let io = connection.into_parts().io.into_inner().0;
                linger(io, if is_closing { Duration::ZERO } else { LINGER }).await;
                return Next::Nobody;
            }
        }
        let parts = connection.into_parts();
        let (io, unread) = parts.io.into_inner();
        let early = if unread.is_empty() {
            parts.read_buf
        } else {
            let mut both = BytesMut::from(&parts.read_buf[..]);
            both.extend_from_slice(&unread);
            both.freeze()
        };
        Next::Shard(io, early)
    }
}

impl Arrival {
    /// Tells the routes where a request came in, from whom, and whether it could be read on the way.
    pub(super) fn note<B>(self, request: &mut Request<B>, proxies: &TrustedProxies) {
        let client = proxies.client(self.peer, request.headers());
        if client.is_this_machine() && TrustedProxies::is_forwarded(request.headers()) {
            warn_of_proxy(self.peer);
        }
        request.extensions_mut().insert(LocalAddress(self.local));
        request.extensions_mut().insert(client);
        if self.is_secure {
            request.extensions_mut().insert(Secure);
        }
    }
}

/// Says once that a proxy on this machine is not believed: to limits and listings, all who come by
/// it are this machine.
fn warn_of_proxy(peer: SocketAddr) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            proxy = %peer.ip(),
            "requests come through a proxy that is not in `trusted_proxies`: its clients have no \
             addresses of their own"
        );
    });
}

async fn respond(
    router: Router,
    request: Request<Incoming>,
    asking: Rc<RefCell<Option<Asking>>>,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    if request.method() == Method::GET && request.body().is_end_stream() {
        request.extensions_mut().insert(CanTake);
    }
    let keep_alive = request.version() == Version::HTTP_11 && !wants_close(&request);
    let mut response = router.oneshot(request).await?;
    let takeover = response.extensions_mut().remove::<Takeover>();
    match takeover.and_then(|takeover| takeover.take()) {
        None => Ok(response),
        Some(taken) => {
            let (parts, _) = response.into_parts();
            *asking.borrow_mut() = Some(Asking { parts, taken, keep_alive });
            // hyper is not to answer; its connection is dropped at the next turn.
            pending().await
        }
    }
}

/// Ends a connection whose client may still be sending: a socket closed with unread bytes is
/// reset, and the reset may overtake the last answer (RFC 9112, section 9.6).
async fn linger(mut io: Socket, wait: Duration) {
    let unheard = async {
        io.shutdown().await?;
        let mut bytes = [0; 4096];
        while io.read(&mut bytes).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = tokio::time::timeout(wait, unheard).await;
}

fn hand_over(shard: &LocalShard, asking: Asking, io: Socket, early: &Bytes) {
    let Asking { parts, taken, keep_alive } = asking;
    let (head, ticket) = if taken.is_poll {
        (Bytes::new(), Some(Taken::ticket(&parts, keep_alive)))
    } else {
        (Taken::stream_head(&parts), None)
    };
    shard.attach(taken.subscriber, io, early, head, ticket);
}

fn wants_close<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(header::CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// How long a client may go on sending after its last answer before it is reset.
const LINGER: Duration = Duration::from_secs(2);
/// Header fields of a request; more are 431.
const HEADERS_MAX: usize = 100;
/// Bytes of a request's head as it comes: what a head of 32 KiB has besides its target and fields
/// fits, however it is cut into reads. More are 431, and the exact bound is the routes'.
const BUFFER_BYTES_MAX: usize = 40 * 1024;
