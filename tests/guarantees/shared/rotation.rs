//! Passwords and certificates that are replaced, or expire, while a hub runs.

use visnyk_loadtest::RedisServer;

use super::{
    access::{COMMANDS, set_user},
    hubs::{hub_on, publish_when_back},
    tls::TlsServer,
};
use crate::support::PATIENCE;

/// Ends all connections but this one.
fn end_connections(server: &RedisServer) {
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_replaced_is_read_for_the_next_connection() {
    let server = RedisServer::start(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2").expect("it is written");
    let settings =
        [("backend.user", "visnyk"), ("backend.password_file", path.to_str().expect("UTF-8"))];
    set_user(&server, &COMMANDS);
    let hub = hub_on(&server, &settings).await;
    hub.publish("a", "1").await;
    // The file that is gone for a moment leaves the password that it had.
    std::fs::remove_file(&path).expect("it is there");
    end_connections(&server);
    publish_when_back(&hub, "2").await;
    server.command(&["ACL", "SETUSER", "visnyk", "resetpass", ">hunter3"]);
    std::fs::write(&path, "hunter3\n").expect("it is written");
    end_connections(&server);
    publish_when_back(&hub, "3").await;
    assert_eq!(hub.retained("channel=a", "earliest").await, ["1", "2", "3"]);
    assert!(!hub.stderr().contains("hunter"), "{}", hub.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_has_expired_is_refused_and_named_until_it_is_renewed() {
    let tls = TlsServer::start(&[]);
    let url = format!("rediss://localhost:{}", tls.port);
    let ca = std::fs::read_to_string(&tls.certificate).expect("it is there");
    let ca = tls.file("ca.pem", &ca);
    let settings = [("backend.url", url.as_str()), ("backend.ca_file", ca.as_str())];
    let mut hub = hub_on(&tls.server, &settings).await;
    hub.publish("a", "1").await;
    let renew = |not_after_year: i32| {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut made = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        made.not_before = rcgen::date_time_ymd(2020, 1, 1);
        made.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
        let certificate = made.self_signed(&key).expect("it is signed").pem();
        let file = |kind: &str, text: &str| tls.file(&format!("{kind}-{not_after_year}.pem"), text);
        let (key, certificate_file) =
            (file("key", &key.serialize_pem()), file("certificate", &certificate));
        let files = ["tls-cert-file", &certificate_file, "tls-key-file", &key];
        let set = tls.server.command(&[&["CONFIG", "SET"][..], &files[..]].concat());
        assert!(set.starts_with("+OK"), "{set}");
        tls.file("ca.pem", &certificate);
        end_connections(&tls.server);
    };
    renew(2021);
    hub.wait_for_metric("visnyk_backend_disconnects_total", |disconnects| disconnects >= 2.0).await;
    hub.wait_for_line("expired", PATIENCE).await.expect("the error is logged");
    renew(2040);
    publish_when_back(&hub, "2").await;
    assert_eq!(hub.retained("channel=a", "earliest").await, ["1", "2"]);
}
