//! A certificate that is renewed while streams are open.

use std::fs;

use rustix::process::Signal;
use tokio::{
    process::Command,
    time::{Duration, Instant, sleep},
};

use super::{
    certificate::{Certificate, TlsHub},
    client::{Client, dial, metric, tls_config},
    support::PATIENCE,
};

/// Whether new connections are given this certificate: no client would trust another.
async fn serves(hub: &TlsHub, certificate: &Certificate) -> bool {
    dial(hub.hub.address(), tls_config(&certificate.der, &[])).await.is_ok()
}

async fn wait_until_served(hub: &TlsHub, certificate: &Certificate) {
    let deadline = Instant::now() + PATIENCE;
    while !serves(hub, certificate).await {
        assert!(Instant::now() < deadline, "{}", hub.hub.stderr());
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn changed_files_are_taken_and_streams_stay() {
    let mut hub = TlsHub::start(&[("TLS_RELOAD_S", "1")]).await;
    let publisher = Client::tls_http1(&hub).await;
    let mut stream = Client::tls_http1(&hub).await.stream("a", "now").await;
    let renewed = Certificate::new();
    // One file, then the other: the pair that does not fit is passed over.
    fs::write(hub.cert_file(), &renewed.cert_pem).expect("it is written");
    let deadline = Instant::now() + PATIENCE;
    while metric(&publisher, "visnyk_tls_reloads_failed_total").await < 1.0 {
        assert!(Instant::now() < deadline, "{}", hub.hub.stderr());
        sleep(Duration::from_millis(50)).await;
    }
    assert!(serves(&hub, &hub.certificate).await, "the old one stays");
    hub.hub.wait_for_line("the old one stays", PATIENCE).await.expect("it is said");
    fs::write(hub.key_file(), &renewed.key_pem).expect("it is written");
    wait_until_served(&hub, &renewed).await;
    assert!(!serves(&hub, &hub.certificate).await);
    publisher.publish("a", "still here").await;
    assert_eq!(stream.data().await.as_deref(), Some("still here"));
    assert_eq!(metric(&publisher, "visnyk_tls_reloads_total").await, 1.0);
}

#[tokio::test]
async fn sighup_renews_at_once_and_bad_files_change_nothing() {
    let mut hub = TlsHub::start(&[("TLS_RELOAD_S", "86400")]).await;
    let publisher = Client::tls_http1(&hub).await;
    let mut stream = Client::tls_http1(&hub).await.stream("a", "now").await;
    let renewed = Certificate::new();
    fs::write(hub.cert_file(), &renewed.cert_pem).expect("it is written");
    fs::write(hub.key_file(), &renewed.key_pem).expect("it is written");
    assert!(serves(&hub, &hub.certificate).await, "the files were not read again");
    hub.hub.signal(Signal::HUP).expect("it runs");
    wait_until_served(&hub, &renewed).await;
    hub.hub.wait_for_line("were read again", PATIENCE).await.expect("a line");

    let bad = [
        (Some("no PEM".to_owned()), None),
        (Some(String::new()), None),
        (None, Some(Certificate::new().key_pem)),
        (None, Some(renewed.cert_pem.clone())),
    ];
    for (n, (cert, key)) in bad.into_iter().enumerate() {
        fs::write(hub.cert_file(), cert.unwrap_or(renewed.cert_pem.clone())).expect("written");
        fs::write(hub.key_file(), key.unwrap_or(renewed.key_pem.clone())).expect("written");
        hub.hub.signal(Signal::HUP).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while metric(&publisher, "visnyk_tls_reloads_failed_total").await < (n + 1) as f64 {
            assert!(Instant::now() < deadline, "{}", hub.hub.stderr());
        }
        assert!(serves(&hub, &renewed).await);
    }
    fs::remove_file(hub.key_file()).expect("it was there");
    hub.hub.signal(Signal::HUP).expect("it runs");
    let deadline = Instant::now() + PATIENCE;
    while metric(&publisher, "visnyk_tls_reloads_failed_total").await < 5.0 {
        assert!(Instant::now() < deadline, "{}", hub.hub.stderr());
    }
    assert!(!hub.hub.stderr().contains("PRIVATE"), "{}", hub.hub.stderr());
    publisher.publish("a", "still here").await;
    assert_eq!(stream.data().await.as_deref(), Some("still here"));
}

#[tokio::test]
async fn files_that_cannot_be_read_to_an_end_hold_up_neither_requests_nor_the_end() {
    let settings = [("TLS_RELOAD_S", "86400"), ("DRAIN_WINDOW_S", "0")];
    let mut hub = TlsHub::start(&settings).await;
    let publisher = Client::tls_http1(&hub).await;
    // To open one waits for a writer, as on a disk that does not answer.
    fs::remove_file(hub.cert_file()).expect("it was there");
    let made = Command::new("mkfifo").arg(hub.cert_file()).status().await;
    assert!(made.expect("it runs").success());
    hub.hub.signal(Signal::HUP).expect("it runs");
    hub.hub.wait_for_line("reading the settings again", PATIENCE).await.expect("a line");
    publisher.publish("a", "still here").await;
    assert!(serves(&hub, &hub.certificate).await, "the old one stays");
    drop(publisher);
    hub.hub.terminate().expect("it runs");
    let status = hub.hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.hub.stderr());
}
