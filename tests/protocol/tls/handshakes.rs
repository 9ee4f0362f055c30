//! Handshakes that succeed, and those that do not.

use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    certificate::TlsHub,
    client::{Client, dial, metric, tls_config},
    support::PATIENCE,
};

#[tokio::test]
async fn hub_under_tls_says_https_and_when_its_certificate_expires() {
    let mut hub = TlsHub::start(&[]).await;
    let address = hub.hub.address();
    for line in
        [format!("listening on https://{address}"), format!("console at https://{address}/")]
    {
        assert_eq!(hub.hub.wait_for_line(&line, PATIENCE).await.expect("it is said"), line);
    }
    let client = Client::tls_http1(&hub).await;
    let expires = metric(&client, "visnyk_tls_certificate_expires_seconds").await;
    // What rcgen makes by default is good until the year 4096.
    assert_eq!(expires, 67_090_118_400.0);
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_clients_resume() {
    let hub = TlsHub::start(&[]).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(hub.certificate.der.clone().into()).expect("a certificate");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = std::sync::Arc::new(config);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut io = dial(hub.hub.address(), config.clone()).await.expect("a handshake");
            let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            io.write_all(request.as_bytes()).await.expect("it reads");
            let mut text = String::new();
            io.read_to_string(&mut text).await.expect("an answer");
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            kinds.push(io.get_ref().1.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{version:?}");
    }
}

#[tokio::test]
async fn plain_http_at_a_tls_port_gets_an_answer_in_plain_http() {
    let hub = TlsHub::start(&[]).await;
    let mut io = TcpStream::connect(hub.hub.address()).await.expect("it accepts");
    io.write_all(b"GET /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("it reads");
    let mut text = String::new();
    timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time").expect("an end");
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
    assert!(text.contains("https://"), "{text}");
    let client = Client::tls_http1(&hub).await;
    let refused = "visnyk_tls_handshakes_failed_total{reason=\"plain_http\"}";
    assert_eq!(metric(&client, refused).await, 1.0);
}

#[tokio::test]
async fn handshakes_that_do_not_end_are_cut_and_release_their_permits() {
    let hub = TlsHub::start(&[("HEADER_READ_TIMEOUT_S", "1")]).await;
    let mut silent = TcpStream::connect(hub.hub.address()).await.expect("it accepts");
    let mut half = TcpStream::connect(hub.hub.address()).await.expect("it accepts");
    // The head of a record that never comes.
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("it reads");
    let mut wrong = TcpStream::connect(hub.hub.address()).await.expect("it accepts");
    wrong.write_all(&[0xff; 64]).await.expect("it reads");
    for io in [&mut silent, &mut half, &mut wrong] {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, io.read_to_end(&mut bytes)).await.expect("it is closed");
    }
    let client = Client::tls_http1(&hub).await;
    let failed = |reason| format!("visnyk_tls_handshakes_failed_total{{reason=\"{reason}\"}}");
    assert_eq!(metric(&client, &failed("timeout")).await, 2.0);
    assert_eq!(metric(&client, &failed("protocol")).await, 1.0);
    assert_eq!(metric(&client, "visnyk_http_connections").await, 1.0);
}

#[tokio::test]
async fn handshakes_under_way_do_not_hold_up_the_end() {
    // Last answers may take a little longer than a publisher waits.
    let settings = [
        ("HEADER_READ_TIMEOUT_S", "120"),
        ("DRAIN_WINDOW_S", "0"),
        ("LIMITS__PUBLISH__WAIT_MS", "120000"),
    ];
    let mut hub = TlsHub::start(&settings).await;
    let _silent = TcpStream::connect(hub.hub.address()).await.expect("it accepts");
    let client = Client::tls_http1(&hub).await;
    while metric(&client, "visnyk_http_connections").await < 2.0 {}
    let began = Instant::now();
    drop(client);
    hub.hub.terminate().expect("it runs");
    let status = hub.hub.wait(PATIENCE).await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", hub.hub.stderr());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn clients_past_the_socket_limit_are_answered_under_tls_too() {
    let settings = [("LIMITS__CONNECTIONS__REQUESTS_MAX", "2"), ("HEADER_READ_TIMEOUT_S", "600")];
    let hub = TlsHub::start(&settings).await;
    let address = hub.hub.address();
    let client = Client::tls_http1(&hub).await;
    let _idle = TcpStream::connect(address).await.expect("it accepts");
    let deadline = Instant::now() + PATIENCE;
    while metric(&client, "visnyk_http_connections").await < 2.0 {
        assert!(Instant::now() < deadline, "the second permit is not taken");
    }
    let config = tls_config(&hub.certificate.der, &["h2", "http/1.1"]);
    let mut io = dial(address, config).await.expect("a handshake");
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let request = "GET /v1/channels/a/events HTTP/1.1\r\nHost: localhost\r\n\
                   Accept: text/event-stream\r\n\r\n";
    io.write_all(request.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time").expect("an end");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("\r\n: refused"), "{text}");
    assert!(text.contains("\nretry: "), "{text}");
}

#[tokio::test]
async fn handshakes_for_refusals_are_few_however_many_are_refused() {
    let settings = [
        ("LIMITS__PER_ADDRESS__LOOPBACK", "true"),
        ("LIMITS__PER_ADDRESS__NEW_PER_S", "1"),
        ("LIMITS__PER_ADDRESS__NEW_BURST", "1"),
    ];
    let hub = TlsHub::start(&settings).await;
    let config = tls_config(&hub.certificate.der, &["http/1.1"]);
    let begun = Instant::now();
    let (mut answered, mut closed) = (0, 0);
    for _ in 0..ASKING {
        let Ok(mut io) = dial(hub.hub.address(), config.clone()).await else {
            closed += 1;
            continue;
        };
        let _ = io.write_all(ASKED).await;
        let mut text = String::new();
        let _ = timeout(PATIENCE, io.read_to_string(&mut text)).await.expect("in time");
        answered += usize::from(text.starts_with("HTTP/1.1 429"));
    }
    assert!(answered > 0, "the first are answered");
    // What there is of them at once, and sixteen for each second that it took.
    let shaken = ASKING - closed;
    let allowed = 16 + 16 * (begun.elapsed().as_secs() as usize + 1);
    // Connections that the rate of one a second admits are not rejected.
    let served = begun.elapsed().as_secs() as usize + 2;
    assert!(shaken <= allowed + served, "{shaken} handshakes in {:?}", begun.elapsed());
}

const ASKING: usize = 200;
const ASKED: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
