//! An index of patterns: finds those that match a channel, at a cost that does not grow with the
//! number of patterns.
//!
//! A trie over segments. A look-up walks it with the name's segments and keeps the set of nodes
//! that the name may have reached, each at most once, so even patterns chosen to be slow cost no
//! more than segments times nodes. A name reaches only nodes whose path it matches.

use std::{collections::HashMap, fmt, sync::Arc};

use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;

use crate::model::{ChannelName, ChannelPattern};

/// Values by pattern. Equivalent patterns (`**/*` and `*/**`) have one entry.
pub struct PatternIndex<T> {
    nodes: Slab<Node<T>>,
    /// The child of a node for a literal segment, by the number of the segment.
    edges: FxHashMap<(u32, u32), u32>,
    /// Numbers of the literal segments in use. The hash is seeded, since clients choose the
    /// segments.
    numbers: HashMap<Arc<str>, u32>,
    segments: Slab<Literal>,
    len: usize,
    look_ups: u64,
    /// Buffers of a look-up: the nodes reached at the current segment, those for the next segment,
    /// and `**` nodes, which stay reached.
    reached: Vec<u32>,
    next: Vec<u32>,
    staying: Vec<u32>,
    /// Nodes visited since the index was created.
    steps: u64,
}

/// A pattern's entry in the index, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PatternId(u32);

#[derive(Debug)]
struct Node<T> {
    parent: u32,
    edge: Segment,
    /// The child for `*`.
    one: u32,
    /// The child for `**`, which matches any further segments, so it stays reached.
    any: u32,
    /// The number of its literal children.
    literals: u32,
    /// The last look-up that reached it, if it is a child for `**`.
    seen: u64,
    value: Option<T>,
}

#[derive(Debug)]
struct Literal {
    text: Arc<str>,
    edges: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Literal(u32),
    One,
    Any,
}

impl<T> PatternIndex<T> {
    /// The value of `pattern`, made by `value` if it has no entry.
    pub fn entry(
        &mut self,
        pattern: &ChannelPattern,
        value: impl FnOnce() -> T,
    ) -> (PatternId, &mut T) {
        let mut node = ROOT;
        for word in words(pattern) {
            node = match self.child(node, word) {
                Some(child) => child,
                None => self.grow(node, word),
            };
        }
        let at = &mut self.nodes[node as usize];
        if at.value.is_none() {
            self.len += 1;
        }
        (PatternId(node), at.value.get_or_insert_with(value))
    }

    /// The entry of `pattern`, if it has one.
    pub fn find(&self, pattern: &ChannelPattern) -> Option<PatternId> {
        let node =
            words(pattern).into_iter().try_fold(ROOT, |node, word| self.child(node, word))?;
        self.nodes[node as usize].value.is_some().then_some(PatternId(node))
    }

    /// The value of an entry.
    pub fn get(&self, id: PatternId) -> Option<&T> {
        self.nodes.get(id.0 as usize)?.value.as_ref()
    }

    /// The value of an entry.
    pub fn get_mut(&mut self, id: PatternId) -> Option<&mut T> {
        self.nodes.get_mut(id.0 as usize)?.value.as_mut()
    }

    /// Removes a pattern.
    pub fn remove(&mut self, id: PatternId) -> Option<T> {
        let value = self.nodes.get_mut(id.0 as usize)?.value.take()?;
        self.len -= 1;
        let mut node = id.0;
        while node != ROOT && self.nodes[node as usize].is_bare() {
            node = self.cut(node);
        }
        Some(value)
    }

    /// Calls `found` with every pattern that matches `name`, each once.
    pub fn each_match(&mut self, name: &ChannelName, mut found: impl FnMut(PatternId, &T)) {
        self.look_ups += 1;
        let mut reached = std::mem::take(&mut self.reached);
        let mut next = std::mem::take(&mut self.next);
        let mut staying = std::mem::take(&mut self.staying);
        self.reach(ROOT, &mut reached, &mut staying);
        for segment in name.segments() {
            if reached.is_empty() && staying.is_empty() {
                break;
            }
            let segment = self.numbers.get(segment).copied();
            // The nodes that this segment reaches are for the next segment.
            let stayed = staying.len();
            for at in 0..reached.len() + stayed {
                let node = match at.checked_sub(reached.len()) {
                    None => reached[at],
                    Some(at) => staying[at],
                };
                let one = self.nodes[node as usize].one;
                if one != NONE {
                    self.reach(one, &mut next, &mut staying);
                }
                let child = segment.and_then(|segment| self.edges.get(&(node, segment)));
                if let Some(&child) = child {
                    self.reach(child, &mut next, &mut staying);
                }
            }
            self.steps += (reached.len() + stayed) as u64;
            reached.clear();
            std::mem::swap(&mut reached, &mut next);
        }
        for node in reached.drain(..).chain(staying.drain(..)) {
            if let Some(value) = &self.nodes[node as usize].value {
                found(PatternId(node), value);
            }
        }
        (self.reached, self.next, self.staying) = (reached, next, staying);
    }

    /// The values of all patterns, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().filter_map(|(_, node)| node.value.as_ref())
    }

    /// The number of patterns.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no pattern.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nodes that all look-ups have visited: a measure of their cost.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Adds a node, and its child for `**`, which matches zero segments too.
    fn reach(&mut self, node: u32, reached: &mut Vec<u32>, staying: &mut Vec<u32>) {
        reached.push(node);
        let any = self.nodes[node as usize].any;
        if any != NONE {
            let any_node = &mut self.nodes[any as usize];
            if any_node.seen != self.look_ups {
                any_node.seen = self.look_ups;
                staying.push(any);
            }
        }
    }

    fn child(&self, node: u32, word: Word<'_>) -> Option<u32> {
        let at = &self.nodes[node as usize];
        let child = match word {
            Word::One => at.one,
            Word::Any => at.any,
            Word::Literal(text) => {
                let number = *self.numbers.get(text)?;
                return self.edges.get(&(node, number)).copied();
            }
        };
        (child != NONE).then_some(child)
    }

    fn grow(&mut self, parent: u32, word: Word<'_>) -> u32 {
        let edge = match word {
            Word::One => Segment::One,
            Word::Any => Segment::Any,
            Word::Literal(text) => Segment::Literal(self.number(text)),
        };
        let child = self.nodes.insert(Node::new(parent, edge)) as u32;
        match edge {
            Segment::One => self.nodes[parent as usize].one = child,
            Segment::Any => self.nodes[parent as usize].any = child,
            Segment::Literal(number) => {
                self.edges.insert((parent, number), child);
                self.nodes[parent as usize].literals += 1;
                self.segments[number as usize].edges += 1;
            }
        }
        child
    }

    /// Removes a node without children and value; returns its parent.
    fn cut(&mut self, node: u32) -> u32 {
        let Node { parent, edge, .. } = self.nodes.remove(node as usize);
        let at = &mut self.nodes[parent as usize];
        match edge {
            Segment::One => at.one = NONE,
            Segment::Any => at.any = NONE,
            Segment::Literal(number) => {
                at.literals -= 1;
                self.edges.remove(&(parent, number));
                let literal = &mut self.segments[number as usize];
                literal.edges -= 1;
                if literal.edges == 0 {
                    let text = self.segments.remove(number as usize).text;
                    self.numbers.remove(&text);
                }
            }
        }
        parent
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let text: Arc<str> = text.into();
        let number = self.segments.insert(Literal { text: Arc::clone(&text), edges: 0 }) as u32;
        self.numbers.insert(text, number);
        number
    }
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(NONE, Segment::Any));
        Self {
            nodes,
            edges: FxHashMap::default(),
            numbers: HashMap::new(),
            segments: Slab::new(),
            len: 0,
            look_ups: 0,
            reached: Vec::new(),
            next: Vec::new(),
            staying: Vec::new(),
            steps: 0,
        }
    }
}

impl<T> fmt::Debug for PatternIndex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatternIndex").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T> Node<T> {
    fn new(parent: u32, edge: Segment) -> Self {
        Self { parent, edge, one: NONE, any: NONE, literals: 0, seen: 0, value: None }
    }

    fn is_bare(&self) -> bool {
        self.value.is_none() && self.literals == 0 && self.one == NONE && self.any == NONE
    }
}

/// A segment of a pattern, before its literal has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word<'a> {
    Literal(&'a str),
    One,
    Any,
}

/// The segments of a pattern in normal form: each run of wildcards becomes its `*` segments, then
/// at most one `**`. So no node for `**` has a wildcard child, and a look-up reaches fewer nodes.
fn words(pattern: &ChannelPattern) -> SmallVec<[Word<'_>; 8]> {
    let mut words = SmallVec::new();
    let mut any = false;
    for segment in pattern.segments() {
        match segment {
            "*" => words.push(Word::One),
            "**" => any = true,
            text => {
                if std::mem::take(&mut any) {
                    words.push(Word::Any);
                }
                words.push(Word::Literal(text));
            }
        }
    }
    if any {
        words.push(Word::Any);
    }
    words
}

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).expect("a pattern")
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).expect("a name")
    }

    fn index(patterns: &[&str]) -> PatternIndex<String> {
        let mut index = PatternIndex::default();
        for text in patterns {
            index.entry(&pattern(text), || (*text).to_owned());
        }
        index
    }

    fn matching(index: &mut PatternIndex<String>, channel: &str) -> Vec<String> {
        let mut ids = Vec::new();
        index.each_match(&name(channel), |id, _| ids.push(id));
        let mut found: Vec<_> = ids.iter().map(|id| index.get(*id).cloned()).collect();
        found.sort();
        found.into_iter().flatten().collect()
    }

    /// Nodes that a look-up looks at.
    fn steps(index: &mut PatternIndex<String>, channel: &str) -> u64 {
        let before = index.steps();
        index.each_match(&name(channel), |_, _| {});
        index.steps() - before
    }

    #[test]
    fn a_look_up_finds_every_pattern_once() {
        let mut index = index(&["**", "a/*", "a/**", "*/b", "**/b/**", "a/b/*", "вісник/*"]);
        assert_eq!(matching(&mut index, "a/b"), ["**", "**/b/**", "*/b", "a/*", "a/**"]);
        assert_eq!(matching(&mut index, "a"), ["**", "a/**"]);
        assert_eq!(matching(&mut index, "b/b/b"), ["**", "**/b/**"]);
        assert_eq!(matching(&mut index, "вісник/новини"), ["**", "вісник/*"]);
    }

    #[test]
    fn the_same_in_other_words_is_one_pattern() {
        let mut index = index(&["a/**/*"]);
        let (_, value) = index.entry(&pattern("a/*/**"), || "another".into());
        assert_eq!(value, "a/**/*");
        assert_eq!(index.find(&pattern("a/**/*/**")), index.find(&pattern("a/*/**")));
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn ten_thousand_other_patterns_cost_a_look_up_nothing() {
        let alone = steps(&mut index(&["t/1/*", "**"]), "t/1/x");
        let many: Vec<_> = (0..10_000).map(|n| format!("t/{n}/*")).collect();
        let mut crowded = index(&many.iter().map(String::as_str).collect::<Vec<_>>());
        crowded.entry(&pattern("**"), || "**".into());
        assert_eq!(matching(&mut crowded, "t/1/x"), ["**", "t/1/*"]);
        assert_eq!(steps(&mut crowded, "t/1/x"), alone);
        // The root and `**`, `t` and `**`, `1` and `**`.
        assert_eq!(alone, 6);
    }

    #[test]
    fn patterns_made_to_confuse_cost_segments_times_nodes_and_no_more() {
        let deep = "**/a/".repeat(40) + "b";
        let mut index = index(&[&deep]);
        let long = "a/".repeat(126) + "a";
        let nodes = index.nodes.len() as u64;
        let steps = steps(&mut index, &long);
        assert!(steps <= 127 * nodes, "{steps} steps of {nodes} nodes");
        assert!(matching(&mut index, &long).is_empty());
        assert_eq!(matching(&mut index, &("a/".repeat(126) + "b")), [deep]);
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let texts = ["**", "a/*", "a/**", "*/b", "**/b/**", "a/b/*", "a/b/c"];
        let mut index = index(&texts);
        for text in texts {
            let id = index.find(&pattern(text)).expect("it is there");
            assert_eq!(index.remove(id).as_deref(), Some(text));
            assert_eq!(index.remove(id), None);
            assert_eq!(index.find(&pattern(text)), None);
        }
        assert!(index.is_empty());
        assert_eq!((index.nodes.len(), index.edges.len()), (1, 0));
        assert_eq!((index.segments.len(), index.numbers.len()), (0, 0));
    }

    fn some_pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![2 => Just("a"), 2 => Just("b"), 2 => Just("*"), 3 => Just("**")];
        prop::collection::vec(segment, 1..7).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #[test]
        fn it_agrees_with_each_pattern_alone(
            steps in prop::collection::vec((some_pattern(), any::<bool>()), 1..40),
            names in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..8), 1..8),
        ) {
            let mut index: PatternIndex<BTreeSet<String>> = PatternIndex::default();
            let mut there = BTreeSet::new();
            for (text, leaves) in steps {
                let (id, texts) = index.entry(&pattern(&text), BTreeSet::new);
                texts.insert(text.clone());
                there.insert(text);
                if leaves {
                    for gone in index.remove(id).expect("just put there") {
                        there.remove(&gone);
                    }
                }
                for name in &names {
                    let name = super::tests::name(&name.join("/"));
                    let mut ids = Vec::new();
                    index.each_match(&name, |id, _| ids.push(id));
                    let found: Vec<_> =
                        ids.iter().filter_map(|id| index.get(*id)).flatten().cloned().collect();
                    let expected: BTreeSet<_> =
                        there.iter().filter(|text| pattern(text).matches(&name)).cloned().collect();
                    prop_assert_eq!(found.len(), expected.len(), "each once");
                    prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
                }
            }
        }
    }
}
