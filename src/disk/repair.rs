//! Makes a log usable that cannot be opened: a copy, or a damaged log.

use super::{
    directory::{Directory, DirectoryFile},
    error::OpenError,
    keeper::{LOSSES, STARTED_AT},
    meta::{META, Meta},
    recovery::{LogContents, Recovery},
    removed::RemovedEvents,
    segment::{self, SegmentHeader},
    small_file,
    transient::TRANSIENT,
    writer::CLEAN_END,
};
use crate::model::{Epoch, Seq};

/// The damage of a log, and what is left of it.
#[derive(Debug)]
pub struct Damage {
    /// The errors, in the order of the log.
    pub found: Vec<OpenError>,
    /// The seq of the last event before the first damage.
    pub last_event: Seq,
    /// Where the log is cut: the first damaged segment, and the length of its intact part.
    cut: Option<(Seq, u64)>,
    contents: LogContents,
}

impl Damage {
    /// What was read of the log.
    pub fn contents(&self) -> &LogContents {
        &self.contents
    }
}

impl<D: Directory> Recovery<D> {
    /// Examines what can be read of a log in a directory, even if it is a copy or damaged.
    ///
    /// # Errors
    /// A directory that is not a log, or one of another format.
    pub fn examine(directory: D) -> Result<(Self, Vec<OpenError>), OpenError> {
        let mut found = Vec::new();
        let bases = segment::bases(&directory)?;
        let meta = match Meta::read(&directory) {
            Ok(None) if bases.is_empty() => {
                return Err(OpenError::Foreign { file: META.to_owned() });
            }
            Ok(None) => {
                found.push(OpenError::damaged_file(META));
                None
            }
            Ok(meta) => meta,
            Err(error @ OpenError::Format { .. }) => return Err(error),
            Err(error) => {
                found.push(error);
                None
            }
        };
        let removed = match Self::read_removed(&directory) {
            Ok(removed) => removed,
            Err(error) => {
                found.push(error);
                RemovedEvents::unknown_before(segment::first_header(&directory, &bases)?)
            }
        };
        let epoch = meta.map_or(Epoch::from_u64(0), |meta| meta.epoch);
        let recovery = Self::with(directory, epoch, removed, bases);
        found.extend(recovery.transient().err());
        Ok((recovery, found))
    }

    /// Reads the whole log, also after damage.
    pub fn verify(&self, mut found: Vec<OpenError>) -> Damage {
        let mut contents = self.empty_contents();
        let mut cut = None;
        let mut last_event = None;
        for (index, base) in self.bases().iter().enumerate() {
            let is_last = index + 1 == self.bases().len();
            if let Err(error) = self.read_segment(*base, is_last, &mut contents) {
                let offset = match &error {
                    OpenError::Damaged { offset, .. } => *offset,
                    _ => 0,
                };
                cut.get_or_insert((*base, offset));
                last_event.get_or_insert(contents.last_event);
                found.push(error);
                contents.continue_with(segment::first_header(
                    self.directory(),
                    self.bases().get(index + 1..).unwrap_or_default(),
                ));
            }
        }
        if cut.is_none()
            && let Err(error) = self.check_end(&mut contents)
        {
            found.push(error);
        }
        let last_event = last_event.unwrap_or(contents.last_event);
        Damage { found, last_event, cut, contents }
    }

    /// Cuts the log off before its first damage, and begins a new epoch: clients get a gap, where
    /// positions of the old epoch would mean other events.
    pub fn repair(self, damage: &Damage, identity: u64, new_epoch: Epoch) -> Result<(), OpenError> {
        let directory = self.directory();
        // Written first, so that no position of the old epoch is valid for the shortened log.
        Meta::new(new_epoch, identity).write(directory)?;
        remove_if_there(directory, CLEAN_END)?;
        remove_if_there(directory, STARTED_AT)?;
        if self.transient().is_err() {
            // Nothing is lost by the removal: every position of the old epoch continues with a gap.
            remove_if_there(directory, TRANSIENT)?;
        }
        if small_file::read(directory, LOSSES).is_err() {
            small_file::write(directory, LOSSES, &self.removed().encode())
                .map_err(OpenError::io(LOSSES))?;
        }
        if let Some((base, offset)) = damage.cut {
            // From the end, so that the directory is a log at any moment.
            for behind in self.bases().iter().rev().take_while(|behind| **behind > base) {
                remove_if_there(directory, &segment::file_name(*behind))?;
            }
            let name = segment::file_name(base);
            if offset <= SegmentHeader::BYTES as u64 {
                remove_if_there(directory, &name)?;
            } else {
                let file = directory.open(&name).map_err(OpenError::io(&name))?;
                file.set_len(offset).and_then(|()| file.sync()).map_err(OpenError::io(&name))?;
            }
        }
        directory.sync().map_err(OpenError::io("."))
    }

    /// Makes a copy a log of its own, in a new epoch: the original may have continued.
    pub fn import(self, identity: u64, new_epoch: Epoch) -> Result<(), OpenError> {
        Meta::new(new_epoch, identity).write(self.directory())
    }
}

fn remove_if_there(directory: &impl Directory, name: &str) -> Result<(), OpenError> {
    match directory.remove(name) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(OpenError::io(name)),
    }
}
