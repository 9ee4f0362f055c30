//! The name of a hub among those that share a log.

use super::Settings;

/// The name of this hub: that of the settings, or else that of the machine.
pub(super) fn node_name(settings: &Settings) -> String {
    match settings.node.is_empty() {
        true => host_name(),
        false => settings.node.clone(),
    }
}

/// The host name of this machine; empty if it cannot be read.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}
