//! What a hub is called among others.

use super::Settings;

/// What this hub is called: its name in the settings, or that of its machine.
pub(super) fn node_name(settings: &Settings) -> String {
    match settings.node.is_empty() {
        true => host_name(),
        false => settings.node.clone(),
    }
}

/// The name of this machine, as the kernel has it; empty if that cannot be read.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}
