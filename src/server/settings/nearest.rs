//! Finds the setting that is probably meant by an unknown name.

use super::keys::KEYS;

/// The hint for an unknown `name`: the nearest key, or the keys in that section.
pub(super) fn hint(name: &str) -> String {
    if let Some(key) = nearest(name) {
        return format!("did you mean {key}?");
    }
    let section = name.rsplit_once('.').map_or(name, |(section, _)| section);
    let within = |section: &str| -> Vec<&str> {
        let prefix = format!("{section}.");
        KEYS.iter().filter_map(|key| key.name.strip_prefix(&prefix)).collect()
    };
    // The name itself may be that of a section.
    for section in [name, section] {
        let names = within(section);
        if !names.is_empty() {
            return format!("in {section} there are {}", names.join(", "));
        }
    }
    "`visnyk config` lists the settings".to_owned()
}

fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // The right name in a wrong section is a better guess than any similar spelling.
    let mut same_end = KEYS
        .iter()
        .filter(|key| key.name.rsplit('.').next() == name.rsplit('.').next())
        .map(|key| key.name);
    if let (Some(only), None) = (same_end.next(), same_end.next()) {
        return Some(only);
    }
    KEYS.iter()
        .map(|key| (strsim::levenshtein(&name, key.name), key.name))
        .min()
        .filter(|&(distance, key)| distance <= (key.len() / 4).clamp(1, 4))
        .map(|(_, key)| key)
}

/// For a longer name no distance is computed. The longest key has less than a quarter of this.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_a_wrong_section_and_a_section_are_told_apart() {
        assert_eq!(hint("limits.poll.limt"), "did you mean limits.poll.limit?");
        assert_eq!(hint("heartbeat_s"), "did you mean limits.connections.heartbeat_s?");
        assert_eq!(hint("LISTEN"), "did you mean listen?");
        assert_eq!(
            hint("limits.poll.patience"),
            "in limits.poll there are timeout_s, timeout_max_s, limit, limit_max, drain_pause_ms"
        );
        assert_eq!(
            hint("log"),
            "in log there are format, level, access, queue_bytes_max, sync, segment_bytes, bytes_max, age_max_s, \
             read_threads, read_queue_max, read_piece_bytes, read_bytes_max, read_cache_bytes_max, \
             search_bytes_max, search_memory_bytes_max"
        );
        assert_eq!(hint("colour"), "`visnyk config` lists the settings");
    }
}
