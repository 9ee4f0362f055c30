//! A part of a traced publish that has begun. Dropped before its end, as the future of a request is
//! that its client resets, it is recorded as cancelled.

use std::time::Instant;

use super::{
    publish_trace::{CANCELLED, PublishTrace, Stage, Step},
    span::Value,
};

/// A part that has begun.
#[derive(Debug)]
pub struct OpenSpan<'a> {
    trace: &'a PublishTrace,
    part: Part,
    began: Instant,
    attributes: Vec<(&'static str, Value)>,
    /// Recorded, so there is nothing left to do when it is dropped.
    has_ended: bool,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Stage(Stage),
    Step(Step),
}

impl<'a> OpenSpan<'a> {
    /// A stage that begins now, with what is known of it.
    pub fn stage(
        trace: &'a PublishTrace,
        stage: Stage,
        attributes: Vec<(&'static str, Value)>,
    ) -> Self {
        Self::begin(trace, Part::Stage(stage), attributes)
    }

    /// A step that begins now.
    pub fn step(trace: &'a PublishTrace, step: Step) -> Self {
        Self::begin(trace, Part::Step(step), Vec::new())
    }

    /// Records that it ends now, with what else is known of it; `error` says why it failed, in a
    /// word.
    pub fn end(
        mut self,
        attributes: impl IntoIterator<Item = (&'static str, Value)>,
        error: Option<&'static str>,
    ) {
        self.attributes.extend(attributes);
        self.record(error);
    }

    fn begin(trace: &'a PublishTrace, part: Part, attributes: Vec<(&'static str, Value)>) -> Self {
        Self { trace, part, began: Instant::now(), attributes, has_ended: false }
    }

    fn record(&mut self, error: Option<&'static str>) {
        self.has_ended = true;
        let attributes = std::mem::take(&mut self.attributes);
        match self.part {
            Part::Stage(stage) => self.trace.stage_ended(stage, self.began, attributes, error),
            Part::Step(step) => {
                self.trace.step(step, (self.began, Instant::now()), attributes, error);
            }
        }
    }
}

impl Drop for OpenSpan<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.record(Some(CANCELLED));
        }
    }
}
