//! Versions of the hub: the one under test, and others that `tests/faults/versions` builds.

use std::path::PathBuf;

use visnyk_loadtest::HubCommand;

/// A version of the hub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one under test.
    #[default]
    Present,
    /// One of the repository's history, with the same format of entries.
    Earlier,
    /// One that reads format 2, too, and writes this one.
    Later { writes: u8 },
}

impl Version {
    /// Its program, if it is there.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let present = || env!("CARGO_BIN_EXE_visnyk").into();
        match self {
            Self::Present => {
                Some(std::env::var_os("VISNYK_BIN").map_or_else(present, PathBuf::from))
            }
            Self::Earlier => std::env::var_os("VISNYK_FAULTS_EARLIER").map(PathBuf::from),
            Self::Later { .. } => std::env::var_os("VISNYK_FAULTS_LATER").map(PathBuf::from),
        }
    }

    /// A command that starts this one.
    pub(crate) fn of(self, command: HubCommand) -> HubCommand {
        let command = command.program(self.program().expect("it is built"));
        match self {
            Self::Later { writes } => command.env("WRITES_FORMAT", writes.to_string()),
            _ => command,
        }
    }
}
