//! Browsers are kept to TLS where the settings say so.

use super::{certificate::TlsHub, client::Client};

#[tokio::test]
async fn browsers_get_hsts_if_the_settings_say_so() {
    for (settings, expected) in
        [(&[][..], None), (&[("HSTS_MAX_AGE_S", "86400")], Some("max-age=86400"))]
    {
        let hub = TlsHub::start(settings).await;
        let client = Client::tls_http1(&hub).await;
        for target in ["/", "/v1/channels", "/v1/channels/none"] {
            let answer = client.send("GET", target, &[], "").await.expect("an answer");
            let field = answer.headers().get("strict-transport-security");
            assert_eq!(field.map(|value| value.to_str().expect("text")), expected, "{target}");
        }
    }
}

#[tokio::test]
async fn clients_past_the_socket_limit_are_answered_too() {
    let settings = [("HSTS_MAX_AGE_S", "86400"), ("LIMITS__CONNECTIONS__REQUESTS_MAX", "1")];
    let hub = TlsHub::start(&settings).await;
    let only = Client::tls_http1(&hub).await;
    only.ask("GET", "/healthz", &[], "").await;
    let refused = Client::tls_http1(&hub).await;
    let answer = refused.send("GET", "/healthz", &[], "").await.expect("an answer");
    assert_eq!(answer.status(), 503);
    let field = answer.headers().get("strict-transport-security");
    assert_eq!(field.map(|value| value.as_bytes()), Some(&b"max-age=86400"[..]));
}
