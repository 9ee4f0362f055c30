//! Did a client receive exactly what it should have, in order?

use std::collections::HashMap;
use std::fmt;

/// What a client should receive: distinct events, in order.
#[derive(Debug, Clone)]
pub struct Sequence {
    expected: Vec<String>,
    index_of: HashMap<String, usize>,
}

/// How what was received differs. Each list is in the order of the sequence, or of receipt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// Expected and never received.
    pub lost: Vec<String>,
    /// Received again.
    pub repeated: Vec<String>,
    /// Received after something that should have come later.
    pub reordered: Vec<String>,
    /// Received and never expected.
    pub unexpected: Vec<String>,
}

impl Sequence {
    /// A sequence.
    ///
    /// # Panics
    ///
    /// If an event occurs twice: a repetition could not be recognised.
    pub fn new<S: Into<String>>(expected: impl IntoIterator<Item = S>) -> Self {
        let expected: Vec<String> = expected.into_iter().map(Into::into).collect();
        let mut index_of = HashMap::with_capacity(expected.len());
        for (index, event) in expected.iter().enumerate() {
            let before = index_of.insert(event.clone(), index);
            assert!(before.is_none(), "`{event}` is expected twice");
        }
        Self { expected, index_of }
    }

    /// Compares what was received with all of it.
    pub fn check<S: AsRef<str>>(&self, received: &[S]) -> Result<(), Mismatch> {
        let mut seen = vec![false; self.expected.len()];
        let mut furthest = None;
        let mut mismatch = Mismatch::default();
        for event in received.iter().map(AsRef::as_ref) {
            let list = match self.index_of.get(event) {
                None => &mut mismatch.unexpected,
                Some(&index) if seen[index] => &mut mismatch.repeated,
                Some(&index) => {
                    seen[index] = true;
                    if furthest < Some(index) {
                        furthest = Some(index);
                        continue;
                    }
                    &mut mismatch.reordered
                }
            };
            list.push(event.to_owned());
        }
        let lost = self.expected.iter().zip(seen).filter(|(_, seen)| !seen);
        mismatch.lost = lost.map(|(event, _)| event.clone()).collect();
        if mismatch == Mismatch::default() { Ok(()) } else { Err(mismatch) }
    }

    /// Panics with the differences and `who` received so.
    #[track_caller]
    pub fn assert_received<S: AsRef<str>>(&self, who: &str, received: &[S]) {
        if let Err(mismatch) = self.check(received) {
            let (got, wanted) = (received.len(), self.expected.len());
            panic!("{who} received {got} events of {wanted}: {mismatch}");
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("lost", &self.lost),
            ("repeated", &self.repeated),
            ("reordered", &self.reordered),
            ("unexpected", &self.unexpected),
        ];
        let mut separator = "";
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            write!(
                f,
                "{separator}{} {name}: {}",
                list.len(),
                list[..list.len().min(5)].join(", ")
            )?;
            f.write_str(if list.len() > 5 { ", …" } else { "" })?;
            separator = "; ";
        }
        Ok(())
    }
}

impl std::error::Error for Mismatch {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(received: &str) -> String {
        let received: Vec<&str> = received.split_whitespace().collect();
        let result = Sequence::new(["a", "b", "c", "d"]).check(&received);
        result.err().map(|mismatch| mismatch.to_string()).unwrap_or_default()
    }

    #[test]
    fn exact_sequence_passes() {
        assert_eq!(check("a b c d"), "");
    }

    #[test]
    fn each_difference_is_named() {
        assert_eq!(check("a d"), "2 lost: b, c");
        assert_eq!(check("a b c c d b"), "2 repeated: c, b");
        assert_eq!(check("a c b d"), "1 reordered: b");
        assert_eq!(check("a b x c d"), "1 unexpected: x");
        assert_eq!(check("b a a"), "2 lost: c, d; 1 repeated: a; 1 reordered: a");
        assert_eq!(check(""), "4 lost: a, b, c, d");
    }

    #[test]
    fn long_lists_are_cut() {
        let mismatch = Sequence::new((0..9).map(|n| n.to_string())).check::<&str>(&[]);
        assert_eq!(mismatch.expect_err("lost").to_string(), "9 lost: 0, 1, 2, 3, 4, …");
    }

    #[test]
    #[should_panic(expected = "expected twice")]
    fn ambiguous_sequence_is_refused() {
        Sequence::new(["a", "a"]);
    }
}
