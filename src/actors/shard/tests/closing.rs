//! Channels that are closed: their last event, and the end of their streams.

use super::{
    pipe::Pipe,
    world::{Ask, join, join_after, join_and_stop, reasons, skipping, world, world_with},
};
use crate::{
    actors::subscriber::Form,
    core::CloseReason,
    model::{EnvelopeEncoding, Start},
};

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
