//! What makes a directory a log: its format, its epoch, and its identity.

use bytes::{Buf, BufMut};

use super::{directory::Directory, error::OpenError, segment::FORMAT, small_file};
use crate::model::Epoch;

/// The file that makes a directory a log.
#[derive(Debug)]
pub(super) struct Meta {
    format: u32,
    pub(super) epoch: Epoch,
    /// Distinguishes the directory from a copy of it.
    pub(super) identity: u64,
}

impl Meta {
    pub(super) fn new(epoch: Epoch, identity: u64) -> Self {
        Self { format: FORMAT, epoch, identity }
    }

    /// Reads the file of a directory; `None` if it does not exist.
    pub(super) fn read(directory: &impl Directory) -> Result<Option<Self>, OpenError> {
        let Some(bytes) = small_file::load(directory, META)? else { return Ok(None) };
        let meta = Self::decode(&bytes).ok_or_else(|| OpenError::damaged_file(META))?;
        if meta.format != FORMAT {
            return Err(OpenError::Format { found: meta.format, known: FORMAT });
        }
        Ok(Some(meta))
    }

    pub(super) fn write(&self, directory: &impl Directory) -> Result<(), OpenError> {
        small_file::write(directory, META, &self.encode()).map_err(OpenError::io(META))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32_le(self.format);
        out.put_u64_le(self.epoch.to_u64());
        out.put_u64_le(self.identity);
        out
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        Some(Self {
            format: bytes.try_get_u32_le().ok()?,
            epoch: Epoch::from_u64(bytes.try_get_u64_le().ok()?),
            identity: bytes.try_get_u64_le().ok()?,
        })
    }
}

/// The file because of which a directory is neither a log nor can become one. An
/// interrupted start may have left files; they do not count.
pub(super) fn foreign_file(names: Vec<String>) -> Option<String> {
    let may_be_in_new_log =
        |name: &str| name == LOCK || name.strip_suffix(small_file::NEW) == Some(META);
    let is_log = names.iter().any(|name| name == META);
    names.into_iter().find(|name| !is_log && !may_be_in_new_log(name))
}

pub(super) const META: &str = "meta";
/// The file that is locked as long as the log is open.
pub(super) const LOCK: &str = "lock";
