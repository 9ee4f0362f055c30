//! HTTP/2 connections while the hub drains.

use rustix::process::Signal;

use super::{
    raw::{self, Raw},
    support::TestHub,
};

#[tokio::test]
async fn http2_clients_are_sent_goaway_at_once_and_keep_their_streams() {
    // Enough streams for the window, so that one is there for some time.
    let settings = [("DRAIN_WINDOW_S", "2"), ("SHARDS", "1")];
    let hub = TestHub::start(&settings).await;
    let mut client = Raw::connect(hub.address(), &[]).await;
    let streams = 100;
    for number in 0..streams {
        client.get(1 + 2 * number, "/v1/channels/a/events").await;
        assert!(client.next_of(raw::HEADERS).await.is_some());
    }
    hub.signal(Signal::TERM).expect("it runs");
    let goaway = client.next_of(raw::GOAWAY).await.expect("a frame");
    assert_eq!(goaway.payload[..4], (u32::MAX >> 1).to_be_bytes(), "no stream is lost");
    assert_eq!(goaway.payload[4..8], [0; 4], "no error");
    // The streams go on to their ends.
    let mut ended = 0;
    while let Some(frame) = client.next().await {
        match frame.kind {
            raw::PING if frame.flags == 0 => {
                let answer = raw::frame(raw::PING, 1, 0, &frame.payload);
                client.send(&answer).await.expect("it reads");
            }
            raw::DATA => ended += u32::from(frame.flags & raw::END_STREAM != 0),
            _ => {}
        }
    }
    assert_eq!(ended, streams);
}
