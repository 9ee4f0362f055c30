//! The native API, version 1.

pub(super) mod channels;
pub(super) mod connections;
pub(super) mod envelope;
pub(super) mod poll;
pub(super) mod publish;
pub(super) mod reload;
pub(super) mod renew;
pub(super) mod samples;
pub(super) mod status;
pub(super) mod stream;
