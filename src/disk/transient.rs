//! Transient channels, whose events are not written. What an end of the hub may have lost of them
//! is known by pattern.

use bytes::{Buf, BufMut};

use crate::model::{ChannelPattern, Seq};

/// The patterns of transient channels, now and before, with what their channels may have lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransientChannels(Vec<Transient>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Transient {
    pattern: ChannelPattern,
    /// Events up to this seq may be lost.
    lost: Seq,
    /// Whether channels of this pattern are transient in the process that has written the file.
    is_active: bool,
}

impl TransientChannels {
    /// The state at the start of a process. Channels that were transient in the last process have
    /// lost what it did not write, of seqs up to `last_hole`. Channels of `patterns` are transient
    /// now.
    #[must_use]
    pub fn start<'a>(
        mut self,
        last_hole: Seq,
        patterns: impl Iterator<Item = &'a ChannelPattern>,
    ) -> Self {
        for transient in self.0.iter_mut().filter(|transient| transient.is_active) {
            transient.lost = transient.lost.max(last_hole);
            transient.is_active = false;
        }
        self.0.retain(|transient| transient.lost > Seq::ZERO);
        self.limit();
        self.with(patterns)
    }

    /// The same state, with more patterns.
    #[must_use]
    pub fn with<'a>(mut self, patterns: impl Iterator<Item = &'a ChannelPattern>) -> Self {
        for pattern in patterns {
            match self.0.iter_mut().find(|transient| transient.pattern == *pattern) {
                Some(transient) => transient.is_active = true,
                None => self.0.push(Transient {
                    pattern: pattern.clone(),
                    lost: Seq::ZERO,
                    is_active: true,
                }),
            }
        }
        self
    }

    /// What is lost: any channel of a pattern may have lost events up to a seq.
    pub fn lost(&self) -> impl Iterator<Item = (&ChannelPattern, Seq)> {
        let lost = self.0.iter().filter(|transient| transient.lost > Seq::ZERO);
        lost.map(|transient| (&transient.pattern, transient.lost))
    }

    /// Beyond the bound, the losses of the oldest patterns count for all channels.
    fn limit(&mut self) {
        let Some(excess) = self.0.len().checked_sub(PATTERNS_MAX) else { return };
        self.0.sort_by_key(|transient| transient.lost);
        let Some(lost) = self.0.drain(..excess + 1).map(|transient| transient.lost).max() else {
            return;
        };
        let pattern = ChannelPattern::parse("**").expect("a pattern");
        self.0.push(Transient { pattern, lost, is_active: false });
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(self.0.len() as u32);
        for Transient { pattern, lost, is_active } in &self.0 {
            out.put_u8(u8::from(*is_active));
            out.put_u64_le(lost.0);
            out.put_u8(pattern.as_str().len() as u8);
            out.put_slice(pattern.as_str().as_bytes());
        }
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut patterns = Vec::new();
        for _ in 0..bytes.try_get_u32_le().ok()? {
            let is_active = bytes.try_get_u8().ok()? != 0;
            let lost = Seq(bytes.try_get_u64_le().ok()?);
            let len = usize::from(bytes.try_get_u8().ok()?);
            let (text, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            let pattern = ChannelPattern::parse(std::str::from_utf8(text).ok()?).ok()?;
            patterns.push(Transient { pattern, lost, is_active });
        }
        bytes.is_empty().then_some(Self(patterns))
    }
}

/// The file of [`TransientChannels`].
pub(super) const TRANSIENT: &str = "transient";
/// Patterns of earlier processes that are kept one by one.
const PATTERNS_MAX: usize = if cfg!(test) { 3 } else { 1_000 };

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).expect("a pattern")
    }

    fn lost(channels: &TransientChannels) -> Vec<(&str, u64)> {
        channels.lost().map(|(pattern, seq)| (pattern.as_str(), seq.0)).collect()
    }

    #[test]
    fn what_was_transient_has_lost_what_was_not_written() {
        let (a, b) = (pattern("a/*"), pattern("b"));
        let first = TransientChannels::default().start(Seq(7), [&a].into_iter());
        assert_eq!(lost(&first), [], "nothing was transient before");
        let first = first.with([&b].into_iter());
        let bytes = first.encode();
        let second = TransientChannels::decode(&bytes).expect("as it was written");
        assert_eq!(second, first);
        let second = second.start(Seq(9), [&b].into_iter());
        assert_eq!(lost(&second), [("a/*", 9), ("b", 9)]);
        let third = second.start(Seq(12), std::iter::empty());
        assert_eq!(lost(&third), [("a/*", 9), ("b", 12)], "a was durable again");
        assert_eq!(TransientChannels::decode(&bytes[1..]), None);
    }

    #[test]
    fn past_the_bound_the_oldest_patterns_stand_for_all_channels() {
        let mut channels = TransientChannels::default();
        for n in 1..=5 {
            let pattern = pattern(&format!("c{n}"));
            channels = channels.start(Seq(n), [&pattern].into_iter());
        }
        let channels = channels.start(Seq(9), std::iter::empty());
        assert_eq!(lost(&channels).len(), PATTERNS_MAX);
        assert!(lost(&channels).contains(&("c5", 9)));
        assert!(lost(&channels).iter().any(|(text, seq)| *text == "**" && *seq >= 3));
    }
}
