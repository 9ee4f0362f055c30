//! The loop that serves a shard's connections, a bounded pass at a time.

use std::{cell::RefCell, future::poll_fn, rc::Rc, sync::Arc, task::Poll, thread, time::Duration};

use tokio::{
    runtime::Handle,
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};

use super::{
    engine::Engine,
    fan_out_budget::FanOutBudget,
    gather_time::{GatherTime, IDLE},
    local_shard::LocalShard,
};
use crate::actors::inbox::Inbox;

/// Runs until it is dropped, or polling the sockets fails.
pub(super) async fn serve_connections(
    local: LocalShard,
    inbox: Arc<Inbox>,
    engine: Rc<RefCell<Engine>>,
) {
    let wakes = engine.borrow().ready_list();
    let pass_times = engine.borrow().pass_times();
    // Sockets that the poller has reported, and how many of them are served.
    let (mut ready, mut served) = (Vec::new(), 0);
    let mut next_tick = Instant::now();
    let mut check_sockets = true;
    let mut budget = FanOutBudget::new(next_tick);
    let mut gather_time = GatherTime::new(local.context.gather_max_ms, next_tick);
    // This thread has a runtime of its own, with one worker.
    let runtime = Handle::current().metrics();
    let tick = Duration::from_millis(local.context.limits.deadline_check_ms.into());
    loop {
        check_sockets |=
            poll_fn(|context| Poll::Ready(local.sockets.borrow().are_ready(context))).await;
        let began = Instant::now();
        let more = {
            let mut engine = engine.borrow_mut();
            let now_ms = local.context.clock.now_ms();
            let busy = || runtime.worker_total_busy_duration(0);
            if let Some(gather_ms) = gather_time.end_period(began, busy) {
                engine.set_gather_ms(gather_ms);
            }
            if let Some(through) = inbox.caught_up_to() {
                engine.note_log_head(through);
            }
            // Deadlines are checked however much there is to send.
            if began >= next_tick && !engine.tick(now_ms) {
                next_tick = Instant::now() + tick;
            }
            if engine.wants_batches() {
                for batch in std::iter::from_fn(|| inbox.pop()).take(BATCHES_PER_PASS) {
                    engine.push_batch(batch, now_ms);
                }
            }
            let serving = Instant::now();
            // Sockets that the last pass had no time for come first.
            if check_sockets && served == ready.len() {
                ready.clear();
                served = 0;
                match local.sockets.borrow_mut().ready(&mut ready) {
                    Ok(full) => check_sockets = full,
                    Err(error) => {
                        return tracing::error!(%error, "a shard cannot watch its sockets");
                    }
                }
            }
            let is_past = |limit: Duration| move || serving.elapsed() >= limit;
            served += engine.serve_sockets(&ready[served..], now_ms, is_past(SERVING_MAX / 2));
            engine.serve_ready_within(SLOTS_PER_PASS, now_ms, is_past(SERVING_MAX));
            // Replaying connections send much at a time, so live events get as much time.
            let sending = Instant::now();
            budget.record_serving(sending - serving, sending);
            while engine.work(now_ms) && !budget.rounds_are_done(Instant::now()) {}
            // Whether any work is left, checked at the end of the pass. Notifications cannot answer
            // that: they only signal new work, one may stand for many batches, and the engine takes
            // no batch before it has handed out the ones it has.
            check_sockets || served < ready.len() || engine.has_more() || !inbox.is_empty()
        };
        local.return_sockets(&engine);
        pass_times.observe_time(began.elapsed());
        if more {
            // Yields the core to waiting threads of this and other processes, which would otherwise
            // get it at the next scheduler tick, some milliseconds later.
            thread::yield_now();
            let now = Instant::now();
            if budget.is_exhausted(now) {
                // Let accepts, requests and registrations run.
                yield_now().await;
                budget.record_other_work(now, Instant::now());
            }
            continue;
        }
        budget.reset();
        let gathers_until_ms = engine.borrow().gathers_until_ms();
        let gathered = gathers_until_ms.map(|until_ms| {
            let wait_ms = until_ms.saturating_sub(local.context.clock.now_ms());
            Duration::from_millis(wait_ms).min(IDLE)
        });
        tokio::select! {
            () = inbox.filled() => {}
            () = wakes.ready() => {}
            () = poll_fn(|context| match local.sockets.borrow().are_ready(context) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }) => check_sockets = true,
            () = sleep(gathered.unwrap_or_default()), if gathered.is_some() => {
                if gathered == Some(IDLE) {
                    engine.borrow_mut().end_gathering();
                }
            }
            () = sleep_until(next_tick) => {}
        }
    }
}

/// Batches taken from the ring in one pass.
const BATCHES_PER_PASS: usize = 64;
/// Connections from the ready list that are served in one pass.
const SLOTS_PER_PASS: usize = 256;
/// How long connections are served in one pass; at most half of it serves those that the poller has
/// reported. Live events then get as much time, and the next pass serves the rest.
const SERVING_MAX: Duration = Duration::from_millis(2);
