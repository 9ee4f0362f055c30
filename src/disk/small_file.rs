//! Small files that are written whole: a new one replaces the old one, or nothing changes.

use std::io;

use bytes::{Buf, BufMut};

use super::{
    batch::checksum,
    directory::{Directory, DirectoryFile, of_sync},
    error::OpenError,
    segment::FILE_SEED,
};

/// Replaces the file `name`.
pub(super) fn write(directory: &impl Directory, name: &str, body: &[u8]) -> io::Result<()> {
    let bytes = encode(body);
    let new = format!("{name}{NEW}");
    let written = directory.create(&new, bytes.len() as u64).and_then(|file| {
        file.write_all_at(&bytes, 0)?;
        file.sync().map_err(of_sync)
    });
    if let Err(error) = written {
        // The bytes that were allocated are needed elsewhere.
        let _ = directory.remove(&new);
        return Err(error);
    }
    directory.rename(&new, name)?;
    directory.sync().map_err(of_sync)
}

/// As [`write`](fn@write), for a file that can be made again: after a crash it may be missing or
/// damaged.
pub(super) fn write_derived(directory: &impl Directory, name: &str, body: &[u8]) -> io::Result<()> {
    let new = format!("{name}{NEW}");
    let file = directory.create(&new, 0)?;
    file.write_all_at(&encode(body), 0)?;
    directory.rename(&new, name)
}

fn encode(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.put_u32_le(MAGIC);
    bytes.put_u32_le(checksum(FILE_SEED, body));
    bytes.put_u64_le(body.len() as u64);
    bytes.put_slice(body);
    bytes
}

/// Reads a file that [`write`](fn@write) has written. `None` if it does not exist.
///
/// # Errors
/// A file that cannot be read, or ([`io::ErrorKind::InvalidData`]) that is damaged.
pub(super) fn read(directory: &impl Directory, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match directory.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len as usize];
    let read = file.read_full_at(&mut bytes, 0)?;
    let mut head = &bytes[..read.min(HEAD_BYTES)];
    let body = bytes.get(HEAD_BYTES..read).unwrap_or_default();
    let is_whole = head.len() == HEAD_BYTES
        && head.get_u32_le() == MAGIC
        && head.get_u32_le() == checksum(FILE_SEED, body)
        && head.get_u64_le() == body.len() as u64;
    if is_whole { Ok(Some(body.to_vec())) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// As [`read`], with an error that names the file.
pub(super) fn load(directory: &impl Directory, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
    read(directory, name).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => OpenError::damaged_file(name),
        _ => OpenError::Io { file: name.into(), error },
    })
}

const MAGIC: u32 = u32::from_le_bytes(*b"VFIL");
/// The suffix of a file's name while the file is being written.
pub(super) const NEW: &str = ".new";
const HEAD_BYTES: usize = 16;
/// Far more than the limits on the content of one allow.
const BYTES_MAX: u64 = 1 << 30;
