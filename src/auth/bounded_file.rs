//! Reads files of secrets, keys, certificates and settings. A file that is longer than its kind can
//! be was named by mistake.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The content of a file.
///
/// # Errors
/// A file that cannot be read, or ([`io::ErrorKind::FileTooLarge`]) one of more than `bytes_max`
/// bytes.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("it is longer than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "12345").expect("written");
        assert_eq!(read(file.path(), 6).expect("below the bound"), b"12345");
        assert_eq!(read(file.path(), 5).expect("at the bound"), b"12345");
        let refused = read(file.path(), 4).expect_err("above the bound");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        let missing = read(&file.path().with_extension("gone"), 6).expect_err("no file");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
