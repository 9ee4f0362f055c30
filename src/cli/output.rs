//! What commands write to stdout.

use std::io::{self, Write};

use super::CliError;

/// Writes all of it. A reader that has closed the pipe has seen enough, which is success.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CliError::failed),
    }
}
