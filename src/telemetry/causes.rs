//! The causes of an error, and an error with its causes on one line.

use std::{error::Error, iter};

/// The causes of an error: its source, the source of that, and so on.
pub fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    iter::successors(error.source(), |&cause| cause.source())
}

/// An error and its causes on one line, each after a colon.
pub fn with_causes(error: &dyn Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
