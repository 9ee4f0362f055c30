//! Variables that a container platform sets by itself for a service whose name begins with
//! `visnyk`.
//!
//! Kubernetes sets variables with the addresses of a namespace's services in every container, in
//! the style of Docker's links: for a service `visnyk` on port 3000 they are `VISNYK_SERVICE_HOST`,
//! `VISNYK_SERVICE_PORT`, `VISNYK_PORT=tcp://10.96.0.7:3000` and `VISNYK_PORT_3000_TCP`; for
//! `visnyk-metrics` they begin with `VISNYK_METRICS_`. No operator wrote them, so they are not
//! misspelt settings.

use std::net::{IpAddr, SocketAddr};

/// Whether a platform sets this variable, whose name is given without `VISNYK_`. Name and value
/// both have to fit: an operator who writes `VISNYK_PORT=3000` expects it to do something.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    // The name may begin with the rest of the service's name, in which `-` is written as `_`.
    let after_service = name.match_indices('_').map(|(at, _)| &name[at + 1..]);
    std::iter::once(name).chain(after_service).any(|name| is_of_service(name, value))
}

/// Whether a platform sets this variable; its name is without that of the service.
fn is_of_service(name: &str, value: &str) -> bool {
    match name {
        "SERVICE_HOST" => is_ip(value),
        "SERVICE_PORT" => is_port(value),
        "PORT" => is_url(value),
        _ if name.starts_with("SERVICE_PORT_") => is_port(value),
        _ => name.strip_prefix("PORT_").is_some_and(|rest| is_of_port(rest, value)),
    }
}

/// Whether a platform sets this variable; of its name, `rest` is what follows `PORT_`, such as
/// `3000_TCP` or `3000_TCP_ADDR`.
fn is_of_port(rest: &str, value: &str) -> bool {
    let mut parts = rest.splitn(3, '_');
    let (number, protocol) = (parts.next(), parts.next());
    number.is_some_and(is_port)
        && protocol.is_some_and(|protocol| PROTOCOLS.contains(&&*protocol.to_ascii_lowercase()))
        && match parts.next() {
            None => is_url(value),
            Some("PROTO") => PROTOCOLS.contains(&value),
            Some("PORT") => is_port(value),
            Some("ADDR") => is_ip(value),
            Some(_) => false,
        }
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(protocol, address)| {
        PROTOCOLS.contains(&protocol) && address.parse::<SocketAddr>().is_ok()
    })
}

/// The protocols that a port of a service may have.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Settings;

    #[test]
    fn what_kubernetes_sets_for_a_service_is_known_by_name_and_value() {
        for (name, value) in [
            ("SERVICE_HOST", "10.96.0.7"),
            ("SERVICE_HOST", "fd00::7"),
            ("SERVICE_PORT", "3000"),
            ("SERVICE_PORT_HTTP", "3000"),
            ("SERVICE_PORT_WEB_2", "3000"),
            ("PORT", "tcp://10.96.0.7:3000"),
            ("PORT", "udp://[fd00::7]:3000"),
            ("PORT_3000_TCP", "tcp://10.96.0.7:3000"),
            ("PORT_3000_TCP_PROTO", "tcp"),
            ("PORT_3000_TCP_PORT", "3000"),
            ("PORT_3000_TCP_ADDR", "10.96.0.7"),
            ("PORT_9_SCTP_ADDR", "10.96.0.7"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
            for service in ["METRICS", "SERVICE", "A_PORT_1"] {
                assert!(is_service_link(&format!("{service}_{name}"), value), "{service}: {name}");
            }
        }
    }

    #[test]
    fn what_an_operator_writes_is_not_taken_for_it() {
        for (name, value) in [
            ("PORT", "3000"),
            ("PORT", ""),
            ("PORT", "http://10.96.0.7:3000"),
            ("PORT", "tcp://visnyk:3000"),
            ("SERVICE_HOST", "visnyk"),
            ("SERVICE_PORT", "http"),
            ("SERVICE_PORTS", "3000"),
            ("SERVICE_NAME", "visnyk"),
            ("PORT_3000", "3000"),
            ("PORT_3000_QUIC", "tcp://10.96.0.7:3000"),
            ("PORT_3000_TCP_NAME", "tcp"),
            ("PORT_3000_TCP_PROTO", "TCP"),
            ("PORT_70000_TCP_PORT", "3000"),
            ("port", "tcp://10.96.0.7:3000"),
            ("SUPPORT", "tcp://10.96.0.7:3000"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
        for key in Settings::keys() {
            let variable = key.variable();
            let name = variable.strip_prefix("VISNYK_").expect("our prefix");
            for value in ["10.96.0.7", "3000", "tcp://10.96.0.7:3000", "tcp"] {
                assert!(!is_service_link(name, value), "{variable} can no longer be set");
            }
        }
    }
}
