//! A walk over the names that a subscription's patterns may match, in pieces.
//!
//! It visits each name once that begins with the literal segments of one of the patterns, in a map
//! that is ordered by names. Between two pieces it keeps only the last name visited, so the map may
//! change meanwhile. A name that is in the map during the whole walk is visited; a name that is
//! added or removed meanwhile may be.

use std::{collections::BTreeMap, ops::Bound};

use crate::model::{ChannelName, ChannelPattern};

/// The state of a walk.
#[derive(Debug)]
pub(super) struct Walk {
    /// Disjoint literal prefixes still to visit; the last is the current one.
    roots: Vec<String>,
    /// The last name visited below the current prefix.
    last: Option<ChannelName>,
}

impl Walk {
    /// A walk for `patterns` that has not begun.
    pub(super) fn new(patterns: &[ChannelPattern]) -> Self {
        let mut roots: Vec<_> = patterns.iter().map(|p| p.literal_prefix().to_owned()).collect();
        // A prefix sorts before the names that begin with it.
        roots.sort_unstable();
        let mut disjoint: Vec<String> = Vec::with_capacity(roots.len());
        for root in roots {
            if !disjoint.iter().any(|other| begins_with(&root, other)) {
                disjoint.push(root);
            }
        }
        Self { roots: disjoint, last: None }
    }

    /// How many names one look of a walk may visit, so that it costs a tenth of a millisecond.
    pub(super) fn names_per_look(patterns: &[ChannelPattern]) -> usize {
        let weight = patterns.iter().map(ChannelPattern::weight).sum::<usize>();
        (LOOK_COST_MAX / (NAME_COST + weight)).max(1)
    }

    /// Whether it is at its end.
    pub(super) fn is_over(&self) -> bool {
        self.roots.is_empty()
    }

    /// Looks at the next names of `names`, `names_max` at most.
    pub(super) fn visit<V>(
        &mut self,
        names: &BTreeMap<ChannelName, V>,
        names_max: usize,
        mut each: impl FnMut(&ChannelName, &V),
    ) {
        // A root without names counts as one name.
        let mut left = names_max;
        while left > 0
            && let Some(root) = self.roots.last()
        {
            let mut last = None;
            for (name, value) in below(names, root, self.last.as_ref()).take(left) {
                #[cfg(test)]
                super::tests::look();
                each(name, value);
                last = Some(name);
                left -= 1;
            }
            if left == 0 {
                self.last = last.cloned();
                return;
            }
            left -= 1;
            self.last = None;
            self.roots.pop();
        }
    }
}

/// The names of `names` that begin with `root`: those after `last`, or all.
fn below<'m, V>(
    names: &'m BTreeMap<ChannelName, V>,
    root: &str,
    last: Option<&ChannelName>,
) -> impl Iterator<Item = (&'m ChannelName, &'m V)> {
    let below = if root.is_empty() { String::new() } else { format!("{root}/") };
    // Others may come between the root and what is below it.
    let itself = last.is_none().then(|| names.get_key_value(root)).flatten();
    let from = match last.map(ChannelName::as_str).filter(|last| **last > *below) {
        Some(last) => Bound::Excluded(last),
        None => Bound::Included(&*below),
    };
    let range = names.range::<str, _>((from, Bound::Unbounded));
    itself.into_iter().chain(range.take_while(move |(name, _)| name.as_str().starts_with(&below)))
}

/// Whether `name` is `root` or begins with its segments.
fn begins_with(name: &str, root: &str) -> bool {
    let rest = name.strip_prefix(root);
    root.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What one look may cost, in comparisons of a name with a pattern.
const LOOK_COST_MAX: usize = if cfg!(test) { 17 } else { 2_048 };
/// The cost of a step to a name and of a look into its history, in the same unit.
const NAME_COST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 10] =
        ["g", "g!", "g-x/1", "g/1", "g/2", "g/2/3", "g/4", "g/5", "g0", "h/1"];

    fn names(names: &[&str]) -> BTreeMap<ChannelName, ()> {
        names.iter().map(|name| (ChannelName::parse(name).expect("a name"), ())).collect()
    }

    fn walk(patterns: &[&str]) -> Walk {
        let parse = |text: &&str| ChannelPattern::parse(text).expect("a pattern");
        Walk::new(&patterns.iter().map(parse).collect::<Vec<_>>())
    }

    /// The names of a walk, and how many pieces it took.
    fn all(patterns: &[&str], names_max: usize) -> (Vec<String>, usize) {
        let (mut walk, names) = (walk(patterns), names(&NAMES));
        let (mut seen, mut pieces) = (Vec::new(), 0);
        while !walk.is_over() {
            let before = seen.len();
            walk.visit(&names, names_max, |name, ()| seen.push(name.to_string()));
            assert!(seen.len() - before <= names_max, "{seen:?}");
            pieces += 1;
        }
        (seen, pieces)
    }

    #[test]
    fn names_are_those_that_begin_as_the_patterns_do_however_small_the_pieces() {
        for names_max in 1..12 {
            let seen = |patterns: &[&str]| all(patterns, names_max).0;
            assert_eq!(seen(&["g/**"]), ["g", "g/1", "g/2", "g/2/3", "g/4", "g/5"]);
            assert_eq!(seen(&["g/*"]), ["g", "g/1", "g/2", "g/2/3", "g/4", "g/5"]);
            assert_eq!(seen(&["g/2/*"]), ["g/2", "g/2/3"]);
            assert_eq!(seen(&["**"]), NAMES);
            assert_eq!(seen(&["*/1"]), NAMES);
            assert_eq!(seen(&["z/*"]), [""; 0]);
            assert_eq!(seen(&[]), [""; 0]);
        }
    }

    #[test]
    fn a_name_is_looked_at_once_however_many_patterns_may_stand_for_it() {
        assert_eq!(all(&["g/*", "**", "h/*", "*/1"], 4).0, NAMES);
        let below = ["h/1", "g", "g/1", "g/2", "g/2/3", "g/4", "g/5"];
        assert_eq!(all(&["g/2/*", "h/**", "g/*", "g/**"], 4).0, below);
        assert_eq!(all(&["g/**", "g0/**", "g-x/*"], 3).0.len(), 8, "not of the same segments");
    }

    #[test]
    fn a_piece_is_no_longer_than_it_may_be() {
        // One more finds that nothing is left.
        assert_eq!(all(&["**"], 9).1, 2);
        assert_eq!(all(&["**"], 10).1, 2);
        assert_eq!(all(&["**"], 11).1, 1);
        assert_eq!(all(&["x/*", "y/*", "z/*"], 2).1, 2, "roots without names count");
    }

    #[test]
    fn names_that_come_and_go_between_two_pieces_do_not_move_the_walk() {
        let mut walk = walk(&["**"]);
        let mut seen = Vec::new();
        walk.visit(&names(&["b", "d", "f"]), 2, |name, ()| seen.push(name.to_string()));
        // Where it stands is gone, one was created before it and one after.
        walk.visit(&names(&["a", "b", "e", "f"]), 3, |name, ()| seen.push(name.to_string()));
        assert_eq!(seen, ["b", "d", "e", "f"]);
        assert!(walk.is_over());
    }
}
