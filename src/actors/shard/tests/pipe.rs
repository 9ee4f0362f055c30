//! A peer in memory: it takes as many bytes as it is granted, and keeps them.

use std::{
    cell::{Ref, RefCell},
    io,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;

use crate::actors::peer::{Input, Peer, SlotWaker};

/// The client's end.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe(Rc<RefCell<State>>);

/// The hub's end.
#[derive(Debug)]
struct HubEnd(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    taken: Vec<u8>,
    writes: usize,
    room: usize,
    /// The most that one write takes.
    write_max: usize,
    writer: Option<Arc<SlotWaker>>,
    reader: Option<Arc<SlotWaker>>,
    client_gone: bool,
    hub_gone: bool,
}

impl Pipe {
    /// A pipe with room for `room` bytes, of which one write takes at most `write_max`.
    pub(super) fn new(room: usize, write_max: usize) -> Self {
        Self(Rc::new(RefCell::new(State { room, write_max, ..State::default() })))
    }

    /// A pipe that takes everything.
    pub(super) fn open() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }

    /// The end for the hub.
    pub(super) fn hub_end(&self) -> Box<dyn Peer> {
        Box::new(HubEnd(Rc::clone(&self.0)))
    }

    /// What has been taken so far.
    pub(super) fn taken(&self) -> Ref<'_, [u8]> {
        Ref::map(self.0.borrow(), |state| &state.taken[..])
    }

    /// The events that have been taken whole: their data, and the hub's own as `closed:name` and
    /// `gap:reason`.
    pub(super) fn events(&self) -> Vec<String> {
        let text = self.text();
        let end = text.rfind("\n\n").map_or(0, |end| end + 1);
        let events = text[..end].split("\n\n").filter_map(|block| {
            let field = |name| block.lines().find_map(|line: &str| line.strip_prefix(name));
            let data = field("data: ")?;
            Some(match field("event: ") {
                Some("visnyk.closed") => format!("closed:{data}"),
                Some("visnyk.gap") => {
                    let gap: serde_json::Value = serde_json::from_str(data).unwrap();
                    format!("gap:{}", gap["reason"].as_str().unwrap())
                }
                _ => data.to_owned(),
            })
        });
        events.collect()
    }

    /// The last position it has received.
    pub(super) fn last_id(&self) -> String {
        let text = self.text();
        let end = text.rfind("\n\n").map_or(0, |end| end + 1);
        let id = text[..end].lines().rev().find_map(|line| line.strip_prefix("id: "));
        id.unwrap_or_default().to_owned()
    }

    /// How many writes have taken bytes.
    pub(super) fn writes(&self) -> usize {
        self.0.borrow().writes
    }

    /// What has been taken so far, as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.taken()).into_owned()
    }

    /// Makes room for more.
    pub(super) fn grant(&self, bytes: usize) {
        let mut state = self.0.borrow_mut();
        state.room = state.room.saturating_add(bytes);
        if let Some(waker) = state.writer.take() {
            waker.wake_slot();
        }
    }

    /// Takes no more until more is granted.
    pub(super) fn stop(&self) {
        self.0.borrow_mut().room = 0;
    }

    /// The client goes away.
    pub(super) fn hang_up(&self) {
        let mut state = self.0.borrow_mut();
        state.client_gone = true;
        let (reader, writer) = (state.reader.take(), state.writer.take());
        for waker in reader.into_iter().chain(writer) {
            waker.wake_slot();
        }
    }

    /// Whether the hub waits for room.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.borrow().writer.is_some()
    }

    /// Whether there is room for a few hundred bytes.
    pub(super) fn is_roomy(&self) -> bool {
        self.0.borrow().room > 1_000
    }

    /// Whether the hub has ended the connection.
    pub(super) fn is_ended(&self) -> bool {
        self.0.borrow().hub_gone
    }
}

impl Peer for HubEnd {
    fn try_write(&mut self, bytes: &Bytes, waker: &Arc<SlotWaker>) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        if state.client_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(state.room).min(state.write_max);
        if count == 0 {
            state.writer = Some(Arc::clone(waker));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.room -= count;
        state.writes += 1;
        state.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn poll_input(&mut self, waker: &Arc<SlotWaker>) -> Input {
        let mut state = self.0.borrow_mut();
        if state.client_gone {
            return Input::Closed;
        }
        state.reader = Some(Arc::clone(waker));
        Input::Quiet
    }
}

impl Drop for HubEnd {
    fn drop(&mut self) {
        self.0.borrow_mut().hub_gone = true;
    }
}
