//! A stream in a framing of its own: the engine writes nothing that the framing does not give it.

use std::io::Write as _;

use super::{
    pipe::Pipe,
    world::{Ask, join, join_and_stop, poll, skipping, world, world_with},
};
use crate::{
    actors::subscriber::Form,
    core::CloseReason,
    model::{ChannelName, Closing, Event, Framing, Gap, Position, Preamble, Start},
};

struct Tags;

impl Framing for Tags {
    fn name(&self) -> &'static str {
        "tags"
    }

    fn preamble(&self, preamble: &Preamble<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(if preamble.gap.is_some() { b"<gap first>" } else { b"<first>" });
    }

    fn event(&self, event: &Event, out: &mut Vec<u8>) {
        let _ = write!(out, "<{}>", event.data());
    }

    fn heartbeat(&self, position: Option<Position>, out: &mut Vec<u8>) {
        out.extend_from_slice(if position.is_some() { b"<position>" } else { b"<heartbeat>" });
    }

    fn gap(&self, _: &Gap, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<gap>");
    }

    fn channel_closed(&self, channel: &ChannelName, out: &mut Vec<u8>) {
        let _ = write!(out, "<closed {}>", channel.as_str());
    }

    fn closing(&self, closing: &Closing, out: &mut Vec<u8>) {
        let _ = write!(out, "<last {:?}>", closing.token);
    }
}

fn tagged(selectors: &[&'static str]) -> Ask {
    Ask { form: Form::Framed(&Tags), ..Ask::stream(selectors) }
}

#[test]
fn a_stream_is_written_by_its_framing_alone() {
    let mut world = world_with(|limits| limits.connections.heartbeat_s = 1);
    world.say("a", "1");
    let live = join(&mut world, &tagged(&["a", "b"]));
    let behind = join(&mut world, &tagged(&["a"]).from(Start::Earliest));
    let lost = join(&mut world, &tagged(&["b"]).from(Start::Unknown("x".into())));
    world.say("a", "2");
    world.say("b", "3");
    world.settle();
    world.tick(1_100);
    world.close("a");
    world.settle();
    world.drain(0);
    world.tick(100);
    assert_eq!(live.text(), "<first><2><3><heartbeat><a><last None>");
    assert_eq!(behind.text(), "<first><1><2><heartbeat><a>", "its only channel is closed");
    assert!(lost.text().starts_with("<gap first>"), "{}", lost.text());
}

#[test]
fn a_stream_that_skips_gets_gaps_and_closed_channels_in_its_framing() {
    let mut world = world_with(|limits| limits.connections.lag_events_max = 2);
    let ask = skipping(tagged(&["a", "b"]));
    let pipe = join_and_stop(&mut world, &ask);
    for n in 0..10 {
        world.say("b", &n.to_string());
        world.settle();
    }
    world.close("a");
    for n in 10..20 {
        world.say("b", &n.to_string());
        world.settle();
    }
    pipe.grant(1_000);
    world.settle();
    let text = pipe.text();
    assert!(text.starts_with("<first>") && text.contains("<gap><closed a>"), "{text}");
    assert!(!text.contains("visnyk"), "{text}");
}

#[test]
fn a_poll_that_is_ended_gets_nothing_of_a_stream() {
    for reason in [CloseReason::TokenOutgrown, CloseReason::Drained] {
        let mut world = world();
        let pipe = Pipe::open();
        let (_, key) = world.attach(0, &poll(&["a"], Start::Now), &pipe);
        world.engines[0].close(key, reason);
        assert!(pipe.is_ended());
        assert_eq!(pipe.text(), "", "{reason:?}");
    }
}
