//! The log of a hub: what is in it, and how that changes while it runs.

use rustix::process::Signal;

use crate::support::{PATIENCE, TestHub};

#[tokio::test]
async fn sigusr2_turns_debug_lines_on_and_off_again() {
    let mut hub = TestHub::start(&[]).await;
    for (line, ended) in [
        (None, 1.0),
        (Some("SIGUSR2: debug lines are logged; another one ends it"), 2.0),
        (Some("SIGUSR2: the log level is that of the settings again"), 3.0),
    ] {
        if let Some(line) = line {
            hub.signal(Signal::USR2).expect("it runs");
            hub.wait_for_line(line, PATIENCE).await.expect("a line");
        }
        drop(hub.stream("channel=a", "now").await);
        let closed = r#"visnyk_connections_closed_total{reason="peer_closed"}"#;
        hub.wait_for_metric(closed, |count| count == ended).await;
    }
    hub.terminate().expect("it runs");
    hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(hub.stderr().matches("connection ended").count(), 1, "{}", hub.stderr());
}
