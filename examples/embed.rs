//! The hub inside an axum server of your own: its routes under `/push`, and handlers of the
//! server's own that publish and stream without HTTP in between.
//!
//! ```sh
//! cargo run --example embed
//! curl -N 'http://127.0.0.1:4000/orders/1/events' &
//! curl -X POST 'http://127.0.0.1:4000/orders/1/paid'
//! curl 'http://127.0.0.1:4000/push/v1/poll?channel=orders/**&last_event_id=earliest'
//! ```

use std::error::Error;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use visnyk::{
    http::{HttpSettings, router},
    hub::{Hub, Publication, StreamRequest},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::builder().start().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(hub)).await?;
    Ok(())
}

/// The server's own routes, and the hub's.
pub(crate) fn app(hub: Hub) -> Router {
    Router::new()
        .route("/orders/{id}/paid", post(paid))
        .route("/orders/{id}/events", get(events))
        .with_state(hub.clone())
        .nest("/push", router(hub, HttpSettings::default()))
}

async fn paid(State(hub): State<Hub>, Path(id): Path<String>) -> Result<String, StatusCode> {
    let event = Publication::message(&format!("orders/{id}"), "paid")
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    let published = hub.publish(event).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(published.last.to_string())
}

async fn events(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Response, StatusCode> {
    // Check here whether this user may see this order.
    let stream =
        StreamRequest::channel(&format!("orders/{id}")).map_err(|_| StatusCode::BAD_REQUEST)?;
    let body = hub.stream(stream).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response())
}
