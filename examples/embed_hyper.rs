//! The hub in a server made of hyper alone: its router is a service like any other.
//!
//! ```sh
//! cargo run --example embed_hyper
//! curl -N 'http://127.0.0.1:4000/v1/channels/a/events'
//! ```

use std::{error::Error, io};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use visnyk::{
    http::{HttpSettings, router},
    hub::Hub,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::builder().start().await?;
    let listener = TcpListener::bind("127.0.0.1:4000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(serve(listener, hub).await?)
}

/// Serves the hub's routes on every connection.
pub(crate) async fn serve(listener: TcpListener, hub: Hub) -> io::Result<()> {
    let service = TowerToHyperService::new(router(hub, HttpSettings::default()));
    loop {
        let (io, _) = listener.accept().await?;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(io), service.clone());
        tokio::spawn(connection);
    }
}
