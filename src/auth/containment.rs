//! Whether all channels that one pattern (the request) matches are also matched by another (the
//! grant).
//!
//! The grant is an automaton that reads names segment by segment. It is run for all names that
//! match the request at once. Names can be any text, so a wildcard of the request stands, in the
//! worst case, for segments that the grant does not name: only wildcards of the grant accept such a
//! segment. `*` of the request is one of them, and `**` any number. The request is contained in the
//! grant if the automaton accepts all these names.
//!
//! Each number of segments for a `**` leads to another set of states, and all these sets are
//! followed. If one set contains another, only the smaller one is: what it accepts, the larger
//! accepts too.

use crate::model::ChannelPattern;

/// Whether `granted` matches every channel that `requested` matches. The answer is exact, with two
/// exceptions in which it is false: `granted` has more segments than [`SEGMENTS_MAX`], or more than
/// [`SETS_MAX`] sets of states would have to be followed.
pub fn contains(granted: &ChannelPattern, requested: &ChannelPattern) -> bool {
    let granted: Vec<&str> = granted.as_str().split('/').collect();
    let mut requested: Vec<&str> = requested.as_str().split('/').collect();
    if granted.len() > SEGMENTS_MAX {
        return false;
    }
    // A name has at least one segment, so `**` alone matches the same names as `*/**`.
    if requested.iter().all(|&segment| segment == "**") {
        requested.insert(0, "*");
    }
    let automaton = Automaton(&granted);
    let mut sets = vec![automaton.closed(1)];
    for segment in requested {
        let mut next = Vec::new();
        for set in sets {
            match segment {
                "**" => {
                    // Zero, one, two, … segments, until a set comes again.
                    let mut after = set;
                    let mut seen = Vec::new();
                    while !seen.contains(&after) {
                        seen.push(after);
                        keep_smallest(&mut next, after);
                        after = automaton.step(after, None);
                    }
                }
                "*" => keep_smallest(&mut next, automaton.step(set, None)),
                literal => keep_smallest(&mut next, automaton.step(set, Some(literal))),
            }
        }
        if next.contains(&0) || next.len() > SETS_MAX {
            return false;
        }
        sets = next;
    }
    let accepting = 1_u128 << granted.len();
    sets.iter().all(|set| set & accepting != 0)
}

/// A pattern as an automaton. In state `n` its first `n` segments have matched. A set of states has
/// a bit for each.
struct Automaton<'a>(&'a [&'a str]);

impl Automaton<'_> {
    /// The states after one more segment of a name. `None` is a segment that only wildcards accept.
    fn step(&self, set: u128, segment: Option<&str>) -> u128 {
        let mut next = 0;
        for (state, &granted) in self.0.iter().enumerate() {
            if set & (1 << state) != 0 {
                match granted {
                    "**" => next |= 1 << state,
                    "*" => next |= 1 << (state + 1),
                    literal if segment == Some(literal) => next |= 1 << (state + 1),
                    _ => {}
                }
            }
        }
        self.closed(next)
    }

    /// The set with all states that are reached from it if `**` matches zero segments.
    fn closed(&self, mut set: u128) -> u128 {
        for (state, &granted) in self.0.iter().enumerate() {
            if granted == "**" && set & (1 << state) != 0 {
                set |= 1 << (state + 1);
            }
        }
        set
    }
}

/// Adds a set, unless `sets` has a subset of it, and removes supersets of it.
fn keep_smallest(sets: &mut Vec<u128>, set: u128) {
    if sets.iter().any(|&there| there & !set == 0) {
        return;
    }
    sets.retain(|&there| set & !there != 0);
    sets.push(set);
}

/// Most segments of a granted pattern: a set has 128 bits, and one is for the accepting state.
const SEGMENTS_MAX: usize = 127;
/// Most sets of states that are followed at a time.
const SETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::model::ChannelName;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).expect("a pattern")
    }

    fn check(granted: &str, requested: &str) -> bool {
        contains(&pattern(granted), &pattern(requested))
    }

    #[test]
    fn what_is_wider_in_any_way_is_not_contained() {
        for (granted, requested, expected) in [
            ("a/*", "a/*", true),
            ("a/*", "a/b", true),
            ("a/*", "a/**", false),
            ("a/*", "*/b", false),
            ("a/**", "a", true),
            ("a/**", "a/**", true),
            ("a/**", "a/*/**", true),
            ("a/**", "**", false),
            ("a/*/**", "a/**", false),
            ("**", "**", true),
            ("*/**", "**", true),
            ("**/*", "**", true),
            ("**/**", "*/**/*", true),
            ("**/a", "**/b/a", true),
            ("**/a", "**", false),
            ("**/a/**", "**/a/**/a/**", true),
            ("users/ann/**", "users/*/**", false),
            ("users/ann/**", "users/ann", true),
            ("users/ann/**", "users/**", false),
            ("*/*/**", "**/*/*", true),
        ] {
            assert_eq!(check(granted, requested), expected, "{granted} holds {requested}");
        }
    }

    #[test]
    fn long_patterns_cost_little_and_are_refused_if_need_be() {
        let stars = vec!["**/a/*"; 36].join("/");
        assert!(check(&stars, &stars) || !check("a", &stars));
        let long = vec!["a"; 128].join("/");
        assert!(!check(&long, &long), "one segment past the bound");
        let long = vec!["a"; 127].join("/");
        assert!(check(&long, &long));
    }

    static NAMES: LazyLock<Vec<ChannelName>> = LazyLock::new(|| names(&["a", "b", "c"], 7));

    /// All names of up to `length` segments over the letters.
    fn names(letters: &[&str], length: usize) -> Vec<ChannelName> {
        let mut all: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for _ in 0..length {
            let longer = last.iter().flat_map(|prefix| {
                letters.iter().map(move |letter| match prefix.as_str() {
                    "" => (*letter).to_owned(),
                    prefix => format!("{prefix}/{letter}"),
                })
            });
            last = longer.collect();
            all.extend(last.iter().cloned());
        }
        all.iter().map(|name| ChannelName::parse(name).expect("a name")).collect()
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("*"), Just("**")], 1..5)
            .prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        // A third letter is a segment that neither spells out, and the names have more segments
        // than both patterns together: with these, any two patterns differ on some name.
        #[test]
        fn it_agrees_with_trying_every_name(granted in any_pattern(), requested in any_pattern()) {
            let (wide, narrow) = (pattern(&granted), pattern(&requested));
            let expected =
                NAMES.iter().all(|name| !narrow.matches(name) || wide.matches(name));
            prop_assert_eq!(contains(&wide, &narrow), expected, "{} holds {}", granted, requested);
        }

        #[test]
        fn no_patterns_take_long(
            granted in proptest::collection::vec(
                prop_oneof![Just("a"), Just("*"), Just("**")], 1..60),
            requested in proptest::collection::vec(
                prop_oneof![Just("a"), Just("*"), Just("**")], 1..60),
        ) {
            let _ = check(&granted.join("/"), &requested.join("/"));
        }
    }
}
