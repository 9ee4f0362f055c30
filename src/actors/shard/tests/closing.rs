//! Channels that are closed: their last event, and the end of their streams.

use super::{
    pipe::Pipe,
    world::{
        Ask, World, join, join_after, join_and_stop, poll, read_answer, reasons, skipping, world,
        world_with,
    },
};
use crate::{
    actors::{
        messages::{EndProgress, EndQuery},
        subscriber::Form,
    },
    core::CloseReason,
    model::{EnvelopeEncoding, Start},
};

/// Ends a connection as an administrator does, looking on until it is found or all are looked at.
fn end(world: &mut World, id: u64) -> EndProgress {
    let mut query = EndQuery { id, from: 0 };
    loop {
        match world.engines[0].end(&query, world.now_ms) {
            EndProgress::GoOn(from) => {
                assert!(from > query.from && from - query.from <= 4, "a bounded look");
                query.from = from;
            }
            progress => return progress,
        }
    }
}

#[test]
fn an_administrator_ends_the_one_connection_in_bounded_looks() {
    let mut world = world();
    let pipes: Vec<_> = (0..11)
        .map(|_| {
            let pipe = Pipe::open();
            (world.attach(0, &Ask::stream(&["a"]), &pipe).0, pipe)
        })
        .collect();
    assert_eq!(end(&mut world, pipes[9].0), EndProgress::Ended);
    assert_eq!(reasons(&mut world), [CloseReason::EndedByAdmin]);
    let ended = pipes.iter().filter(|(_, pipe)| pipe.is_ended()).map(|(id, _)| *id);
    assert_eq!(ended.collect::<Vec<_>>(), [pipes[9].0]);
    assert_eq!(end(&mut world, pipes[9].0), EndProgress::NotHere);
    world.say("a", "1");
    world.settle();
    assert!(pipes.iter().all(|(id, pipe)| *id == pipes[9].0 || pipe.events() == ["1"]));
}

#[test]
fn a_waiting_poll_is_answered_with_its_end_and_one_that_is_behind_is_closed() {
    let mut world = world();
    world.say("a", "1");
    world.settle();
    let pipe = Pipe::open();
    let at = world.at(1);
    let (id, _) = world.attach(0, &poll(&["a"], at), &pipe);
    assert_eq!(end(&mut world, id), EndProgress::Ended);
    let (position, events) = read_answer(&pipe);
    assert!(position.ends_with("-1") && events.is_empty(), "{position} {events:?}");
    assert_eq!(reasons(&mut world), [CloseReason::EndedByAdmin]);

    // Its client does not read its answer.
    let pipe = Pipe::new(0, usize::MAX);
    let (id, _) = world.attach(0, &poll(&["a"], Start::Earliest), &pipe);
    world.settle();
    assert_eq!(world.engines[0].len(), 1);
    assert_eq!(end(&mut world, id), EndProgress::Ended);
    assert!(pipe.is_ended() && world.engines[0].is_empty());
    assert_eq!(reasons(&mut world), [CloseReason::EndedByAdmin]);
}

#[test]
fn a_channel_closed_in_mid_replay_ends_the_stream_after_its_last_event() {
    let mut world = world();
    for n in 0..40 {
        world.say("a", &n.to_string());
    }
    let pipe = Pipe::new(100, usize::MAX);
    world.attach(0, &Ask::stream(&["a"]).from(Start::Earliest), &pipe);
    world.close("a");
    world.settle();
    assert!(!pipe.is_ended());
    pipe.grant(usize::MAX);
    world.settle();
    assert_eq!(pipe.events().len(), 41);
    assert_eq!(pipe.events().last().map(String::as_str), Some("closed:a"));
    assert_eq!(reasons(&mut world), [CloseReason::ChannelClosed]);
}

#[test]
fn a_stream_ends_with_its_last_named_channel_and_never_with_a_pattern() {
    let mut world = world();
    let named = join(&mut world, &Ask::stream(&["a", "b"]));
    let pattern = join(&mut world, &Ask::stream(&["a", "b/**"]));
    world.close("a");
    world.settle();
    world.say("b", "1");
    world.close("b");
    world.settle();
    assert_eq!(named.events(), ["closed:a", "1", "closed:b"]);
    assert!(named.is_ended());
    assert_eq!(pattern.events(), ["closed:a", "1", "closed:b"]);
    assert!(!pattern.is_ended());
}

/// Its stream keeps the entry of a closed channel alive, so it is the same one that is opened
/// again.
#[test]
fn a_channel_that_is_closed_twice_counts_once() {
    let mut world = world();
    let (mut both, mut late) = (Vec::new(), Vec::new());
    let reopen = |world: &mut World| {
        let entry = world.entry("a");
        world.backend.reopen(&entry);
    };
    both.push(join(&mut world, &Ask::stream(&["a", "b"])));
    world.close("a");
    world.settle();
    late.push(join(&mut world, &Ask::stream(&["a", "b"])));
    reopen(&mut world);
    world.say("a", "1");
    world.close("a");
    world.settle();
    world.say("b", "2");
    world.settle();
    assert_eq!(both[0].events(), ["closed:a", "1", "closed:a", "2"]);
    assert_eq!(late[0].events(), ["1", "closed:a", "2"]);
    // The other way round: it is open when the last other one is closed.
    reopen(&mut world);
    world.close("b");
    world.settle();
    world.say("a", "3");
    world.settle();
    for pipe in both.iter().chain(&late) {
        assert!(!pipe.is_ended());
        assert_eq!(pipe.events().last().map(String::as_str), Some("3"));
    }
    world.close("a");
    world.settle();
    assert!(both.iter().chain(&late).all(|pipe| pipe.is_ended()));
    assert_eq!(reasons(&mut world), [CloseReason::ChannelClosed; 2]);
}

#[test]
fn a_closing_event_passes_every_filter_and_form() {
    let mut world = world();
    let ask =
        Ask { types: vec!["t"], form: Form::Framed(&EnvelopeEncoding), ..Ask::stream(&["a"]) };
    let pipe = join(&mut world, &ask);
    world.say("a", "1");
    world.close("a");
    world.settle();
    assert_eq!(pipe.events(), ["closed:a"]);
    assert!(pipe.is_ended());
}

#[test]
fn a_stream_whose_channels_were_closed_on_its_way_ends_at_once() {
    let mut world = world();
    world.say("a", "1");
    world.close("a");
    world.settle();
    let pipe = join(&mut world, &Ask::stream(&["a"]));
    assert_eq!(reasons(&mut world), [CloseReason::ChannelClosed]);
    assert!(pipe.text().starts_with(": visnyk\n"));
    let pattern = join(&mut world, &Ask::stream(&["a", "**"]));
    assert!(!pattern.is_ended());
}

#[test]
fn a_closing_event_that_is_gone_is_not_waited_for() {
    let mut world = world();
    world.say("b", "1");
    world.close("a");
    world.settle();
    world.backend.evict_all(&world.entry("a"));
    // Its cursor is before the closing event, since the other channel has older ones.
    let pipe = join_after(&mut world, &["a", "b"], 0);
    assert_eq!(pipe.events(), ["gap:evicted", "1"]);
    world.close("b");
    world.settle();
    assert_eq!(pipe.events().len(), 3);
    assert!(pipe.is_ended());
}

#[test]
fn a_closing_event_is_not_lost_with_what_is_skipped() {
    let mut world = world_with(|limits| limits.connections.lag_events_max = 2);
    let one = join_and_stop(&mut world, &skipping(Ask::stream(&["a"])));
    let two = join_and_stop(&mut world, &skipping(Ask::stream(&["a", "b"])));
    for n in 0..4 {
        world.say("a", &n.to_string());
        world.settle();
    }
    world.close("a");
    world.settle();
    one.grant(usize::MAX);
    two.grant(usize::MAX);
    world.settle();
    assert_eq!(one.events(), ["gap:slow", "closed:a"]);
    assert_eq!(two.events(), ["gap:slow", "closed:a"]);
    assert_eq!(one.last_id(), world.backend.position(world.backend.head()).to_string());
    assert!(one.is_ended() && !two.is_ended());
    world.close("b");
    world.settle();
    assert!(two.is_ended());
}
